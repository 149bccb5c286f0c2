/** A process of the platform with dead letters in a real Postgres and events in memory, and what its units push. */

import type { CloudEvent } from '../../domain/events/cloud-event.ts';
import { newUnitState } from '../../domain/unit/unit.ts';
import type { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { type DeadLetter, type DeadLetterOptions, DeadLetterStore } from '../../platform/unit-log/dead-letter-store.ts';
import { toFetchedPage } from '../../platform/unit-log/unit-log-client.ts';
import { UnitLogRecorder } from '../../platform/unit-log/unit-log-recorder.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { DeadLetterService } from '../../server/api/dead-letters/dead-letter-service.ts';
import { Problem } from '../../server/http/problems.ts';
import { fetchUnitLog } from '../../server/workers/fetch/fetch-unit-log.ts';
import { ingestMessage } from '../../server/workers/ingest/ingest-worker.ts';
import { unlimitedAdmission, unlimitedBudgets } from './budgets.ts';
import { EPOCH } from './given.ts';
import { appendRegistration } from './registration.ts';
import { LOCKERS } from './scene.ts';
import { silentLog } from './silent-log.ts';

export const NOW_MS = Date.parse('2026-07-01T12:00:00.000Z');
export const TIME = '2026-07-01T11:59:00.000Z';

const newId = () => crypto.randomUUID();

/** A process of the platform. */
export class LetterProcess {
  readonly store: MemoryEventStore;
  readonly letters: DeadLetterStore;
  readonly service: DeadLetterService;
  readonly decider: UnitDecider;
  readonly recorder: UnitLogRecorder;
  #messages = 0;

  /** `clockOffsets`: by how many milliseconds the clocks of units are ahead. */
  constructor(
    sql: Sql,
    store: MemoryEventStore,
    options: DeadLetterOptions = {},
    clockOffsets: ReadonlyMap<string, number> = new Map(),
  ) {
    this.store = store;
    this.letters = new DeadLetterStore(sql, options);
    const decider = new UnitDecider({
      store,
      loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
      newId,
      clock: () => NOW_MS,
      random: () => 0.5,
      sleep: async () => undefined,
      log: silentLog,
    });
    this.decider = decider;
    const offsets = { get: (unit: string) => clockOffsets.get(unit) };
    this.recorder = new UnitLogRecorder({
      decider,
      deadLetters: this.letters,
      clockOffsets: offsets,
      newEpochs: unlimitedBudgets(),
      newId,
      log: silentLog,
    });
    this.service = new DeadLetterService({
      deadLetterStore: this.letters,
      decider,
      recorder: this.recorder,
      clock: () => NOW_MS,
    });
  }

  /** What ingest does with a pushed batch. */
  push(unit: string, batch: string | Uint8Array) {
    this.#messages += 1;
    const data = typeof batch === 'string' ? new TextEncoder().encode(batch) : batch;
    const [sequence, deliveries] = [this.#messages, 1];
    return ingestMessage(
      { subject: `unit.0.0.${unit}.events`, data, sequence, deliveries, storedAtMs: NOW_MS },
      {
        recorder: this.recorder,
        unitInbox: { listPendingBatches: async () => [] },
        admission: unlimitedAdmission(),
        clock: () => NOW_MS,
      },
    );
  }

  /** Does what the fetch worker does when the unit answers every fetch with these events. */
  async fetch(unit: string, events: readonly object[], lastSeq: number): Promise<number> {
    const { registry } = await this.decider.getState(unit);
    if (registry.status === 'unregistered') await appendRegistration(this.decider, unit, { lockers: [...LOCKERS] });
    const page = { unit, epoch: EPOCH, firstAvailableSeq: 1, lastSeq, more: false, events };
    const answer = new TextEncoder().encode(JSON.stringify(page));
    return fetchUnitLog(unit, {
      decider: this.decider,
      recorder: this.recorder,
      unitLogClient: { fetchPage: async (_, after) => toFetchedPage(unit, answer, after) },
      unitInbox: { listPendingBatches: async () => [] },
      events: unlimitedBudgets(),
      clock: () => NOW_MS,
    });
  }

  retry(id: string) {
    return this.service.retry({ commandId: newId(), actor: 'ops:test', id });
  }

  /** Why a letter is not accepted. */
  async refusal(id: string): Promise<{ type: string; status: number; detail: string }> {
    try {
      await this.retry(id);
    } catch (error) {
      if (error instanceof Problem) return error.document;
      throw error;
    }
    throw new Error('it was accepted');
  }

  async events(unit: string): Promise<CloudEvent[]> {
    return (await this.store.tail(unit, 0)).flatMap((message) => [...message.events()]);
  }

  async open(unit: string): Promise<readonly DeadLetter[]> {
    return (await this.letters.list({ unit, status: 'open', limit: 100 })).items;
  }
}

export function event(seq: number, changes: object = {}): object {
  return { seq, v: 1, type: 'LockerClosed', time: TIME, locker: 'A', data: {}, ...changes };
}

export const bad = (seq: number) => event(seq, { data: 'none' });
export const batch = (unit: string, ...events: object[]) => JSON.stringify({ unit, epoch: EPOCH, events });
export const types = (events: readonly CloudEvent[]) => events.map(({ type }) => type);

/** What an upgrade does, seen from the letter: what it says is accepted from now on. */
export async function becomesAcceptable(sql: Sql, id: string, content: object | string): Promise<void> {
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  await sql`update platform.dead_letters set content = convert_to(${text}, 'UTF8') where id = ${id}`;
}

/**
 * A unit, its network and a platform of two processes, all in memory. Tests perform the faults of the unit, the network and
 * the platform step by step.
 */

import { recordedSeq } from '../../../domain/device/epochs.ts';
import type { CloudEvent } from '../../../domain/events/cloud-event.ts';
import { newUnitState, type UnitState } from '../../../domain/unit/unit.ts';
import { type BatchEvent, deviceEventId, MAX_BATCH_EVENTS } from '../../../domain/unit-protocol/batch.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../../platform/event-store/memory.ts';
import { unitPushSubject } from '../../../platform/nats/subjects.ts';
import { parseBatch } from '../../../platform/unit-log/batch.ts';
import type { RejectedEvents } from '../../../platform/unit-log/dead-letter-store.ts';
import { type LogPosition, toFetchedPage } from '../../../platform/unit-log/unit-log-client.ts';
import { UnitLogRecorder } from '../../../platform/unit-log/unit-log-recorder.ts';
import { UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import { UnitDecider } from '../../../platform/units/unit-decider.ts';
import { fetchUnitLog } from '../../../server/workers/fetch/fetch-unit-log.ts';
import { ingestMessage, type PushedMessage } from '../../../server/workers/ingest/ingest-worker.ts';
import type { UnitInbox } from '../../../server/workers/ingest/unit-inbox.ts';
import { unlimitedAdmission, unlimitedBudgets } from '../../support/budgets.ts';
import { UNIT } from '../../support/given.ts';
import { appendRegistration } from '../../support/registration.ts';
import { silentLog } from '../../support/silent-log.ts';

const START_MS = Date.parse('2026-07-01T12:00:00.000Z');
/** Longer than the grace periods of the platform. */
const HEALING_STEP_MS = 60_000;
const MAX_HEALING_STEPS = 60;

interface Entry {
  readonly seq: number;
  /** The entry as the unit stored it. */
  readonly content: Partial<BatchEvent>;
}

/** An epoch of the unit's log, with every entry that it ever had. */
interface Epoch {
  readonly id: string;
  readonly entries: Entry[];
  /** The seq of the oldest entry that the unit still has. */
  firstAvailableSeq: number;
  /** The seqs that an overflow dropped. */
  readonly dropped: Set<number>;
}

interface Process {
  decider: UnitDecider;
  recorder: UnitLogRecorder;
}

export class LogWorld {
  readonly #admission = unlimitedAdmission();
  readonly store = new MemoryEventStore(() => this.#nowMs);
  readonly epochs: Epoch[] = [];
  /** The contents of rejected events, by event id. */
  readonly deadLetters = new Map<string, unknown>();
  inbox: PushedMessage[] = [];
  reachable = true;
  #nowMs = START_MS;
  #acknowledged = 0;
  #pushed = 0;
  #ids = 0;
  readonly #processes: [Process, Process];
  readonly #inbox: UnitInbox = {
    listPendingBatches: async (unit) =>
      this.inbox
        .map(({ sequence, storedAtMs, data }) => ({ sequence, storedAtMs, batch: parseBatch(unit, data) }))
        .sort((a, b) => a.sequence - b.sequence),
  };

  constructor() {
    this.#processes = [this.#newProcess(), this.#newProcess()];
    this.wipe();
  }

  async register(): Promise<void> {
    await appendRegistration(this.#processes[0].decider, UNIT);
  }

  get present(): Epoch {
    const epoch = this.epochs.at(-1);
    if (epoch === undefined) throw new Error('the unit has no epoch');
    return epoch;
  }

  advance(ms: number): void {
    this.#nowMs += ms;
  }

  /** The unit logs events. Malformed ones are due to a bug in its firmware. */
  logEvents(count: number, malformed: boolean): void {
    for (let i = 0; i < count; i += 1) this.#write(malformed ? { type: 'LockerOpened', data: { cause: 7 } } : OPENED);
  }

  /** The unit loses its store, and begins a new epoch. */
  wipe(): void {
    const id = `018f0000-0000-7000-8000-${String(this.epochs.length + 1).padStart(12, '0')}`;
    this.epochs.push({ id, entries: [], firstAvailableSeq: 1, dropped: new Set() });
    this.#acknowledged = 0;
    this.#write({ type: 'UnitStateReported', data: { reason: 'new-epoch', configurationHash: 'c', lockers: [] } });
  }

  /** The log of the unit is full: the unit drops its entries, and continues with a report of its state. */
  overflow(): void {
    const { entries, dropped } = this.present;
    for (const { seq } of entries) if (seq >= this.present.firstAvailableSeq) dropped.add(seq);
    this.#write({ type: 'UnitStateReported', data: { reason: 'gap', configurationHash: 'c', lockers: [] } });
    this.present.firstAvailableSeq = entries.length;
    this.#acknowledged = Math.max(this.#acknowledged, entries.length - 1);
  }

  /** The unit forgets the acknowledgements, and pushes again from the first entry that it still has. */
  restartUnit(): void {
    this.#acknowledged = this.present.firstAvailableSeq - 1;
  }

  push(limit: number, fate: 'arrives' | 'lost' | 'unacknowledged' | 'twice' | 'halves-swapped'): void {
    const { id, entries, firstAvailableSeq } = this.present;
    const from = Math.max(this.#acknowledged + 1, firstAvailableSeq);
    const batch = entries.slice(from - 1, from - 1 + limit);
    if (batch.length === 0 || fate === 'lost') return;
    const half = Math.ceil(batch.length / 2);
    const parts = { twice: [batch, batch], 'halves-swapped': [batch.slice(half), batch.slice(0, half)] };
    for (const part of fate === 'twice' || fate === 'halves-swapped' ? parts[fate] : [batch]) this.#store(id, part);
    if (fate !== 'unacknowledged') this.#acknowledged = from - 1 + batch.length;
  }

  /** A batch of any age is delivered again. A batch of an earlier epoch is delivered only if events of that epoch are recorded. */
  async replay(which: number, from: number, count: number): Promise<void> {
    const epoch = this.epochs[which % this.epochs.length];
    if (epoch === undefined) return;
    if (epoch !== this.present && recordedSeq((await this.state()).device, epoch.id) === 0) return;
    const start = from % epoch.entries.length;
    this.#store(epoch.id, epoch.entries.slice(start, start + count));
  }

  /** A process ingests a batch of the inbox, or both processes at once if `both`. */
  async deliver(which: number, both: boolean): Promise<void> {
    const message = this.inbox[which % Math.max(1, this.inbox.length)];
    if (message === undefined) return;
    const results = await Promise.all(
      (both ? this.#processes : [this.#processes[which % 2] ?? this.#processes[0]]).map(({ recorder }) =>
        ingestMessage(message, {
          recorder,
          unitInbox: this.#inbox,
          admission: this.#admission,
          clock: () => this.#nowMs,
        }),
      ),
    );
    const done = results.includes('done');
    this.inbox = this.inbox.flatMap((other) => {
      if (other !== message) return [other];
      return done ? [] : [{ ...other, deliveries: other.deliveries + 1 }];
    });
  }

  /** The unit learns which entries are recorded, and deletes them. */
  async reportRecorded(): Promise<void> {
    const seq = recordedSeq((await this.state()).device, this.present.id);
    this.#deleteUpTo(this.present, seq);
  }

  async fetch(which: number): Promise<void> {
    const { decider, recorder } = this.#processes[which % 2] ?? this.#processes[0];
    const page = (_: unknown, after: LogPosition | undefined, recorded: LogPosition | undefined) =>
      this.#answer(after, recorded);
    try {
      await fetchUnitLog(UNIT, {
        decider,
        recorder,
        unitLogClient: { fetchPage: page },
        unitInbox: this.#inbox,
        events: unlimitedBudgets(),
        clock: () => this.#nowMs,
      });
    } catch (error) {
      if (!(error instanceof UnitUnreachableError)) throw error;
    }
  }

  /** A process is replaced by a new one, without its caches. */
  restartPlatform(which: number): void {
    this.#processes[which % 2 === 0 ? 0 : 1] = this.#newProcess();
  }

  /** Ends all faults, and processes messages until everything is recorded. */
  async heal(): Promise<void> {
    this.reachable = true;
    for (let step = 0; step < MAX_HEALING_STEPS; step += 1) {
      for (let left = this.inbox.length; left > 0; left -= 1) await this.deliver(left - 1, false);
      this.push(MAX_BATCH_EVENTS, 'arrives');
      await this.fetch(step);
      const { device, log } = await this.state();
      const { id, entries } = this.present;
      const isRecorded = recordedSeq(device, id) === entries.length && Object.keys(log.gaps).length === 0;
      if (isRecorded && this.inbox.length === 0) return;
      this.advance(HEALING_STEP_MS);
    }
  }

  /** The state of the unit in a new process, without caches. */
  state(): Promise<UnitState> {
    return this.#newProcess().decider.getState(UNIT);
  }

  /** The recorded events of an epoch, in the order of the store. */
  async recorded(epoch: string): Promise<CloudEvent[]> {
    const commits = await this.store.tail(UNIT, 0);
    return commits.flatMap((commit) =>
      commit.aggregate === 'device' ? commit.events().filter(({ unitepoch }) => unitepoch === epoch) : [],
    );
  }

  async #answer(after: LogPosition | undefined, recorded: LogPosition | undefined) {
    if (!this.reachable) throw new UnitUnreachableError('the unit is offline');
    const { id, entries, firstAvailableSeq } = this.present;
    if (recorded?.epoch === id) this.#deleteUpTo(this.present, recorded.seq);
    const from = Math.max(after?.epoch === id ? after.seq + 1 : 1, this.present.firstAvailableSeq);
    const events = entries.slice(from - 1, from - 1 + 3).map(({ content }) => content);
    const more = from - 1 + events.length < entries.length;
    const head = {
      firstAvailableSeq: Math.max(firstAvailableSeq, this.present.firstAvailableSeq),
      lastSeq: entries.length,
      more,
    };
    return toFetchedPage(UNIT, encode({ unit: UNIT, epoch: id, ...head, events }), after);
  }

  #deleteUpTo(epoch: Epoch, seq: number): void {
    epoch.firstAvailableSeq = Math.max(epoch.firstAvailableSeq, seq + 1);
    this.#acknowledged = Math.max(this.#acknowledged, seq);
  }

  #write(draft: { readonly type: string; readonly data: Readonly<Record<string, unknown>> }): void {
    const { entries } = this.present;
    const seq = entries.length + 1;
    entries.push({ seq, content: { seq, v: 1, time: toInstant(this.#nowMs), locker: 'A', ...draft } });
  }

  #store(epoch: string, entries: readonly Entry[]): void {
    if (entries.length === 0) return;
    this.#pushed += 1;
    const data = encode({ unit: UNIT, epoch, events: entries.map(({ content }) => content) });
    const subject = unitPushSubject(UNIT);
    this.inbox.push({ subject, data, sequence: this.#pushed, storedAtMs: this.#nowMs, deliveries: 1 });
  }

  #newProcess(): Process {
    const newId = () => {
      this.#ids += 1;
      return `id-${this.#ids}`;
    };
    const decider = new UnitDecider({
      store: this.store,
      loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
      newId,
      clock: () => this.#nowMs,
      random: () => 0,
      sleep: async () => undefined,
      log: silentLog,
    });
    const deadLetters = {
      insertRejectedEvents: async ({ unit, epoch, rejections }: RejectedEvents) => {
        for (const { seq, content } of rejections) {
          this.deadLetters.set(deviceEventId(unit, epoch, seq), JSON.parse(content));
        }
      },
      insertUnreadableBatch: async () => true,
    };
    return {
      decider,
      recorder: new UnitLogRecorder({
        decider,
        deadLetters,
        clockOffsets: { get: () => undefined },
        newEpochs: unlimitedBudgets(),
        newId,
        log: silentLog,
      }),
    };
  }
}

const OPENED = { type: 'LockerOpened', data: { cause: 'walk-up' } };

function encode(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/**
 * The schedule of pushes, driven by a clock of its own through weeks in which a unit comes and goes: the push, the decisions and
 * the store are the real ones, and the queue is replaced by the moment at which the domain says that a push is due.
 */

import { describe, expect, test } from 'bun:test';
import { requireConfigured } from '../../domain/configuration/configuration.ts';
import { configurationHash } from '../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import { changeConfiguration, nextPushAtMs } from '../../domain/configuration/delivery.ts';
import { markUnitOffline, markUnitOnline } from '../../domain/connectivity/connectivity.ts';
import { registerUnit } from '../../domain/registry/registry.ts';
import { newUnitState } from '../../domain/unit/unit.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { ConfigurationPusher } from '../../platform/units/configuration-pusher.ts';
import { UnitUnreachableError } from '../../platform/units/unit-command-client.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { seededRandom } from '../support/random.ts';
import { registration } from '../support/registration.ts';
import { silentLog } from '../support/silent-log.ts';

const UNIT = 'PL-1';
const START_MS = Date.parse('2026-06-01T12:00:00.000Z');
const MINUTE_MS = 60_000;
const VALUES = { ...defaultConfiguration(600).values, minimumMinutes: 30 };
const random = seededRandom();

/** A unit that gets pushes when they are due, on a clock that the test moves. */
class Field {
  nowMs = START_MS;
  /** What the unit does with a push. */
  answers: 'nothing' | 'well' = 'nothing';
  /** When pushes were sent, in minutes from the start. */
  readonly sentAtMin: number[] = [];
  readonly #decider: UnitDecider;
  readonly #push: ConfigurationPusher;
  #ids = 0;

  constructor() {
    const newId = () => {
      this.#ids += 1;
      return `00000000-0000-7000-8000-${String(this.#ids).padStart(12, '0')}`;
    };
    const clock = () => this.nowMs;
    this.#decider = new UnitDecider({
      store: new MemoryEventStore(clock),
      loadSnapshot: async () => ({ state: newUnitState(UNIT), completeTo: 0 }),
      newId,
      clock,
      random: () => 0,
      sleep: async () => undefined,
      log: silentLog,
    });
    const send = async (_: unknown, { commandId }: { readonly commandId: string }) => {
      this.sentAtMin.push((this.nowMs - START_MS) / MINUTE_MS);
      if (this.answers === 'nothing') throw new UnitUnreachableError('no answer');
      return { commandId, status: 'done' as const, configurationHash: configurationHash(VALUES) };
    };
    this.#push = new ConfigurationPusher({
      decider: this.#decider,
      commands: { send },
      retryScheduleS: [60, 300, 900],
      newId,
      clock,
    });
  }

  async begin(): Promise<void> {
    await this.#decide('registry', (state) => registerUnit(state.registry, registration(UNIT), 'register'));
    await this.comes();
    await this.#decide('config', (state) =>
      changeConfiguration(state, { commandId: 'change', values: VALUES, mode: 'queued' }),
    );
  }

  comes(): Promise<void> {
    return this.#decide('connectivity', (state) => markUnitOnline(state.connectivity, 'ping', this.nowMs));
  }

  goes(): Promise<void> {
    return this.#decide('connectivity', (state) => markUnitOffline(state.connectivity, 3, toInstant(this.nowMs)));
  }

  async status(): Promise<string> {
    return requireConfigured((await this.#decider.getState(UNIT)).configuration).status;
  }

  /** Lets the time pass until so many minutes from the start, with every push that is due. */
  async passTo(minutes: number): Promise<void> {
    const endMs = START_MS + minutes * MINUTE_MS;
    for (;;) {
      const state = await this.#decider.getState(UNIT);
      const dueMs = nextPushAtMs(state);
      if (dueMs === undefined || dueMs > endMs) break;
      this.nowMs = Math.max(this.nowMs, dueMs);
      await this.#push.push(state);
    }
    this.nowMs = endMs;
  }

  async #decide(aggregate: 'registry' | 'connectivity' | 'config', decision: Parameters<UnitDecider['decide']>[3]) {
    const commandId = `${aggregate}-${this.nowMs}`;
    await this.#decider.decide(
      UNIT,
      aggregate,
      { commandId, actor: 'ops:tests', source: '/lockfleet/tests' },
      decision,
    );
  }
}

describe('a unit that does not apply its configuration', () => {
  test('gets a push at once, after 1, 5 and 15 minutes, and every 15 minutes after that', async () => {
    const field = new Field();
    await field.begin();
    await field.passTo(60);
    expect(field.sentAtMin).toEqual([0, 1, 6, 21, 36, 51]);
  });

  test('gets no push while it is offline, one at once when it is online, and then continues its schedule', async () => {
    const field = new Field();
    await field.begin();
    await field.passTo(2);
    await field.goes();
    await field.passTo(7 * 24 * 60);
    expect(field.sentAtMin).toEqual([0, 1]);
    await field.comes();
    await field.passTo(7 * 24 * 60 + 31);
    expect(field.sentAtMin.slice(2).map((minute) => minute - 7 * 24 * 60)).toEqual([0, 15, 30]);
    field.answers = 'well';
    await field.passTo(7 * 24 * 60 + 46);
    expect(await field.status()).toBe('applied');
    await field.passTo(8 * 24 * 60);
    expect(field.sentAtMin).toHaveLength(6);
  });

  test('never gets a push while it is offline, and always within the longest wait while it is online', async () => {
    const field = new Field();
    await field.begin();
    let minute = 0;
    let awayFrom: number | undefined;
    const away: { from: number; to: number }[] = [];
    for (let change = 0; change < 200; change += 1) {
      minute += 1 + random.below(40);
      await field.passTo(minute);
      if (awayFrom === undefined) {
        await field.goes();
        awayFrom = minute;
      } else {
        await field.comes();
        away.push({ from: awayFrom, to: minute });
        awayFrom = undefined;
      }
    }
    minute += 60;
    await field.passTo(minute);
    const wasAway = (at: number) => away.some(({ from, to }) => at > from && at < to);
    expect(field.sentAtMin.filter(wasAway)).toEqual([]);
    // Each return is an occasion.
    for (const { to } of away) expect(field.sentAtMin).toContain(to);
    const online = [0, ...away.map(({ to }) => to)];
    for (const [index, from] of online.entries()) {
      const to = away[index]?.from ?? minute;
      const pushes = field.sentAtMin.filter((at) => at >= from && at <= to);
      const waits = [...pushes.slice(1), to].map((at, place) => at - (pushes[place] ?? from));
      expect(Math.max(...waits)).toBeLessThanOrEqual(15);
    }
  });
});

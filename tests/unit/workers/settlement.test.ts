import { afterEach, describe, expect, test } from 'bun:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { holdLocker } from '../../../domain/booking/customer-decisions.ts';
import { newUnitState } from '../../../domain/unit/unit.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../../platform/event-store/memory.ts';
import { StoreUnavailableError } from '../../../platform/event-store/store.ts';
import { UnitDecider } from '../../../platform/units/unit-decider.ts';
import type { DueUnit } from '../../../projections/bookings/queries.ts';
import { DueUnits, MAX_KNOWN_UNITS } from '../../../server/workers/settlement/due-units.ts';
import { SettlementWorker } from '../../../server/workers/settlement/settlement-worker.ts';
import { eventually } from '../../support/eventually.ts';
import { ManualTime } from '../../support/manual-time.ts';
import { appendRegistration } from '../../support/registration.ts';
import { MINUTE_MS, NOW_MS } from '../../support/scene.ts';
import { silentLog } from '../../support/silent-log.ts';

const HOLD_MS = 10 * MINUTE_MS;
const stop = new Set<() => Promise<void>>();

afterEach(async () => {
  for (const end of stop) await end();
  stop.clear();
});

/** A server with a settlement worker on a clock that the test moves. */
class Server {
  readonly time: ManualTime;
  readonly decider: UnitDecider;
  readonly worker: SettlementWorker;
  readonly failing = new Set<string>();
  readonly #ending = new AbortController();
  #ids = 0;

  constructor(
    readonly store: MemoryEventStore,
    time: ManualTime,
    due: () => readonly DueUnit[] = () => [],
    name = 'server',
  ) {
    this.time = time;
    const newId = () => {
      this.#ids += 1;
      return `${name}-${this.#ids}`;
    };
    const clock = () => NOW_MS + time.monotonic();
    this.decider = new UnitDecider({
      store,
      loadSnapshot: async (unit) => {
        if (this.failing.has(unit)) throw new StoreUnavailableError('the snapshot cannot be read');
        return { state: newUnitState(unit), completeTo: 0 };
      },
      newId,
      clock,
      random: () => 0.5,
      sleep: async () => {
        await nextTurn();
      },
      log: silentLog,
    });
    const { signal } = this.#ending;
    this.worker = new SettlementWorker({
      decider: this.decider,
      readDue: async ({ nowMs, after, limit }) =>
        due()
          .filter(({ dueMs, unit }) => dueMs <= nowMs && (after === undefined || unit > after.unit))
          .slice(0, limit),
      owns: () => true,
      newId,
      clock,
      monotonic: time.monotonic,
      signal,
      sleep: (ms) => time.pause(ms, signal),
      log: silentLog,
    });
  }

  start(): this {
    const running = this.worker.run();
    stop.add(async () => {
      this.#ending.abort();
      await running;
    });
    return this;
  }

  /** Holds a locker an hour from now; the hold runs out in 10 minutes. */
  async hold(unit: string, index = 0): Promise<void> {
    const nowMs = NOW_MS + this.time.monotonic();
    const fromMs = nowMs + (index + 1) * 60 * MINUTE_MS;
    const command = { commandId: `hold-${unit}-${index}`, reservationId: `${unit}.${index}`, customer: 'c', nowMs };
    const period = { from: toInstant(fromMs), until: toInstant(fromMs + 60 * MINUTE_MS) };
    const meta = { commandId: command.commandId, actor: 'customer:c', source: '/tests' };
    await this.decider.decide(unit, 'booking', meta, (state) =>
      holdLocker(state, { ...command, requested: { locker: 'A' }, ...period }),
    );
  }

  async openReservations(unit: string): Promise<number> {
    return (await this.decider.getLatestState(unit)).booking.open.length;
  }

  /** Moves the clock second by second, so that each pause of the worker ends when it is over. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 1_000) {
      this.time.advance(Math.min(left, 1_000));
      for (let turn = 0; turn < 8; turn += 1) await nextTurn();
    }
  }
}

async function registered(store: MemoryEventStore, ...units: string[]): Promise<void> {
  const { decider } = new Server(store, new ManualTime(), () => [], 'registration');
  for (const unit of units) await appendRegistration(decider, unit);
}

describe('the settlement worker', () => {
  test('settles a unit within two seconds of its time, and not before', async () => {
    const store = new MemoryEventStore(() => 0);
    await registered(store, 'U-1');
    const server = new Server(store, new ManualTime()).start();
    await server.hold('U-1');
    server.worker.noteChange('U-1');
    await server.pass(HOLD_MS - 1_000);
    expect(await server.openReservations('U-1')).toBe(1);
    await server.pass(3_000);
    await eventually(async () => (await server.openReservations('U-1')) === 0);
  });

  test('computes once for many changes when a unit is due', async () => {
    const store = new MemoryEventStore(() => 0);
    await registered(store, 'U-1');
    const server = new Server(store, new ManualTime());
    for (let index = 0; index < 10; index += 1) await server.hold('U-1', index);
    let computed = 0;
    const getState = server.decider.getState.bind(server.decider);
    server.decider.getState = (unit) => {
      computed += 1;
      return getState(unit);
    };
    for (let index = 0; index < 10; index += 1) server.worker.noteChange('U-1');
    server.start();
    await server.pass(2_000);
    expect(computed).toBe(1);
    await server.pass(HOLD_MS + 2_000);
    await eventually(async () => (await server.openReservations('U-1')) === 0);
  });

  test('finds a unit that a crashed process knew in the read model', async () => {
    const store = new MemoryEventStore(() => 0);
    await registered(store, 'U-1');
    const time = new ManualTime();
    await new Server(store, time, () => [], 'crashed').hold('U-1');
    time.advance(HOLD_MS);
    const due = [{ unit: 'U-1', position: 2, dueMs: NOW_MS + HOLD_MS }];
    const server = new Server(store, time, () => due).start();
    await server.pass(2_000);
    await eventually(async () => (await server.openReservations('U-1')) === 0);
  });

  test('settles the other units while one cannot be settled, and that one when it can', async () => {
    const store = new MemoryEventStore(() => 0);
    await registered(store, 'U-1', 'U-2');
    const time = new ManualTime();
    const before = new Server(store, time, () => [], 'before');
    await before.hold('U-1');
    await before.hold('U-2');
    time.advance(HOLD_MS);
    const due = ['U-1', 'U-2'].map((unit, index) => ({ unit, position: 3 + index, dueMs: NOW_MS + HOLD_MS }));
    const server = new Server(store, time, () => due);
    server.failing.add('U-1');
    server.start();
    await server.pass(2_000);
    await eventually(async () => (await before.openReservations('U-2')) === 0);
    expect(await before.openReservations('U-1')).toBe(1);
    server.failing.clear();
    await server.pass(60_000);
    await eventually(async () => (await before.openReservations('U-1')) === 0);
  });

  test('settles a unit with more due reservations than one commit may have', async () => {
    const store = new MemoryEventStore(() => 0);
    await registered(store, 'U-1');
    const server = new Server(store, new ManualTime());
    for (let index = 0; index < 600; index += 1) await server.hold('U-1', index);
    server.worker.noteChange('U-1');
    server.start();
    await server.pass(HOLD_MS + 3_000);
    await eventually(async () => (await server.openReservations('U-1')) === 0);
  }, 60_000);

  test('does not settle a unit again and again that waits for its locker', async () => {
    const store = new MemoryEventStore(() => 0);
    await registered(store, 'U-1');
    const time = new ManualTime();
    const server = new Server(store, time, () => [{ unit: 'U-1', position: 1, dueMs: NOW_MS }]);
    await server.hold('U-1');
    let settled = 0;
    const { decider } = server;
    const decideInChunks = decider.decideInChunks.bind(decider);
    decider.decideInChunks = (...args) => {
      settled += 1;
      return decideInChunks(...args);
    };
    server.start();
    await server.pass(60_000);
    // The row of the read model is older than what the worker knows after its first settlement.
    expect(settled).toBe(1);
  });
});

describe('the units that are due', () => {
  test('come in the order of their times, each once, and as they were noted last', () => {
    const due = new DueUnits();
    due.note('late', 1, 300);
    due.note('early', 1, 100);
    due.note('moved', 1, 50);
    due.note('moved', 2, 200);
    due.note('outdated', 5, 400);
    due.note('outdated', 4, 10);
    due.note('idle', 1, 20);
    due.note('idle', 2, undefined);
    const taken: (string | undefined)[] = [];
    for (let unit = due.takeDue(300); unit !== undefined; unit = due.takeDue(300)) taken.push(unit);
    expect(taken).toEqual(['early', 'moved', 'late']);
    expect(due.takeDue(399)).toBeUndefined();
    expect(due.takeDue(400)).toBe('outdated');
  });

  test('are bounded: the least recently noted is forgotten', () => {
    const due = new DueUnits();
    for (let index = 0; index <= MAX_KNOWN_UNITS; index += 1) due.note(`u-${index}`, 1, index);
    expect(due.isKnownSince('u-0', 1)).toBe(false);
    expect(due.takeDue(MAX_KNOWN_UNITS)).toBe('u-1');
  });
});

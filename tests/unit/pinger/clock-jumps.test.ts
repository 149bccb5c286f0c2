import { afterEach, describe, expect, test } from 'bun:test';
import { unitHash } from '../../../domain/shard.ts';
import { PING_OUTCOME } from '../../../pinger/pool/slot-results.ts';
import { SlotRunner } from '../../../pinger/pool/slot-runner.ts';
import { MAX_CLOCK_DRIFT_MS } from '../../../pinger/runtime/clock-jump-detector.ts';
import { UnitTable } from '../../../pinger/units/unit-table.ts';
import {
  FAILURES,
  INTERVAL_MS,
  type PingerWorld,
  SimulatedClock,
  startPingerWorld,
  TIMEOUT_MS,
} from '../../support/pinger-world.ts';

const UNITS = 500;
const SLOT_MS = 100;
const S = 1_000;
const MIN = 60 * S;
const H = 60 * MIN;
/** How far from its instant a ping may be here, where time passes in steps of a millisecond. */
const LAG_MS = 2;

const worlds: PingerWorld[] = [];

afterEach(async () => {
  await Promise.all(worlds.splice(0).map((world) => world.stop()));
});

async function start(): Promise<PingerWorld> {
  const world = await startPingerWorld(UNITS);
  worlds.push(world);
  return world;
}

/** Most pings that leave within the length of a slot, from a moment on. */
function mostPerSlot({ sent }: PingerWorld, fromMs: number): number {
  const times = sent.map(({ atMs }) => atMs).filter((atMs) => atMs >= fromMs);
  let [most, first] = [0, 0];
  for (const [last, atMs] of times.entries()) {
    while ((times[first] ?? 0) <= atMs - SLOT_MS) first += 1;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

/** The most units of one slot of the schedule. */
function fullestSlot({ names, schedule }: PingerWorld): number {
  const counts = new Map<number, number>();
  for (const name of names) {
    const slot = schedule.slotIndexOfPhase(schedule.phaseOf(unitHash(name)));
    counts.set(slot, (counts.get(slot) ?? 0) + 1);
  }
  return Math.max(...counts.values());
}

/** Until what was handed to the threads before has been sent. */
const CALMING_MS = 5 * SLOT_MS;

/** Each unit is asked once in the interval after a moment, at its instant on the system's clock. */
function expectOnTime({ sent, names, schedule }: PingerWorld, fromMs: number): void {
  const inTime = sent.filter(({ atMs }) => atMs >= fromMs && atMs < fromMs + INTERVAL_MS);
  expect(inTime.map(({ unit }) => unit).toSorted()).toEqual(names.toSorted());
  for (const { unit, wallMs } of inTime) {
    const lateMs = (wallMs - schedule.phaseOf(unitHash(unit)) + INTERVAL_MS + LAG_MS) % INTERVAL_MS;
    expect(lateMs).toBeLessThanOrEqual(2 * LAG_MS);
  }
}

const JUMPS_MS = [0.3 * S, 0.7 * S, 3 * S, 9.5 * S, 30 * S, 10 * MIN, 5 * H, 30 * 24 * H];

describe.each(JUMPS_MS.flatMap((ms) => [ms, -ms]))('a clock that jumps by %d ms', (jumpMs) => {
  test('causes no burst of pings and no offline unit, and pings continue on schedule', async () => {
    const world = await start();
    const { clock } = world;
    await clock.pass(3_333);
    const jumpedMs = clock.monotonic();
    clock.jump(jumpMs);
    await clock.pass(5 * INTERVAL_MS);
    // A slot that was handed over before, and one that begins anew.
    expect(mostPerSlot(world, jumpedMs - SLOT_MS)).toBeLessThanOrEqual(2 * fullestSlot(world));
    expect(await world.offline()).toEqual(new Map());
    // A small step back is waited for.
    expectOnTime(world, jumpedMs + SLOT_MS + MAX_CLOCK_DRIFT_MS);
    expect(world.meter.totals.clockJumps).toBe(Math.abs(jumpMs) > MAX_CLOCK_DRIFT_MS ? 1 : 0);
  });

  test('does not delay the detection of a unit that stops answering', async () => {
    const world = await start();
    const { clock, dead } = world;
    clock.jump(jumpMs);
    dead.add('PL-7');
    await clock.pass((FAILURES + 2) * INTERVAL_MS + TIMEOUT_MS);
    expect(await world.offline()).toEqual(new Map([['PL-7', 1]]));
    dead.delete('PL-7');
    await clock.pass(INTERVAL_MS + SLOT_MS);
    expect(world.tracker.states()).toMatchObject({ online: UNITS, offline: 0 });
  });
});

test('a clock that jumps repeatedly causes no offline unit and no burst of pings', async () => {
  const world = await start();
  const { clock } = world;
  const startedMs = clock.monotonic();
  for (const jumpMs of [3 * S, -3 * S, H, -2 * H, 9 * S, -9 * S, 700, -700, 5 * MIN, -5 * MIN]) {
    for (let time = 0; time < 3; time += 1) {
      await clock.pass(1_733);
      clock.jump(jumpMs);
    }
  }
  expect(await world.offline()).toEqual(new Map());
  expect(mostPerSlot(world, startedMs)).toBeLessThanOrEqual(2 * fullestSlot(world));
  await clock.pass(CALMING_MS);
  const calmMs = clock.monotonic();
  await clock.pass(2 * INTERVAL_MS);
  expectOnTime(world, calmMs);
});

test.each([0.9, 0.9995, 1.0005, 1.1])(
  'a clock that is slewed to %d of its pace does not change the schedule',
  async (pace) => {
    const world = await start();
    const { clock } = world;
    const startedMs = clock.monotonic();
    await clock.pass(12 * INTERVAL_MS, pace);
    expect(await world.offline()).toEqual(new Map());
    expect(world.meter.totals).toMatchObject({ clockJumps: 0, discarded: 0, missed: 0, skippedSlots: 0 });
    expect(mostPerSlot(world, startedMs)).toBeLessThanOrEqual(2 * fullestSlot(world));
    await clock.pass(CALMING_MS);
    const calmMs = clock.monotonic();
    await clock.pass(2 * INTERVAL_MS);
    expectOnTime(world, calmMs);
  },
);

test.each([-H, H])('a slot that was on its way when the clock jumped by %d ms is discarded at once', async (jumpMs) => {
  const clock = new SimulatedClock();
  const table = UnitTable.create(1);
  const runner = await SlotRunner.open({ table, timeoutMs: TIMEOUT_MS, clock, openProbes: async () => [] });
  const startMs = clock.now();
  clock.jump(jumpMs);
  const { outcomes, sentAtMs } = await runner.run({
    startMs,
    units: new Uint32Array(1),
    offsetsMs: new Float32Array(1),
  });
  expect([outcomes[0], sentAtMs[0]]).toEqual([PING_OUTCOME.discarded, 0]);
});

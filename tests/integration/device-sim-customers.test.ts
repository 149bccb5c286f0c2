import { afterAll, beforeAll, expect, test } from 'bun:test';
import { join } from 'node:path';
import { Timers } from '../../device-sim/environment/timers.ts';
import { NO_FAULTS } from '../../device-sim/faults/faults.ts';
import type { Fleet } from '../../device-sim/fleet/fleet.ts';
import { reportOf } from '../../device-sim/scenarios/report.ts';
import { clearFaults, playScenario, waitUntilRecorded } from '../../device-sim/scenarios/scenario-run.ts';
import { SCENARIOS, scenarioNamed } from '../../device-sim/scenarios/scenarios.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet, wallClock } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';

let platform: FieldPlatform;
beforeAll(async () => {
  platform = await startFieldPlatform();
});
afterAll(() => platform.stop());

const FAST_VISIT = { rentalMinutes: [15, 60], stepMs: [5, 20], reopenChance: 0.5 } as const;

/** Tells every unit that its acknowledged events are recorded, as the pinger does. */
async function recordEverything(fleet: Fleet): Promise<void> {
  for (const unit of fleet.units.values()) {
    const { epoch, acknowledgedSeq } = unit.model.log;
    if (acknowledgedSeq > 0 && !unit.isOffline) await platform.ping(unit, { epoch, seq: acknowledgedSeq });
  }
}

async function whilePinging<T>(fleet: Fleet, work: Promise<T>): Promise<T> {
  const ended = new AbortController();
  const pinging = (async () => {
    while (!ended.signal.aborted) {
      await recordEverything(fleet);
      await Bun.sleep(20);
    }
  })();
  try {
    return await work;
  } finally {
    ended.abort();
    await pinging;
  }
}

for (const [index, { name }] of SCENARIOS.entries()) {
  test(`in the scenario ${name}, every event of the customers is recorded`, async () => {
    const fleet = await startTestFleet(platform, { seed: 30 + index, lockers: 2 });
    const timers = new Timers(wallClock);
    const scenario = scenarioNamed(name);
    if (scenario === undefined) throw new Error(`there is no ${name}`);
    await eventually(() => fleet.readiness().connected === 2);
    const brisk = {
      ...scenario,
      visit: FAST_VISIT,
      phases: scenario.phases.map((phase) => ({ ...phase, walkUpsPerUnitMinute: phase.walkUpsPerUnitMinute * 100 })),
    };
    const arrivals = await whilePinging(
      fleet,
      playScenario(fleet, fleet.customers, brisk, 1_500, timers).then(async (rates) => {
        await waitUntilRecorded(fleet, timers);
        return rates;
      }),
    );
    const result = reportOf(fleet, { scenario: name, seed: 30 + index, durationMs: 1_500, arrivals });
    expect(result).toMatchObject({ ok: true, behind: [], events: { unrecorded: 0 } });
    expect(result.arrivals.map(({ askedPerS }) => Math.round(askedPerS))).toEqual(
      brisk.phases.map(({ walkUpsPerUnitMinute }) => Math.round((walkUpsPerUnitMinute * 2) / 60)),
    );
    expect(result.customers.served).toBeGreaterThan(3);
    expect(result.events.produced).toBeGreaterThan(20);
    expect(result.events.recorded).toBe(result.events.produced);
    expect(result.push.batches).toBeGreaterThan(0);
    await fleet.stop();
  });
}

test('an outage of a scenario ends with the process: a killed blackout leaves the fleet online', async () => {
  const storePath = join(await temporaryFolder('device-sim'), 'fleet.sqlite');
  const fleet = await startTestFleet(platform, { storePath, seed: 42 });
  await eventually(() => fleet.readiness().connected === 2);
  const timers = new Timers(wallClock);
  const blackout = { name: 'blackout', summary: '', visit: FAST_VISIT };
  const phases = [{ share: 1, walkUpsPerUnitMinute: 0, offline: true }];
  const playing = playScenario(fleet, fleet.customers, { ...blackout, phases }, 600_000, timers);
  await eventually(() => fleet.readiness().offline === 2 && fleet.readiness().connected === 0);
  for (const unit of fleet.units.values()) await expect(platform.ping(unit)).rejects.toThrow();
  // The store closes in the middle of the outage, as when the process is killed.
  await fleet.stop();
  timers.stop();
  await playing;

  const next = await startTestFleet(platform, { storePath, seed: 42 });
  await eventually(() => next.readiness().connected === 2);
  expect(next.readiness()).toMatchObject({ offline: 0, problems: [] });
  await next.stop();
});

test('a scenario begins without the faults that an earlier run has left', async () => {
  const storePath = join(await temporaryFolder('device-sim'), 'fleet.sqlite');
  const fleet = await startTestFleet(platform, { storePath, seed: 43 });
  const [unit, other] = [...fleet.units.values()];
  if (unit === undefined || other === undefined) throw new Error('the fleet has no units');
  await eventually(() => fleet.readiness().registered === 2);
  await unit.setFaults({ offline: true, lossRate: 1, jammed: ['A'] });
  await fleet.stop();

  const next = await startTestFleet(platform, { storePath, seed: 43 });
  expect(next.readiness()).toMatchObject({ offline: 1 });
  expect(next.readiness().problems).toEqual([expect.stringContaining(`1 unit has the fault "offline": ${unit.name}`)]);
  expect(await clearFaults(next)).toBe(1);
  expect([...next.units.values()].map(({ faults }) => faults)).toEqual([NO_FAULTS, NO_FAULTS]);
  await eventually(() => next.readiness().connected === 2);
  expect(next.readiness()).toMatchObject({ offline: 0, problems: [] });
  await next.stop();
});

test('the report counts events that the platform did not record, and is not ok', async () => {
  const fleet = await startTestFleet(platform, { seed: 40 });
  await eventually(() => fleet.metrics.acknowledged === 2);
  const result = reportOf(fleet, { scenario: 'steady', seed: 40, durationMs: 1, arrivals: [] });
  expect(result).toMatchObject({ ok: false, events: { produced: 2, acknowledged: 2, recorded: 0, unrecorded: 2 } });
  expect(result.behind).toHaveLength(2);
  await fleet.stop();
});

test('after a restart, simulated customers end the rentals of the scenario and leave other rentals', async () => {
  const storePath = join(await temporaryFolder('device-sim'), 'fleet.sqlite');
  const customers = { walkUpsPerMinute: 60_000, visit: { ...FAST_VISIT, stepMs: [60_000, 60_000] } } as const;
  const first = await startTestFleet(platform, { storePath, seed: 41, units: 1, lockers: 2, customers });
  const [unit] = first.units.values();
  if (unit === undefined) throw new Error('the fleet has no unit');
  await eventually(() => unit.model.lockers.every(({ rental }) => rental?.byScenario === true));
  await first.stop();

  const second = await startTestFleet(platform, {
    storePath,
    seed: 41,
    units: 1,
    customers: { walkUpsPerMinute: 0, visit: FAST_VISIT },
  });
  const [again] = second.units.values();
  if (again === undefined) throw new Error('the fleet has no unit');
  await eventually(() => again.model.lockers.every(({ rental, door }) => rental === undefined && door === 'closed'));
  await fetch(`${second.controlUrl}/units/${again.name}/walk-up`, { method: 'POST', body: '{"minutes":30}' });
  await second.stop();

  const third = await startTestFleet(platform, {
    storePath,
    seed: 41,
    units: 1,
    customers: { walkUpsPerMinute: 60_000, visit: FAST_VISIT },
  });
  const [last] = third.units.values();
  if (last === undefined) throw new Error('the fleet has no unit');
  await eventually(() => third.metrics.customersServed >= 3);
  expect(last.model.lockers[0]).toMatchObject({ id: 'A', door: 'open', rental: {} });
  await third.stop();
});

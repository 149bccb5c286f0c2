/** A full log: a unit that was offline for too long drops its oldest events and reports the gap. */

import { Database } from 'bun:sqlite';
import { afterAll, beforeAll, expect, test } from 'bun:test';
import { join } from 'node:path';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import type { Fleet } from '../../device-sim/fleet/fleet.ts';
import { reportOf } from '../../device-sim/scenarios/report.ts';
import type { StoredUnit } from '../../device-sim/store/fleet-store.ts';
import { FleetStore } from '../../device-sim/store/fleet-store.ts';
import { rentAtScreen } from '../../device-sim/unit/customer-actions.ts';
import { firstAvailableSeq } from '../../device-sim/unit/model.ts';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { seededRandom } from '../support/random.ts';

const MAX_EVENTS = 20;
const KILLS = 4;

let platform: FieldPlatform;
beforeAll(async () => {
  platform = await startFieldPlatform();
});
afterAll(() => platform.stop());

function unitOf(fleet: Fleet, name: string): EmulatedUnit {
  const unit = fleet.units.get(name);
  if (unit === undefined) throw new Error(`there is no ${name}`);
  return unit;
}

/** Customers whose payment is declined. Each adds two events to the log. */
async function declineCustomers(unit: EmulatedUnit, customers: number): Promise<void> {
  await unit.setFaults({ declinePayments: true });
  for (let each = 0; each < customers; each++) {
    await unit.decide((model, around) => rentAtScreen(model, { minutes: 60 }, around));
  }
}

test('a unit that was offline for too long drops its oldest events, and pushes its state as the first event after the gap', async () => {
  const storePath = join(await temporaryFolder('device-sim-log'), 'fleet.sqlite');
  const settings = { seed: 160, storePath, maxUnrecordedEvents: MAX_EVENTS };
  const first = await startTestFleet(platform, settings);
  const cut = unitOf(first, 'VO-1000');
  await eventually(() => first.readiness().connected === 2);
  await eventually(() => cut.model.log.acknowledgedSeq === 1);
  await platform.ping(cut, { epoch: cut.model.log.epoch, seq: 1 });
  await eventually(() => cut.model.log.recordedSeq === 1);
  await cut.setFaults({ offline: true });
  await declineCustomers(cut, 15);
  const { epoch, lastSeq, droppedSeq } = cut.model.log;
  expect(droppedSeq).toBeGreaterThan(1);
  expect(cut.entries(1, 500).bodies).toHaveLength(lastSeq - droppedSeq);
  expect(first.metrics.droppedUnrecorded).toBe(droppedSeq - 1);
  await first.stop();

  const fleet = await startTestFleet(platform, settings);
  const unit = unitOf(fleet, 'VO-1000');
  expect(unit.model.log).toMatchObject({ epoch, droppedSeq, lastSeq: lastSeq + 1 });
  await unit.setFaults({ offline: false });
  await eventually(() => unit.model.log.acknowledgedSeq === unit.model.log.lastSeq);
  const pushed = (await platform.inbox('VO-1000'))
    .filter((batch) => batch.epoch === epoch)
    .flatMap(({ events }) => events);
  const begin = droppedSeq + 1;
  expect(pushed.map(({ seq }) => seq)).toEqual([
    1,
    ...Array.from({ length: lastSeq + 2 - begin }, (_, at) => begin + at),
  ]);
  expect(pushed[1]).toMatchObject({ seq: begin, type: 'UnitStateReported', offline: true, data: { reason: 'gap' } });

  // The platform fetches the missing events. The unit answers with the first seq that it still has.
  const { batch } = await platform.fetch(unit, `after=${epoch}:1&limit=1`);
  expect(batch).toMatchObject({ firstAvailableSeq: begin, lastSeq: lastSeq + 1, more: true });
  expect(batch.events[0]).toMatchObject({ seq: begin, type: 'UnitStateReported' });
  await platform.ping(unit, { epoch, seq: lastSeq + 1 });
  await eventually(() => unit.model.log.recordedSeq === lastSeq + 1);
  expect(reportOf(fleet, { scenario: 'a gap', seed: 160, durationMs: 0, arrivals: [] })).toMatchObject({
    ok: false,
    events: { dropped: droppedSeq - 1 },
  });
  await fleet.stop();
});

test('dropped events that a later ping names as recorded no longer count as lost', async () => {
  const fleet = await startTestFleet(platform, { seed: 161, maxUnrecordedEvents: MAX_EVENTS });
  const unit = unitOf(fleet, 'VP-1000');
  await eventually(() => fleet.readiness().connected === 2);
  await declineCustomers(unit, 15);
  const { epoch, droppedSeq, lastSeq } = unit.model.log;
  expect(fleet.metrics.droppedUnrecorded).toBe(droppedSeq);
  await platform.ping(unit, { epoch, seq: droppedSeq });
  await eventually(() => unit.model.log.recordedSeq === droppedSeq);
  expect(fleet.metrics).toMatchObject({ droppedUnrecorded: 0, recorded: droppedSeq });
  expect(unit.entries(1, 500).bodies).toHaveLength(lastSeq - droppedSeq);
  await fleet.stop();
});

async function startChild(storePath: string) {
  const main = join(import.meta.dir, '..', 'support', 'fixture-fleet', 'main.ts');
  const child = Bun.spawn([process.execPath, main, storePath, String(MAX_EVENTS)], {
    stdout: 'pipe',
    stderr: 'inherit',
  });
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  return {
    url: `${new TextDecoder().decode(value).trim()}/units/PL-1000`,
    kill: async () => {
      child.kill('SIGKILL');
      await child.exited;
      await reader.cancel();
    },
  };
}

function readStore(path: string): { unit: StoredUnit; entries: BatchEvent[] } {
  const store = FleetStore.open(path, (error) => {
    throw error;
  });
  const unit = store.loadUnits().get('PL-1000');
  if (unit === undefined) throw new Error('the store has no unit');
  const entries = store.readLog(unit.id, 1, 500).map((body) => JSON.parse(body) as BatchEvent);
  store.close();
  return { unit, entries };
}

test('a fleet that is killed while it drops events keeps a log without gaps, and gives no seq to two events', async () => {
  const random = seededRandom();
  const path = join(await temporaryFolder('device-sim-log'), 'fleet.sqlite');
  const seen = new Map<number, string>();
  for (let round = 0; round < KILLS; round++) {
    const child = await startChild(path);
    const post = (action: string, body: object) =>
      fetch(`${child.url}/${action}`, { method: 'POST', body: JSON.stringify(body), keepalive: false });
    let lastShownSeq = 0;
    let killed = false;
    try {
      await post('faults', { declinePayments: true });
      const customers = Array.from({ length: 4 }, async () => {
        while (!killed) {
          await post('walk-up', { minutes: 30 });
          const shown = (await (await fetch(child.url)).json()) as { log: { lastSeq: number } };
          lastShownSeq = Math.max(lastShownSeq, shown.log.lastSeq);
        }
      });
      const customersEnded = Promise.allSettled(customers);
      const enough = (round + 1) * 3 * MAX_EVENTS;
      await eventually(() => lastShownSeq > enough);
      await Bun.sleep(random.below(50));
      killed = true;
      await child.kill();
      await customersEnded;
    } finally {
      await child.kill();
    }
    const { unit, entries } = readStore(path);
    const { log } = unit.model;
    expect(log.lastSeq).toBeGreaterThanOrEqual(lastShownSeq);
    expect(log.droppedSeq).toBeGreaterThan(0);
    const first = firstAvailableSeq(log);
    expect(entries.map(({ seq }) => seq)).toEqual(
      Array.from({ length: log.lastSeq + 1 - first }, (_, index) => first + index),
    );
    expect(entries.length).toBeLessThanOrEqual(MAX_EVENTS);
    expect(entries[0]?.type).toBe('UnitStateReported');
    for (const entry of entries) {
      const text = JSON.stringify(entry);
      expect(seen.get(entry.seq) ?? text).toBe(text);
      seen.set(entry.seq, text);
    }
  }
}, 180_000);

test('a store of the first version is migrated, and keeps its log', async () => {
  const storePath = join(await temporaryFolder('device-sim-log'), 'fleet.sqlite');
  const fleet = await startTestFleet(platform, { seed: 162, storePath });
  const unit = unitOf(fleet, 'VQ-1000');
  await declineCustomers(unit, 3);
  const { epoch, lastSeq } = unit.model.log;
  await fleet.stop();
  const database = new Database(storePath);
  for (const column of ['dropped_seq', 'checkpoint_seq', 'keypad'])
    database.run(`alter table unit drop column ${column}`);
  database.run('pragma user_version = 1');
  database.close();
  const again = await startTestFleet(platform, { seed: 162, storePath, maxUnrecordedEvents: 8 });
  expect(unitOf(again, 'VQ-1000').model.log).toMatchObject({ epoch, lastSeq: lastSeq + 2, checkpointSeq: lastSeq + 2 });
  await again.stop();
});

test('a bound of fewer than 8 events is refused', async () => {
  await expect(startTestFleet(platform, { maxUnrecordedEvents: 2 })).rejects.toThrow('at least 8 events');
});

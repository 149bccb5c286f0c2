/** The reference unit and the platform's fetches together: a log that was cut is known to be, and read on behind the cut. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { closeDoor, giveBackLocker, rentAtScreen } from '../../device-sim/unit/customer-actions.ts';
import { newUnitState } from '../../domain/unit/unit.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { UnitLogClient } from '../../platform/unit-log/unit-log-client.ts';
import { UnitLogRecorder } from '../../platform/unit-log/unit-log-recorder.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { fetchUnitLog } from '../../server/workers/fetch/fetch-unit-log.ts';
import { unlimitedBudgets } from '../support/budgets.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { appendRegistration } from '../support/registration.ts';
import { silentLog } from '../support/silent-log.ts';

const MAX_EVENTS = 20;
const newId = () => Bun.randomUUIDv7();
let platform: FieldPlatform;
beforeAll(async () => {
  platform = await startFieldPlatform();
});
afterAll(() => platform.stop());

/** The platform's record of one unit, in memory, filled by fetches alone. */
async function recordOf(unit: EmulatedUnit, commandChannel: 'http' | 'nats') {
  const decider = new UnitDecider({
    store: new MemoryEventStore(Date.now),
    loadSnapshot: async (name) => ({ state: newUnitState(name), completeTo: 0 }),
    newId,
    clock: Date.now,
    random: () => 0,
    sleep: async () => undefined,
    log: silentLog,
  });
  await appendRegistration(decider, unit.name, { address: unit.address, commandChannel });
  const deadLetters = {
    insertRejectedEvents: () => Promise.reject(new Error('nothing was to be rejected')),
    insertUnreadableBatch: () => Promise.reject(new Error('nothing was to be unreadable')),
  };
  const options = {
    decider,
    recorder: new UnitLogRecorder({
      decider,
      deadLetters,
      clockOffsets: { get: () => undefined },
      newEpochs: unlimitedBudgets(),
      newId,
      log: silentLog,
    }),
    unitLogClient: new UnitLogClient({ nats: platform.nats, signer: platform.signer, unitNowMs: Date.now }),
    unitInbox: { listPendingBatches: () => Promise.resolve([]) },
    events: unlimitedBudgets(),
    clock: Date.now,
  };
  return { fetch: () => fetchUnitLog(unit.name, options), state: () => decider.getState(unit.name) };
}

/** Somebody takes a locker and gives it back: six events. */
async function rentAndGiveBack(unit: EmulatedUnit, locker: string): Promise<void> {
  await unit.decide((model, around) => rentAtScreen(model, { locker, minutes: 60 }, around));
  await unit.decide((model, around) => closeDoor(model, locker, around));
  await unit.decide((model, around) => giveBackLocker(model, locker, around));
}

for (const [index, commandChannel] of (['http', 'nats'] as const).entries()) {
  test(`what a full log has let go is given up, and the lockers are as the unit says, over ${commandChannel}`, async () => {
    const fleet = await startTestFleet(platform, {
      units: 1,
      seed: 180 + index,
      maxUnrecordedEvents: MAX_EVENTS,
      channels: { probe: 'http', delivery: 'fetch', commandChannel },
    });
    try {
      const [unit] = fleet.units.values();
      if (unit === undefined) throw new Error('there is no unit');
      await eventually(() => fleet.readiness().connected === 1);
      const record = await recordOf(unit, commandChannel);
      await unit.decide((model, around) => rentAtScreen(model, { locker: 'A', minutes: 60 }, around));
      expect(await record.fetch()).toBe(5);
      const { epoch } = unit.model.log;
      expect((await record.state()).device).toMatchObject({ epochs: { [epoch]: 5 }, lockers: { A: { door: 'open' } } });

      await unit.setFaults({ offline: true });
      await expect(record.fetch()).rejects.toThrow(unit.name);
      // The customer of A leaves, and another one rents it. The unit loses these events before the platform fetches them.
      await unit.decide((model, around) => closeDoor(model, 'A', around));
      await unit.decide((model, around) => giveBackLocker(model, 'A', around));
      await unit.decide((model, around) => rentAtScreen(model, { locker: 'A', minutes: 90 }, around));
      for (let turn = 0; turn < 5; turn++) await rentAndGiveBack(unit, 'B');
      const { droppedSeq, lastSeq } = unit.model.log;
      expect(droppedSeq).toBeGreaterThan(11);

      await unit.setFaults({ offline: false });
      await eventually(() => fleet.readiness().connected === 1);
      expect(await record.fetch()).toBeGreaterThan(0);
      const { device, log } = await record.state();
      expect(log).toMatchObject({ gaps: {}, lost: { [epoch]: { fromSeq: 6, toSeq: droppedSeq } } });
      expect(device.epochs[epoch]).toBe(lastSeq);
      for (const { id, door, rental } of unit.model.lockers) {
        expect(device.lockers[id]?.door).toBe(door);
        expect(device.lockers[id]?.rental?.rentalId).toBe(rental?.rentalId);
      }

      // The next fetch names it recorded, and the unit has its room again.
      expect(await record.fetch()).toBe(0);
      expect(unit.model.log).toMatchObject({ lastSeq, recordedSeq: lastSeq });
      expect(unit.entries(1, 500).bodies).toEqual([]);
    } finally {
      await fleet.stop();
    }
  });
}

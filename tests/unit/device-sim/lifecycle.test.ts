import { describe, expect, test } from 'bun:test';
import { Value } from '@sinclair/typebox/value';
import fc from 'fast-check';
import { rentAtScreen } from '../../../device-sim/unit/customer-actions.ts';
import { markAcknowledged, markRecorded, rebootUnit, wipeUnit } from '../../../device-sim/unit/lifecycle.ts';
import type { Decision, UnitModel } from '../../../device-sim/unit/model.ts';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import { type DeviceState, evolveDevice, UNREPORTED_DEVICE } from '../../../domain/device/device.ts';
import { definitionOf, isEventType, upcast } from '../../../domain/events/catalogue.ts';
import { BatchEvent } from '../../../domain/unit-protocol/batch.ts';
import { after, around, countingIds, entryContent, MINUTE_MS, NOON_MS, newUnit } from '../../support/device-unit.ts';
import { asStored, performAction, unitAction } from '../../support/random-unit-actions.ts';

const factory = defaultConfiguration(600);
const NEW_LOG = { lastSeq: 1, acknowledgedSeq: 0, recordedSeq: 0, droppedSeq: 0, checkpointSeq: 0 };
const rentA = (unit: UnitModel) => rentAtScreen(unit, { locker: 'A', minutes: 60 }, around());

describe('a unit', () => {
  test('begins its log with one event in a new epoch', () => {
    const { log } = newUnit();
    expect(log).toEqual({ ...NEW_LOG, epoch: 'epoch-0' });
  });

  test('that reboots keeps its state and logs UnitRestarted', () => {
    const unit = after(newUnit(), rentA);
    const decision = rebootUnit(
      unit,
      around({ nowMs: NOON_MS + MINUTE_MS, newId: () => '018f0000-0000-7000-8123-456789abcdef' }),
    );
    expect(decision.entries.map(entryContent)).toEqual([
      { type: 'UnitRestarted', data: { bootId: '8123456789abcdef' } },
    ]);
    expect(decision.unit).toEqual({
      ...unit,
      bootId: '8123456789abcdef',
      bootedAtMs: NOON_MS + MINUTE_MS,
      log: { ...unit.log, lastSeq: unit.log.lastSeq + 1 },
    });
  });

  test('that is wiped begins a new epoch without rentals, with the doors unchanged', () => {
    const configured = { ...after(newUnit(), rentA), configuration: { ...factory, version: 7 } };
    const { unit, entries, answer } = wipeUnit(configured, factory, around());
    expect(answer.epoch).not.toBe(configured.log.epoch);
    expect(unit.log).toEqual({ ...NEW_LOG, epoch: answer.epoch });
    expect(unit.configuration).toBe(factory);
    expect(unit.answeredCommands).toEqual({});
    expect(entries.map(entryContent)).toEqual([
      {
        type: 'UnitStateReported',
        data: {
          reason: 'new-epoch',
          configurationHash: factory.hash,
          lockers: [
            { id: 'A', door: 'open' },
            { id: 'B', door: 'closed' },
            { id: 'C', door: 'closed' },
          ],
        },
      },
    ]);
  });
});

describe('a log', () => {
  const unit = after(newUnit(), rentA);
  const places = (acknowledgedSeq: number, recordedSeq: number) => ({ ...unit.log, acknowledgedSeq, recordedSeq });
  const table: { name: string; decision: Decision<null>; log: UnitModel['log'] }[] = [
    { name: 'is acknowledged', decision: markAcknowledged(unit, 'epoch-0', 3), log: places(3, 0) },
    { name: 'is not acknowledged beyond its end', decision: markAcknowledged(unit, 'epoch-0', 6), log: places(0, 0) },
    {
      name: 'is not acknowledged for another epoch',
      decision: markAcknowledged(unit, 'epoch-1', 3),
      log: places(0, 0),
    },
    {
      name: 'is not acknowledged backwards',
      decision: markAcknowledged(markAcknowledged(unit, 'epoch-0', 3).unit, 'epoch-0', 2),
      log: places(3, 0),
    },
    {
      name: 'is recorded, and is therefore not pushed',
      decision: markRecorded(unit, { epoch: 'epoch-0', seq: 4 }),
      log: places(4, 4),
    },
    {
      name: 'is not recorded beyond its end',
      decision: markRecorded(unit, { epoch: 'epoch-0', seq: 6 }),
      log: places(0, 0),
    },
    {
      name: 'is not recorded for another epoch',
      decision: markRecorded(unit, { epoch: 'epoch-1', seq: 1 }),
      log: places(0, 0),
    },
    {
      name: 'is not recorded backwards',
      decision: markRecorded(markRecorded(unit, { epoch: 'epoch-0', seq: 4 }).unit, { epoch: 'epoch-0', seq: 2 }),
      log: places(4, 4),
    },
  ];
  for (const { name, decision, log } of table) {
    test(name, () => {
      expect(decision.unit.log).toEqual(log);
      expect(decision.entries).toEqual([]);
    });
  }
});

test('the log has no gaps after any story, holds only events of the catalogue, and folds to the state of the unit', () => {
  fc.assert(
    fc.property(fc.array(unitAction, { maxLength: 60 }), (story) => {
      const newId = countingIds();
      const start = newUnit();
      let unit = start;
      let folded: DeviceState = UNREPORTED_DEVICE;
      for (const [index, action] of story.entries()) {
        const at = around({
          nowMs: NOON_MS + index * 1_000,
          newId,
          jammedLockers: new Set(action.jammed),
          doesTerminalDecline: action.declines,
        });
        const before = unit;
        const { unit: next, entries } = performAction(before, action, at, index);
        const firstSeq = next.log.epoch === before.log.epoch ? before.log.lastSeq + 1 : 1;
        expect(entries.map(({ seq }) => seq)).toEqual(entries.map((_, offset) => firstSeq + offset));
        expect(next.log.lastSeq).toBe(firstSeq + entries.length - 1);
        for (const entry of entries) {
          expect(Value.Check(BatchEvent, entry)).toBe(true);
          expect(isEventType(entry.type) && Value.Check(definitionOf(entry.type).schema, entry.data)).toBe(true);
          const event = upcast(asStored(entry));
          if (event === undefined) throw new Error(`${entry.type} cannot be folded`);
          folded = evolveDevice(folded, event);
        }
        unit = next;
        for (const { id, door, rental } of unit.lockers) {
          const known = folded.lockers[id];
          // The platform knows nothing of a locker of which nothing was reported yet.
          if (known === undefined || known.door === 'unknown') expect(rental).toBeUndefined();
          else expect(known.door).toBe(door);
          expect(known?.rental?.rentalId).toBe(rental?.rentalId);
          expect(known?.rental?.reservationId).toBe(rental?.reservationId);
        }
      }
    }),
    { numRuns: 300 },
  );
});

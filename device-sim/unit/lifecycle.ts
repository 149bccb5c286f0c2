/** Events in the life of a unit: first boot, reboot, wiped store, and how much of its log the platform has. */

import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import type { Locker } from '../../domain/vocabulary.ts';
import {
  type Decision,
  type DecisionContext,
  decisionWith,
  type EntryDraft,
  NOTHING_SYNCED,
  rentalReference,
  UNUSED_KEYPAD,
  type UnitModel,
} from './model.ts';

const BOOT_ID_LENGTH = 16;

/** The first boot of a unit. Its log begins with a report of the state of every locker. */
export function createUnit(
  plan: {
    readonly name: string;
    readonly lockers: readonly Locker[];
    readonly configuration: VersionedConfiguration;
  },
  context: DecisionContext,
): Decision<null> {
  const unit: UnitModel = {
    name: plan.name,
    ...newBoot(context),
    lockers: plan.lockers.map(({ id, size }) => ({ id, size, door: 'closed' })),
    synced: NOTHING_SYNCED,
    usedReservations: {},
    keypad: UNUSED_KEYPAD,
    configuration: plan.configuration,
    answeredCommands: {},
    log: newLog(context),
  };
  return decisionWith(unit, context, [stateReport(unit, 'new-epoch')], null);
}

/** The unit is switched off and on again. Its store is unchanged. */
export function rebootUnit(unit: UnitModel, context: DecisionContext): Decision<{ bootId: string }> {
  const boot = newBoot(context);
  const draft: EntryDraft = { type: 'UnitRestarted', data: { bootId: boot.bootId } };
  return decisionWith({ ...unit, ...boot }, context, [draft], { bootId: boot.bootId });
}

/**
 * The unit loses its store: rentals, reservations, configuration and log are gone, the doors stay as they are, and a new
 * epoch begins.
 * @param factoryConfiguration the configuration of a new unit
 */
export function wipeUnit(
  unit: UnitModel,
  factoryConfiguration: VersionedConfiguration,
  context: DecisionContext,
): Decision<{ epoch: string; bootId: string }> {
  const wiped: UnitModel = {
    name: unit.name,
    ...newBoot(context),
    lockers: unit.lockers.map(({ id, size, door }) => ({ id, size, door })),
    synced: NOTHING_SYNCED,
    usedReservations: {},
    keypad: UNUSED_KEYPAD,
    configuration: factoryConfiguration,
    answeredCommands: {},
    log: newLog(context),
  };
  const { bootId, log } = wiped;
  return decisionWith(wiped, context, [stateReport(wiped, 'new-epoch')], { epoch: log.epoch, bootId });
}

/** JetStream has acknowledged the log up to `seq`: the next push begins behind it. */
export function markAcknowledged(unit: UnitModel, epoch: string, seq: number): Decision<null> {
  const { log } = unit;
  const isKnown = epoch === log.epoch && seq > log.acknowledgedSeq && seq <= log.lastSeq;
  const next = isKnown ? { ...unit, log: { ...log, acknowledgedSeq: seq } } : unit;
  return { unit: next, entries: [], answer: null };
}

/**
 * The platform has named the log up to `seq` recorded: the unit deletes it. A place in another epoch, before an earlier
 * mark or behind the end of the log changes nothing.
 */
export function markRecorded(unit: UnitModel, place: { readonly epoch: string; readonly seq: number }): Decision<null> {
  const { log } = unit;
  const isKnown = place.epoch === log.epoch && place.seq > log.recordedSeq && place.seq <= log.lastSeq;
  if (!isKnown) return { unit, entries: [], answer: null };
  const acknowledgedSeq = Math.max(log.acknowledgedSeq, place.seq);
  return { unit: { ...unit, log: { ...log, recordedSeq: place.seq, acknowledgedSeq } }, entries: [], answer: null };
}

function newBoot({ newId, nowMs }: DecisionContext): { bootId: string; bootedAtMs: number } {
  return { bootId: newId().replaceAll('-', '').slice(-BOOT_ID_LENGTH), bootedAtMs: nowMs };
}

function newLog({ newId }: DecisionContext): UnitModel['log'] {
  return { epoch: newId(), lastSeq: 0, acknowledgedSeq: 0, recordedSeq: 0, droppedSeq: 0, checkpointSeq: 0 };
}

/** A report of the state of every locker. */
export function stateReport({ lockers, configuration }: UnitModel, reason: 'new-epoch' | 'gap'): EntryDraft {
  return {
    type: 'UnitStateReported',
    data: {
      reason,
      configurationHash: configuration.hash,
      lockers: lockers.map(({ id, door, rental }) => {
        if (rental === undefined) return { id, door };
        const { startedAt, until } = rental;
        return { id, door, rental: { ...rentalReference(rental), startedAt, until } };
      }),
    },
  };
}

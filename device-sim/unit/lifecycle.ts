/** The unit itself: its first boot, later boots, a wiped store, and how far others have its log. */

import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import type { Locker } from '../../domain/vocabulary.ts';
import {
  type Decision,
  type DecisionContext,
  decisionWith,
  type EntryDraft,
  rentalReference,
  type UnitModel,
} from './model.ts';

const BOOT_ID_LENGTH = 16;

/** A unit that is switched on for the first time: its log begins with the state of every locker. */
export function createUnit(
  made: {
    readonly name: string;
    readonly lockers: readonly Locker[];
    readonly configuration: VersionedConfiguration;
  },
  around: DecisionContext,
): Decision<null> {
  const unit: UnitModel = {
    name: made.name,
    ...newBoot(around),
    lockers: made.lockers.map(({ id, size }) => ({ id, size, door: 'closed' })),
    syncedList: { version: 0, reservations: [] },
    usedReservations: {},
    configuration: made.configuration,
    answeredCommands: {},
    log: newLog(around),
  };
  return decisionWith(unit, around, [stateReport(unit, 'new-epoch')], null);
}

/** Switched off and on again: everything that was stored is still there. */
export function rebootUnit(unit: UnitModel, around: DecisionContext): Decision<{ bootId: string }> {
  const boot = newBoot(around);
  const draft: EntryDraft = { type: 'UnitRestarted', data: { bootId: boot.bootId } };
  return decisionWith({ ...unit, ...boot }, around, [draft], { bootId: boot.bootId });
}

/**
 * The store was lost: rentals, reservations, configuration and log are gone, and a new epoch begins. The doors stand as
 * they stood. `factory` is what a new unit runs.
 */
export function wipeUnit(
  unit: UnitModel,
  factory: VersionedConfiguration,
  around: DecisionContext,
): Decision<{ epoch: string; bootId: string }> {
  const wiped: UnitModel = {
    name: unit.name,
    ...newBoot(around),
    lockers: unit.lockers.map(({ id, size, door }) => ({ id, size, door })),
    syncedList: { version: 0, reservations: [] },
    usedReservations: {},
    configuration: factory,
    answeredCommands: {},
    log: newLog(around),
  };
  const { bootId, log } = wiped;
  return decisionWith(wiped, around, [stateReport(wiped, 'new-epoch')], { epoch: log.epoch, bootId });
}

/** JetStream has everything up to `seq`: it need not be pushed again. */
export function markAcknowledged(unit: UnitModel, epoch: string, seq: number): Decision<null> {
  const { log } = unit;
  const known = epoch === log.epoch && seq > log.acknowledgedSeq && seq <= log.lastSeq;
  const next = known ? { ...unit, log: { ...log, acknowledgedSeq: seq } } : unit;
  return { unit: next, entries: [], answer: null };
}

/**
 * The platform names everything up to `seq` recorded: it may be deleted. A place in another epoch, an older one, or one
 * that the log has not reached changes nothing.
 */
export function markRecorded(unit: UnitModel, place: { readonly epoch: string; readonly seq: number }): Decision<null> {
  const { log } = unit;
  const known = place.epoch === log.epoch && place.seq > log.recordedSeq && place.seq <= log.lastSeq;
  if (!known) return { unit, entries: [], answer: null };
  const acknowledgedSeq = Math.max(log.acknowledgedSeq, place.seq);
  return { unit: { ...unit, log: { ...log, recordedSeq: place.seq, acknowledgedSeq } }, entries: [], answer: null };
}

function newBoot({ newId, nowMs }: DecisionContext): { bootId: string; bootedAtMs: number } {
  return { bootId: newId().replaceAll('-', '').slice(-BOOT_ID_LENGTH), bootedAtMs: nowMs };
}

function newLog({ newId }: DecisionContext): UnitModel['log'] {
  return { epoch: newId(), lastSeq: 0, acknowledgedSeq: 0, recordedSeq: 0, droppedSeq: 0, checkpointSeq: 0 };
}

/** The state of every locker. */
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

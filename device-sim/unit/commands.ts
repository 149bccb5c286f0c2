/** What the platform tells the unit to do. Each command is carried out once; asked again, the unit answers the same. */

import { overlaps, rentalPeriod } from '../../domain/booking/allocation.ts';
import {
  configurationHash,
  type VersionedConfiguration,
  validateConfiguration,
} from '../../domain/configuration-values.ts';
import type { Command, CommandAnswer, SyncedReservation } from '../../domain/unit-protocol/commands.ts';
import { MAX_TEXT_LENGTH, toInstant, toMs } from '../../domain/vocabulary.ts';
import { endRental, lockerOpenFailed } from './customer-actions.ts';
import {
  type Decision,
  type DecisionContext,
  decisionWith,
  type EntryDraft,
  lockerOf,
  type UnitModel,
  type UnitRental,
  withLocker,
} from './model.ts';

/** How long after its end a command is remembered: longer than any copy of its signature can pass for valid. */
export const ANSWERED_RETENTION_MS = 10 * 60_000;
/** Most commands that are remembered; a unit that is asked more refuses until the oldest may be forgotten. */
export const MAX_ANSWERED_COMMANDS = 1_000;

const MS_PER_S = 1_000;

type Answer = Omit<CommandAnswer, 'commandId'>;
type OpenLocker = Extract<Command, { openLocker: unknown }>['openLocker'];
type SyncReservations = Extract<Command, { syncReservations: unknown }>['syncReservations'];

/** A command whose signature holds. */
export interface VerifiedCommand {
  readonly command: Command;
  /** When the platform signed it, on its clock and to the second. */
  readonly issuedAtMs: number;
}

/** Carries out a command, or answers what it answered before. */
export function executeCommand(
  unit: UnitModel,
  order: VerifiedCommand,
  around: DecisionContext,
): Decision<CommandAnswer> {
  const { command } = order;
  const { commandId } = command;
  const before = Object.hasOwn(unit.answeredCommands, commandId) ? unit.answeredCommands[commandId] : undefined;
  if (before !== undefined) return { unit, entries: [], answer: before.answer };
  const remembered = Object.entries(unit.answeredCommands).filter(([, { forgetAtMs }]) => forgetAtMs > around.nowMs);
  if (remembered.length >= MAX_ANSWERED_COMMANDS) {
    return { unit, entries: [], answer: { commandId, status: 'refused', reason: 'too-many-commands' } };
  }
  const carriedOut = carryOut(unit, order, around);
  const answer = { commandId, ...carriedOut.answer };
  const forgetAtMs = Math.max(toMs(command.expiresAt) || 0, around.nowMs) + ANSWERED_RETENTION_MS;
  const answered = Object.fromEntries([...remembered, [commandId, { answer, forgetAtMs }]]);
  return { unit: { ...carriedOut.unit, answeredCommands: answered }, entries: carriedOut.entries, answer };
}

function carryOut(
  unit: UnitModel,
  { command, issuedAtMs }: VerifiedCommand,
  around: DecisionContext,
): Decision<Answer> {
  // Written so that a time which is none counts as passed.
  const inTime = around.nowMs <= toMs(command.expiresAt);
  if (!inTime) return decisionWith(unit, around, [], { status: 'refused', reason: 'expired' });
  if ('openLocker' in command) return openLockerByCommand(unit, command.commandId, command.openLocker, around);
  if ('applyConfiguration' in command) return applyConfiguration(unit, command.applyConfiguration, around);
  return syncReservations(unit, command.syncReservations, issuedAtMs, around);
}

/** Opens a door. The first opening for a reservation starts its rental. */
export function openLockerByCommand(
  unit: UnitModel,
  commandId: string,
  { locker: id, reservationId, until: given }: OpenLocker,
  around: DecisionContext,
): Decision<Answer> {
  const no = (status: 'failed' | 'refused', reason: string) => decisionWith(unit, around, [], { status, reason });
  const locker = lockerOf(unit, id);
  if (locker === undefined) return no('refused', 'unknown-locker');
  if (locker.rental !== undefined && locker.rental.reservationId !== reservationId) return no('failed', 'occupied');
  // A walk-up's locker has a rental without a reservation: a command without one means somebody else, too.
  if (locker.rental !== undefined && reservationId === undefined) return no('failed', 'occupied');
  const starts = locker.rental === undefined && reservationId !== undefined;
  if (starts && Object.hasOwn(unit.usedReservations, reservationId)) return no('failed', 'given-back');
  if (starts && unit.lockers.some((other) => other.rental?.reservationId === reservationId)) {
    return no('failed', 'rents-another-locker');
  }
  const known = unit.syncedList.reservations.find((reservation) => reservation.reservationId === reservationId);
  const until = given ?? known?.until;
  if (starts && until === undefined) return no('refused', 'until-missing');
  if (around.jammedLockers.has(id)) {
    return decisionWith(unit, around, [lockerOpenFailed(id, commandId)], { status: 'failed', reason: 'jammed' });
  }
  const opened: EntryDraft = {
    type: 'LockerOpened',
    locker: id,
    causationId: commandId,
    data: { cause: 'command', commandId },
  };
  const openDoor = { ...locker, door: 'open' } as const;
  if (!starts || until === undefined)
    return decisionWith(withLocker(unit, openDoor), around, [opened], { status: 'done' });
  const rental: UnitRental = {
    rentalId: around.newId(),
    reservationId,
    startedAt: toInstant(around.nowMs),
    until,
  };
  const started: EntryDraft = {
    type: 'RentalStarted',
    locker: id,
    causationId: commandId,
    data: { rentalId: rental.rentalId, reservationId, until },
  };
  return decisionWith(withLocker(unit, { ...openDoor, rental }), around, [started, opened], { status: 'done' });
}

/**
 * Takes a configuration whole or not at all, and answers with the hash of what runs now. What it cannot apply changes nothing:
 * it goes on with what it had.
 */
export function applyConfiguration(
  unit: UnitModel,
  wanted: VersionedConfiguration,
  around: DecisionContext,
): Decision<Answer> {
  const { configuration } = unit;
  const no = (status: 'failed' | 'refused', reason: string) =>
    decisionWith(unit, around, [], { status, reason, configurationHash: configuration.hash });
  const why = whyNot(configuration, wanted);
  if (why !== undefined) return no('refused', why);
  if (around.configurationFault === 'refuses') return no('refused', 'not-supported');
  if (around.configurationFault === 'fails') return no('failed', 'cannot-apply');
  const { version, hash, values } = wanted;
  if (around.configurationFault === 'other-hash') {
    return decisionWith(unit, around, [], { status: 'done', configurationHash: configuration.hash });
  }
  const configured = { ...unit, configuration: { version, hash, values } };
  return decisionWith(configured, around, [], { status: 'done', configurationHash: hash });
}

function whyNot(
  running: VersionedConfiguration,
  { version, hash, values }: VersionedConfiguration,
): string | undefined {
  if (hash !== configurationHash(values)) return 'hash';
  if (version < running.version) return 'older-version';
  if (values.minimumMinutes > values.maximumMinutes) return 'minimum-above-maximum';
  const [mistake] = validateConfiguration(values);
  return mistake === undefined ? undefined : `invalid: ${mistake.path} ${mistake.message}`.slice(0, MAX_TEXT_LENGTH);
}

/**
 * Keeps the list of the platform. A rental whose reservation is no longer in it is over once its door is closed. A list
 * that was made before the rental began, and never named its reservation, says nothing about it: the customer was faster.
 */
export function syncReservations(
  unit: UnitModel,
  { version, reservations }: SyncReservations,
  issuedAtMs: number,
  around: DecisionContext,
): Decision<Answer> {
  if (version < unit.syncedList.version) return decisionWith(unit, around, [], { status: 'done', rejected: [] });
  const rejected = reservations.flatMap((reservation) => {
    const reason = whyRejected(unit, reservation, around.nowMs);
    return reason === undefined ? [] : [{ reservationId: reservation.reservationId, reason }];
  });
  const refusedIds = new Set(rejected.map(({ reservationId }) => reservationId));
  const taken = reservations.filter(({ reservationId }) => !refusedIds.has(reservationId));
  const named = new Set(reservations.map(({ reservationId }) => reservationId));
  const namedBefore = new Set(unit.syncedList.reservations.map(({ reservationId }) => reservationId));
  const drafts: EntryDraft[] = [];
  let next: UnitModel = { ...unit, syncedList: { version, reservations: taken } };
  for (const locker of unit.lockers) {
    const { rental, door } = locker;
    if (rental?.reservationId === undefined) continue;
    if (named.has(rental.reservationId)) {
      if (rental.releaseOnClose === true) next = withLocker(next, { ...locker, rental: kept(rental) });
      continue;
    }
    const startedAtS = Math.floor(toMs(rental.startedAt) / MS_PER_S);
    if (!namedBefore.has(rental.reservationId) && issuedAtMs / MS_PER_S < startedAtS) continue;
    if (door === 'open') {
      next = withLocker(next, { ...locker, rental: { ...rental, releaseOnClose: true } });
    } else {
      const released = endRental(next, locker, rental, 'released', around.nowMs);
      next = released.unit;
      drafts.push(released.draft);
    }
  }
  return decisionWith(next, around, drafts, { status: 'done', rejected });
}

/** A rental that is to go on after all. */
function kept({ releaseOnClose: _, ...rental }: UnitRental): UnitRental {
  return rental;
}

function whyRejected(unit: UnitModel, wanted: SyncedReservation, nowMs: number): string | undefined {
  const locker = lockerOf(unit, wanted.locker);
  if (locker === undefined) return 'unknown-locker';
  const rented = rentalPeriod(locker, nowMs);
  if (rented === undefined || locker.rental?.reservationId !== undefined) return undefined;
  return overlaps(rented, { fromMs: toMs(wanted.from), untilMs: toMs(wanted.until) }) ? 'occupied' : undefined;
}

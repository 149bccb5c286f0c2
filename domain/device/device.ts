/**
 * The state that a unit reported, as a fold of its `device` events: how far its log is recorded, its doors and its rentals.
 *
 * (epoch, seq) identifies an event of the log. `epochs.ts` keeps the last recorded seq of each epoch.
 *
 * Times are on the platform's clock: `unit-clock.ts` subtracts the offset that the event of a wrong clock carries.
 */

import type { EventOf, EventType, KnownEvent } from '../events/catalogue.ts';
import { lockerOfSubject } from '../events/cloud-event.ts';
import { MAX_LOCKERS_PER_UNIT } from '../vocabulary.ts';
import { type RecordedEpochs, recordedSeq, recordSeq } from './epochs.ts';
import { type ClockStamp, correctedInstant, occurredAt } from './unit-clock.ts';
import { endUsage, findUsage, type ReservationUsage, rememberUsage } from './usage.ts';

export interface Rental {
  readonly rentalId: string;
  readonly reservationId?: string;
  readonly startedAt: string;
  readonly until: string;
}

export interface DeviceLocker {
  readonly door: 'open' | 'closed' | 'unknown';
  readonly rental?: Rental;
  /** When the door last failed to open, RFC 3339. The next opening removes it. */
  readonly openFailedAt?: string;
  /** Codes of the hardware errors of the locker that are raised and not cleared. */
  readonly errors?: readonly string[];
}

export interface DeviceState extends RecordedEpochs {
  /** The present epoch. */
  readonly epoch?: string;
  readonly lockers: Readonly<Record<string, DeviceLocker>>;
  /** One usage for each reservation, in the order of the last report of each. */
  readonly usages: readonly ReservationUsage[];
  /** The configuration hash that the unit reported last in its log, and when. */
  readonly reportedConfiguration?: { readonly hash: string; readonly at: string };
  /** When the newest event of the present epoch occurred. */
  readonly lastEventAt?: string;
}

export const UNREPORTED_DEVICE: DeviceState = { epochs: {}, lockers: {}, usages: [] };

type KnownEventOf<T extends EventType> = Extract<KnownEvent, { readonly type: T }>;

/** Bound on the raised errors of a locker: the first ones suffice to doubt the locker. */
const MAX_ERRORS_PER_LOCKER = 16;

/** Lockers of a unit's state: twice as many as can be registered, for a unit whose lockers were all replaced. Others are not folded. */
export const MAX_REPORTED_LOCKERS = 2 * MAX_LOCKERS_PER_UNIT;

const UNKNOWN_LOCKER: DeviceLocker = { door: 'unknown' };

/** Units choose the ids, so that properties which every object inherits must not count. */
function ownEntry<T>(record: Readonly<Record<string, T>>, id: string): T | undefined {
  return Object.hasOwn(record, id) ? record[id] : undefined;
}

/**
 * Records the place of an event in the unit's log, also of an unknown type: a recorded event must be recognised even by code that
 * cannot read it.
 */
export function advanceRecordedSeq(
  state: DeviceState,
  place: ClockStamp & { readonly unitepoch?: string; readonly unitseq?: number; readonly type: string },
): DeviceState {
  const { unitepoch, unitseq, type } = place;
  if (unitepoch === undefined || unitseq === undefined) return state;
  const recorded = recordSeq(state, { epoch: unitepoch, seq: unitseq, present: state.epoch });
  if (unitepoch !== state.epoch && !startsCurrentEpoch(state, { unitepoch, unitseq, type }))
    return { ...state, ...recorded };
  return { ...state, ...recorded, epoch: unitepoch, lastEventAt: occurredAt(place) };
}

/**
 * Whether an event of another epoch makes that epoch the present one. The first event of a new epoch does. A known epoch never becomes
 * the present one again: its late events are history, and so is the rest of an epoch whose beginning is lost. The state report that
 * follows a loss makes such an epoch the present one if its id (a UUIDv7) is newer.
 */
function startsCurrentEpoch(state: DeviceState, event: { unitepoch: string; unitseq: number; type: string }): boolean {
  if (state.epoch === undefined) return true;
  if (event.unitseq === 1) return recordedSeq(state, event.unitepoch) === 0;
  return event.type === 'UnitStateReported' && event.unitepoch > state.epoch;
}

/** Folds an event whose place is recorded already. */
export function evolveDevice(state: DeviceState, event: KnownEvent): DeviceState {
  const locker = lockerOfSubject(event.subject);
  if (event.unitepoch !== undefined && event.unitepoch !== state.epoch) return recordPastUsage(state, locker, event);
  switch (event.type) {
    case 'LockerOpened':
      return locker === undefined ? state : withOpenedDoor(state, locker);
    case 'LockerClosed':
      return locker === undefined ? state : withLocker(state, locker, { door: 'closed' });
    case 'LockerOpenFailed':
      return locker === undefined ? state : withLocker(state, locker, { openFailedAt: occurredAt(event) });
    case 'HardwareErrorRaised':
      return locker === undefined ? state : raiseError(state, locker, event.data.code);
    case 'HardwareErrorCleared':
      return locker === undefined ? state : clearError(state, locker, event.data.code);
    case 'RentalStarted':
      return locker === undefined ? state : startRental(state, locker, event);
    case 'RentalEnded':
      return locker === undefined ? state : endRental(state, locker, event.data, occurredAt(event));
    case 'UnitStateReported':
      return replaceReportedState(state, event);
    default:
      return state;
  }
}

function lockerState(state: DeviceState, locker: string): DeviceLocker {
  return ownEntry(state.lockers, locker) ?? UNKNOWN_LOCKER;
}

function withLocker(state: DeviceState, locker: string, changes: Partial<DeviceLocker>): DeviceState {
  return replaceLocker(state, locker, { ...lockerState(state, locker), ...changes });
}

function replaceLocker(state: DeviceState, locker: string, replacement: DeviceLocker): DeviceState {
  const { lockers } = state;
  if (!Object.hasOwn(lockers, locker) && Object.keys(lockers).length >= MAX_REPORTED_LOCKERS) return state;
  return { ...state, lockers: { ...lockers, [locker]: replacement } };
}

function withOpenedDoor(state: DeviceState, locker: string): DeviceState {
  const { openFailedAt: _, ...before } = lockerState(state, locker);
  return replaceLocker(state, locker, { ...before, door: 'open' });
}

function raiseError(state: DeviceState, locker: string, code: string): DeviceState {
  const { errors = [] } = lockerState(state, locker);
  if (errors.includes(code) || errors.length >= MAX_ERRORS_PER_LOCKER) return state;
  return withLocker(state, locker, { errors: [...errors, code] });
}

function clearError(state: DeviceState, locker: string, code: string): DeviceState {
  const { errors = [], ...before } = lockerState(state, locker);
  const left = errors.filter((raised) => raised !== code);
  const cleared = left.length === 0 ? before : { ...before, errors: left };
  return replaceLocker(state, locker, cleared);
}

function startRental(state: DeviceState, locker: string, event: KnownEventOf<'RentalStarted'>): DeviceState {
  const { rentalId, reservationId, until } = event.data;
  const time = occurredAt(event);
  const rental = correctedRental({ rentalId, reservationId, startedAt: event.time, until }, event);
  const before = lockerState(state, locker);
  const { lockers } = replaceLocker(state, locker, { ...before, rental });
  // A locker has one rental, so the former rental has ended even if its end was never reported.
  const uses =
    before.rental?.rentalId === rentalId ? state.usages : endUsage(state.usages, before.rental?.reservationId, time);
  if (reservationId === undefined) return { ...state, lockers, usages: uses };
  return { ...state, lockers, usages: rememberUsage(uses, { reservationId, startedAt: time, locker }) };
}

function endRental(state: DeviceState, locker: string, data: EventOf<'RentalEnded'>, time: string): DeviceState {
  const { rental, ...vacated } = lockerState(state, locker);
  const ended = rental?.rentalId === data.rentalId;
  const { lockers } = ended ? replaceLocker(state, locker, vacated) : state;
  const reservationId = data.reservationId ?? (ended ? rental.reservationId : undefined);
  if (reservationId === undefined) return { ...state, lockers };
  const use = findUsage(state.usages, reservationId) ?? { reservationId, startedAt: time, locker };
  return { ...state, lockers, usages: rememberUsage(state.usages, { ...use, endedAt: time }) };
}

/**
 * Folds an event of an earlier epoch. It says nothing about the doors now, but proves that a reservation was used. That usage has ended:
 * the new epoch reports what still runs.
 */
function recordPastUsage(state: DeviceState, locker: string | undefined, event: KnownEvent): DeviceState {
  if (locker === undefined || (event.type !== 'RentalStarted' && event.type !== 'RentalEnded')) return state;
  const { reservationId } = event.data;
  const time = occurredAt(event);
  if (reservationId === undefined) return state;
  const known = findUsage(state.usages, reservationId);
  if (known !== undefined && (known.endedAt === undefined || event.type === 'RentalStarted')) return state;
  const use = { reservationId, startedAt: known?.startedAt ?? time, locker: known?.locker ?? locker, endedAt: time };
  return { ...state, usages: rememberUsage(state.usages, use) };
}

/** A state report replaces the state of doors and rentals: a rental that it does not name has ended. */
function replaceReportedState(state: DeviceState, event: KnownEventOf<'UnitStateReported'>): DeviceState {
  const { data } = event;
  const time = occurredAt(event);
  const lockers: Record<string, DeviceLocker> = {};
  let uses = state.usages;
  for (const { id, door, rental: reported } of data.lockers.slice(0, MAX_REPORTED_LOCKERS)) {
    const rental = reported === undefined ? undefined : correctedRental(reported, event);
    // A state report says nothing of failed doors and of errors.
    const { rental: _, ...before } = lockerState(state, id);
    lockers[id] = rental === undefined ? { ...before, door } : { ...before, door, rental };
    if (rental?.reservationId !== undefined) {
      uses = rememberUsage(uses, { reservationId: rental.reservationId, startedAt: rental.startedAt, locker: id });
    }
  }
  const running = new Set(data.lockers.map((locker) => locker.rental?.reservationId));
  for (const use of uses) {
    if (use.endedAt === undefined && !running.has(use.reservationId))
      uses = rememberUsage(uses, { ...use, endedAt: time });
  }
  return { ...state, lockers, usages: uses, reportedConfiguration: { hash: data.configurationHash, at: time } };
}

/** The rental of an event. The platform set the end of a reservation's rental, so that it needs no clock correction. */
function correctedRental(
  reported: {
    readonly rentalId: string;
    readonly reservationId?: string | undefined;
    readonly startedAt: string;
    readonly until: string;
  },
  event: ClockStamp,
): Rental {
  const { rentalId, reservationId } = reported;
  const startedAt = correctedInstant(reported.startedAt, event);
  if (reservationId === undefined) return { rentalId, startedAt, until: correctedInstant(reported.until, event) };
  return { rentalId, startedAt, until: reported.until, reservationId };
}

/**
 * What a unit said about itself, folded: how far its log is recorded, what its doors and rentals are.
 *
 * The log identity is (epoch, seq). The last recorded seq of every epoch is kept for ever, so that a replay of any age is
 * recognised; a unit has few epochs, one for each time its store was wiped.
 *
 * Times are the platform's: what a wrong clock said is corrected by the offset that its event carries (`clock.ts`).
 */

import type { EventOf, EventType, KnownEvent } from '../events/catalogue.ts';
import { lockerOfSubject } from '../events/envelope.ts';
import { toMs } from '../vocabulary.ts';
import { type ClockStamp, correctedInstant, occurredAt } from './unit-clock.ts';

/** Uses that are remembered after they ended, however long ago that was. */
const MIN_REMEMBERED_USES = 64;
/** Most that are remembered, also when they all ended lately: as many as one batch of a unit can report. */
const MAX_REMEMBERED_USES = 500;
/**
 * Uses that ended this long before the newest are old. Their bookings are closed: a confirmed reservation that is not
 * known to be used is given up after as long (`NO_SHOW_GRACE_MS`).
 */
const USE_MEMORY_MS = 24 * 60 * 60_000;

export interface Rental {
  readonly rentalId: string;
  readonly reservationId?: string;
  readonly startedAt: string;
  readonly until: string;
}

export interface DeviceLocker {
  readonly door: 'open' | 'closed' | 'unknown';
  readonly rental?: Rental;
}

/** How a reservation was used at the unit. */
export interface Usage {
  readonly startedAt: string;
  readonly locker: string;
  readonly endedAt?: string;
}

/** A use that is remembered. */
export interface ReservationUsage extends Usage {
  readonly reservationId: string;
}

export interface DeviceState {
  /** Last recorded seq by epoch. */
  readonly epochs: Readonly<Record<string, number>>;
  /** The epoch that was heard of last: the present one. */
  readonly epoch?: string;
  readonly lockers: Readonly<Record<string, DeviceLocker>>;
  /** In the order in which they were told of last, one for each reservation. */
  readonly uses: readonly ReservationUsage[];
  /** Hash of the configuration that the unit last said in its log it runs, and when. */
  readonly runs?: { readonly hash: string; readonly at: string };
  /** When the newest event of the present epoch occurred. */
  readonly lastEventAt?: string;
}

export const UNREPORTED_DEVICE: DeviceState = { epochs: {}, lockers: {}, uses: [] };

type KnownEventOf<T extends EventType> = Extract<KnownEvent, { readonly type: T }>;

const UNKNOWN_LOCKER: DeviceLocker = { door: 'unknown' };

/** The last recorded seq of an epoch, 0 if the platform has none of it. */
export function recordedSeq(state: DeviceState, epoch: string): number {
  return ownEntry(state.epochs, epoch) ?? 0;
}

/** Units choose the ids: what every object inherits is no entry. */
function ownEntry<T>(record: Readonly<Record<string, T>>, id: string): T | undefined {
  return Object.hasOwn(record, id) ? record[id] : undefined;
}

/**
 * Takes note of the place of an event in the unit's log, known type or not: what is recorded must be recognised even when
 * this code cannot read it.
 */
export function advanceRecordedSeq(
  state: DeviceState,
  place: ClockStamp & { readonly unitepoch?: string; readonly unitseq?: number; readonly type: string },
): DeviceState {
  const { unitepoch, unitseq, type } = place;
  if (unitepoch === undefined || unitseq === undefined) return state;
  const recorded = recordedSeq(state, unitepoch);
  const epochs = { ...state.epochs, [unitepoch]: Math.max(recorded, unitseq) };
  if (unitepoch !== state.epoch && !startsCurrentEpoch(state, { unitepoch, unitseq, type }))
    return { ...state, epochs };
  return { ...state, epochs, epoch: unitepoch, lastEventAt: occurredAt(place) };
}

/**
 * Whether an event of another epoch begins the present one: the first of an epoch that is new does. An epoch never comes
 * back: what arrives late of one that is known is history, and so is what is left of one whose beginning is lost. The report
 * of the unit's state that follows on a loss makes such an epoch the present one, if by the time in its id it is newer.
 */
function startsCurrentEpoch(state: DeviceState, event: { unitepoch: string; unitseq: number; type: string }): boolean {
  if (state.epoch === undefined) return true;
  if (event.unitseq === 1) return recordedSeq(state, event.unitepoch) === 0;
  return event.type === 'UnitStateReported' && event.unitepoch > state.epoch;
}

/** Folds an event whose place is recorded. */
export function evolveDevice(state: DeviceState, event: KnownEvent): DeviceState {
  const locker = lockerOfSubject(event.subject);
  if (event.unitepoch !== undefined && event.unitepoch !== state.epoch) return recordPastUsage(state, locker, event);
  switch (event.type) {
    case 'LockerOpened':
      return locker === undefined ? state : withDoor(state, locker, 'open');
    case 'LockerClosed':
      return locker === undefined ? state : withDoor(state, locker, 'closed');
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

function withDoor(state: DeviceState, locker: string, door: DeviceLocker['door']): DeviceState {
  return { ...state, lockers: { ...state.lockers, [locker]: { ...lockerState(state, locker), door } } };
}

function startRental(state: DeviceState, locker: string, event: KnownEventOf<'RentalStarted'>): DeviceState {
  const { rentalId, reservationId, until } = event.data;
  const time = occurredAt(event);
  const rental = correctedRental({ rentalId, reservationId, startedAt: event.time, until }, event);
  const before = lockerState(state, locker);
  const lockers = { ...state.lockers, [locker]: { ...before, rental } };
  // A locker has one rental: whoever was in it before is gone, even if that was never told.
  const uses =
    before.rental?.rentalId === rentalId ? state.uses : endUsage(state.uses, before.rental?.reservationId, time);
  if (reservationId === undefined) return { ...state, lockers, uses };
  return { ...state, lockers, uses: rememberUsage(uses, { reservationId, startedAt: time, locker }) };
}

function endRental(state: DeviceState, locker: string, data: EventOf<'RentalEnded'>, time: string): DeviceState {
  const { door, rental } = lockerState(state, locker);
  const ended = rental?.rentalId === data.rentalId;
  const lockers = ended ? { ...state.lockers, [locker]: { door } } : state.lockers;
  const reservationId = data.reservationId ?? (ended ? rental.reservationId : undefined);
  if (reservationId === undefined) return { ...state, lockers };
  const use = findUsage(state.uses, reservationId) ?? { reservationId, startedAt: time, locker };
  return { ...state, lockers, uses: rememberUsage(state.uses, { ...use, endedAt: time }) };
}

export function findUsage(uses: DeviceState['uses'], reservationId: string): ReservationUsage | undefined {
  return uses.find((use) => use.reservationId === reservationId);
}

function endUsage(uses: DeviceState['uses'], reservationId: string | undefined, time: string): DeviceState['uses'] {
  const use = reservationId === undefined ? undefined : findUsage(uses, reservationId);
  if (reservationId === undefined || use === undefined || use.endedAt !== undefined) return uses;
  return rememberUsage(uses, { ...use, endedAt: time });
}

/**
 * What a unit did before its store was wiped says nothing about its doors now, but it proves that a reservation was used.
 * That use is over: what still runs, the new epoch has reported.
 */
function recordPastUsage(state: DeviceState, locker: string | undefined, event: KnownEvent): DeviceState {
  if (locker === undefined || (event.type !== 'RentalStarted' && event.type !== 'RentalEnded')) return state;
  const { reservationId } = event.data;
  const time = occurredAt(event);
  if (reservationId === undefined) return state;
  const known = findUsage(state.uses, reservationId);
  if (known !== undefined && (known.endedAt === undefined || event.type === 'RentalStarted')) return state;
  const use = { reservationId, startedAt: known?.startedAt ?? time, locker: known?.locker ?? locker, endedAt: time };
  return { ...state, uses: rememberUsage(state.uses, use) };
}

/** A state report replaces what was believed: a rental that it does not name is over. */
function replaceReportedState(state: DeviceState, event: KnownEventOf<'UnitStateReported'>): DeviceState {
  const { data } = event;
  const time = occurredAt(event);
  const lockers: Record<string, DeviceLocker> = {};
  let uses = state.uses;
  for (const { id, door, rental: reported } of data.lockers) {
    const rental = reported === undefined ? undefined : correctedRental(reported, event);
    lockers[id] = rental === undefined ? { door } : { door, rental };
    if (rental?.reservationId !== undefined) {
      uses = rememberUsage(uses, { reservationId: rental.reservationId, startedAt: rental.startedAt, locker: id });
    }
  }
  const running = new Set(data.lockers.map((locker) => locker.rental?.reservationId));
  for (const use of uses) {
    if (use.endedAt === undefined && !running.has(use.reservationId))
      uses = rememberUsage(uses, { ...use, endedAt: time });
  }
  return { ...state, lockers, uses, runs: { hash: data.configurationHash, at: time } };
}

/** A rental that an event tells of. The end of a reservation's came from the platform, and needs no correction. */
function correctedRental(
  told: {
    readonly rentalId: string;
    readonly reservationId?: string | undefined;
    readonly startedAt: string;
    readonly until: string;
  },
  event: ClockStamp,
): Rental {
  const { rentalId, reservationId } = told;
  const startedAt = correctedInstant(told.startedAt, event);
  if (reservationId === undefined) return { rentalId, startedAt, until: correctedInstant(told.until, event) };
  return { rentalId, startedAt, until: told.until, reservationId };
}

/** Puts a use last, and lets the first ones go beyond the bounds; a use that still runs is never forgotten. */
function rememberUsage(uses: readonly ReservationUsage[], use: ReservationUsage): readonly ReservationUsage[] {
  const kept = uses.filter(({ reservationId }) => reservationId !== use.reservationId);
  kept.push(use);
  if (kept.length <= MIN_REMEMBERED_USES) return kept;
  let surplus = kept.filter(({ endedAt }) => endedAt !== undefined).length - MIN_REMEMBERED_USES;
  if (surplus <= 0) return kept;
  const oldMs = toMs(use.endedAt ?? use.startedAt) - USE_MEMORY_MS;
  return kept.filter(({ endedAt }) => {
    if (endedAt === undefined || surplus <= 0) return true;
    surplus -= 1;
    if (surplus >= MAX_REMEMBERED_USES - MIN_REMEMBERED_USES || toMs(endedAt) < oldMs) return false;
    // Those behind it ended later, as a rule.
    surplus = 0;
    return true;
  });
}

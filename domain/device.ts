/**
 * What a unit said about itself, folded: how far its log is recorded, what its doors and rentals are.
 *
 * The log identity is (epoch, seq). The last recorded seq of every epoch is kept for ever, so that a replay of any age is
 * recognised; a unit has few epochs, one for each time its store was wiped.
 */

import { lockerOfSubject } from './envelope.ts';
import type { EventOf, KnownEvent } from './events/catalogue.ts';

/** Reservations whose use is remembered after it ended: enough to settle every booking that can still be open. */
const MAX_REMEMBERED_USES = 64;

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
export interface ReservationUse {
  readonly startedAt: string;
  readonly locker: string;
  readonly endedAt?: string;
}

export interface DeviceState {
  /** Last recorded seq by epoch. */
  readonly epochs: Readonly<Record<string, number>>;
  /** The epoch of the newest event. */
  readonly epoch?: string;
  readonly lockers: Readonly<Record<string, DeviceLocker>>;
  readonly uses: Readonly<Record<string, ReservationUse>>;
  /** Hash of the configuration that the unit last said it runs. */
  readonly configurationHash?: string;
  /** Time of the newest event, on the unit's clock. */
  readonly lastEventAt?: string;
}

export const SILENT_DEVICE: DeviceState = { epochs: {}, lockers: {}, uses: {} };

const UNKNOWN_LOCKER: DeviceLocker = { door: 'unknown' };

/** The last recorded seq of an epoch, 0 if the platform has none of it. */
export function recordedSeq(state: DeviceState, epoch: string): number {
  return state.epochs[epoch] ?? 0;
}

/**
 * Takes note of the place of an event in the unit's log, known type or not: what is recorded must be recognised even when
 * this code cannot read it.
 */
export function recordPlace(
  state: DeviceState,
  place: { readonly unitepoch?: string; readonly unitseq?: number; readonly time: string },
): DeviceState {
  const { unitepoch, unitseq } = place;
  if (unitepoch === undefined || unitseq === undefined) return state;
  return {
    ...state,
    epochs: { ...state.epochs, [unitepoch]: Math.max(recordedSeq(state, unitepoch), unitseq) },
    epoch: unitepoch,
    lastEventAt: place.time,
  };
}

export function evolveDevice(state: DeviceState, event: KnownEvent): DeviceState {
  const locker = lockerOfSubject(event.subject);
  switch (event.type) {
    case 'LockerOpened':
      return locker === undefined ? state : withDoor(state, locker, 'open');
    case 'LockerClosed':
      return locker === undefined ? state : withDoor(state, locker, 'closed');
    case 'RentalStarted':
      return locker === undefined ? state : startRental(state, locker, event.data, event.time);
    case 'RentalEnded':
      return locker === undefined ? state : endRental(state, locker, event.data, event.time);
    case 'UnitStateReported':
      return reportState(state, event.data, event.time);
    default:
      return state;
  }
}

function lockerState(state: DeviceState, locker: string): DeviceLocker {
  return state.lockers[locker] ?? UNKNOWN_LOCKER;
}

function withDoor(state: DeviceState, locker: string, door: DeviceLocker['door']): DeviceState {
  return { ...state, lockers: { ...state.lockers, [locker]: { ...lockerState(state, locker), door } } };
}

function startRental(state: DeviceState, locker: string, data: EventOf<'RentalStarted'>, time: string): DeviceState {
  const { rentalId, reservationId, until } = data;
  const rental: Rental = {
    rentalId,
    startedAt: time,
    until,
    ...(reservationId === undefined ? {} : { reservationId }),
  };
  const lockers = { ...state.lockers, [locker]: { ...lockerState(state, locker), rental } };
  if (reservationId === undefined) return { ...state, lockers };
  return { ...state, lockers, uses: remember(state.uses, reservationId, { startedAt: time, locker }) };
}

function endRental(state: DeviceState, locker: string, data: EventOf<'RentalEnded'>, time: string): DeviceState {
  const { door, rental } = lockerState(state, locker);
  const ended = rental?.rentalId === data.rentalId;
  const lockers = ended ? { ...state.lockers, [locker]: { door } } : state.lockers;
  if (data.reservationId === undefined) return { ...state, lockers };
  const use = state.uses[data.reservationId] ?? { startedAt: time, locker };
  return { ...state, lockers, uses: remember(state.uses, data.reservationId, { ...use, endedAt: time }) };
}

/** A state report replaces what was believed: a rental that it does not name is over. */
function reportState(state: DeviceState, data: EventOf<'UnitStateReported'>, time: string): DeviceState {
  const lockers: Record<string, DeviceLocker> = {};
  let uses = state.uses;
  for (const { id, door, rental } of data.lockers) {
    lockers[id] = rental === undefined ? { door } : { door, rental: withoutUndefined(rental) };
    if (rental?.reservationId !== undefined) {
      uses = remember(uses, rental.reservationId, { startedAt: rental.startedAt, locker: id });
    }
  }
  const running = new Set(data.lockers.map((locker) => locker.rental?.reservationId));
  for (const [reservationId, use] of Object.entries(uses)) {
    if (use.endedAt === undefined && !running.has(reservationId)) {
      uses = remember(uses, reservationId, { ...use, endedAt: time });
    }
  }
  return { ...state, lockers, uses, configurationHash: data.configurationHash };
}

function withoutUndefined(rental: {
  rentalId: string;
  reservationId?: string | undefined;
  startedAt: string;
  until: string;
}): Rental {
  const { rentalId, reservationId, startedAt, until } = rental;
  return { rentalId, startedAt, until, ...(reservationId === undefined ? {} : { reservationId }) };
}

/** Keeps the newest uses; a use that still runs is never forgotten. */
function remember(
  uses: Readonly<Record<string, ReservationUse>>,
  reservationId: string,
  use: ReservationUse,
): Record<string, ReservationUse> {
  const { [reservationId]: _, ...others } = uses;
  const kept = { ...others, [reservationId]: use };
  const ended = Object.keys(kept).filter((id) => kept[id]?.endedAt !== undefined);
  for (const id of ended.slice(0, Math.max(0, ended.length - MAX_REMEMBERED_USES))) delete kept[id];
  return kept;
}

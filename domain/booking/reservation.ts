/**
 * A reservation and the fold of a unit's `booking` events.
 *
 *   held ──confirm──▶ confirmed ──start──▶ active ──end──▶ completed
 *    │                    │                  ▲
 *    ├──cancel──▶ cancelled ◀──cancel──┤     │
 *    ├──time────▶ expired ◀──no-show───┤     ├── used at a unit that had no connection
 *    └──conflict▶ rejected ◀─conflict──┘     │   (from each of these three, and from held)
 *                     └──────────────────────┘
 *
 * A reservation that was completed because of what a unit reported becomes active again when the unit reports a later use of it.
 */

import type { EventOf } from '../events/catalogue.ts';
import type { EventDraft } from '../events/drafts.ts';
import type { LockerSize, Money } from '../vocabulary.ts';
import { addFinished } from './finished-reservations.ts';

/** Command ids that a reservation keeps, so that a repeated command changes nothing. */
const MAX_REMEMBERED_COMMANDS = 16;

/** Former lockers that a reservation keeps until the unit accepts the new one. */
const MAX_FORMER_LOCKERS = 8;
/** Failed lockers that a reservation keeps. */
const MAX_FAILED_LOCKERS = 8;
/** The reasons of a unit for which another locker may open. */
const LOCKER_FAILURES: ReadonlySet<string> = new Set(['occupied', 'jammed', 'interrupted', 'unknown-locker']);

export type OpenResult = EventOf<'LockerOpenAnswered'>['result'];
export type ReservationStatus = 'held' | 'confirmed' | 'active' | 'completed' | 'cancelled' | 'expired' | 'rejected';

export interface Reservation {
  /** `<unit>.<uuid>` */
  readonly id: string;
  readonly customer: string;
  readonly status: ReservationStatus;
  readonly locker: string;
  /** The size of the locker. After a move it can be larger than `bookedSize`. */
  readonly size: LockerSize;
  readonly bookedSize: LockerSize;
  readonly from: string;
  readonly until: string;
  readonly holdExpiresAt: string;
  readonly price: Money;
  readonly unitAck: 'pending' | 'accepted' | 'rejected';
  readonly paymentReference?: string;
  /** The draw of its access code; absent for the first one, 0. */
  readonly accessCodeDraw?: number;
  readonly confirmedAt?: string;
  readonly startedAt?: string;
  readonly endedAt?: string;
  /** Lockers that it had since the unit last accepted it, oldest first: the unit may still list it there. */
  readonly formerLockers?: readonly string[];
  /** Whether a report of the unit ended it, and not its customer or an operator. */
  readonly isEndedByUnit?: true;
  /** When each locker first failed to open for the reservation, RFC 3339, by locker. It does not go back to these. */
  readonly failedLockers?: Readonly<Record<string, string>>;
  /** Ids of the commands that changed it, oldest first, without those that open doors (`opens`). */
  readonly commandIds: readonly string[];
  /** The outcomes of requests to open it, by command id; `pending` before the answer. */
  readonly openResults: Readonly<Record<string, string>>;
  /** Until when the unit may carry out the last command to open, RFC 3339. */
  readonly openableUntil?: string;
}

/** The part of an event that the fold needs: its data, when it occurred, and the command that caused it. */
export type BookingEvent = EventDraft & { readonly time: string; readonly causationid?: string };

/** Each reservation is in one of the lists. They are arrays because a fold copies them for every event, and arrays copy fast. */
export interface BookingState {
  /** Reservations that are not finished, in the order of their holds; one that is used after it had finished comes last. */
  readonly open: readonly Reservation[];
  /** Reservations that finished, in the order in which they finished; `finished-reservations.ts` says which are kept. */
  readonly finished: readonly Reservation[];
}

export const NO_BOOKINGS: BookingState = { open: [], finished: [] };

const FINISHED: ReadonlySet<ReservationStatus> = new Set(['completed', 'cancelled', 'expired', 'rejected']);

export function isFinished(reservation: Reservation): boolean {
  return FINISHED.has(reservation.status);
}

export function findReservation({ open, finished }: BookingState, id: string): Reservation | undefined {
  return open[lastIndexOf(open, id)] ?? finished[lastIndexOf(finished, id)];
}

/** The index of a reservation, or -1. The newest ones come last, and most commands and events are about them. */
function lastIndexOf(reservations: readonly Reservation[], id: string): number {
  for (let index = reservations.length - 1; index >= 0; index -= 1) {
    if (reservations[index]?.id === id) return index;
  }
  return -1;
}

export function allReservations({ open, finished }: BookingState): readonly Reservation[] {
  return [...open, ...finished];
}

export function evolveBooking(state: BookingState, event: BookingEvent): BookingState {
  const id = 'reservationId' in event.data ? event.data.reservationId : undefined;
  if (id === undefined) return state;
  const openAt = lastIndexOf(state.open, id);
  const finishedAt = openAt >= 0 ? -1 : lastIndexOf(state.finished, id);
  const reservation = evolveReservation(state.open[openAt] ?? state.finished[finishedAt], event);
  return reservation === undefined ? state : withReservation(state, reservation, openAt, finishedAt);
}

/** The reservation of an event after it; `undefined` when the state does not have the reservation. */
export function evolveReservation(before: Reservation | undefined, event: BookingEvent): Reservation | undefined {
  if (event.type === 'ReservationHeld') return withCommand(newReservation(event.data), event);
  return before === undefined ? undefined : withCommand(applyEvent(before, event), event);
}

function newReservation(data: EventOf<'ReservationHeld'>): Reservation {
  const { reservationId, customer, locker, size, from, until, holdExpiresAt, price } = data;
  return {
    id: reservationId,
    customer,
    status: 'held',
    locker,
    size,
    bookedSize: size,
    from,
    until,
    holdExpiresAt,
    price,
    unitAck: 'pending',
    commandIds: [],
    openResults: {},
  };
}

function applyEvent(reservation: Reservation, event: BookingEvent): Reservation {
  switch (event.type) {
    case 'ReservationConfirmed':
      return {
        ...reservation,
        status: 'confirmed',
        paymentReference: event.data.paymentReference,
        ...(event.data.accessCodeDraw === undefined ? {} : { accessCodeDraw: event.data.accessCodeDraw }),
        confirmedAt: event.time,
      };
    case 'ReservationCancelled':
      return { ...reservation, status: 'cancelled' };
    case 'ReservationExpired':
      return { ...reservation, status: 'expired' };
    case 'ReservationAccepted':
      return withoutFormerLockers({ ...reservation, unitAck: 'accepted' });
    case 'ReservationRefusedByUnit':
      return withFailure({ ...reservation, unitAck: 'rejected' }, event.data.locker, event.time);
    case 'ReservationRejected':
      return { ...reservation, status: 'rejected', unitAck: 'rejected' };
    case 'ReservationMoved':
      return withFormerLocker(
        { ...reservation, locker: event.data.toLocker, size: event.data.size, unitAck: 'pending' },
        reservation.locker,
      );
    case 'ReservationStarted': {
      const { endedAt: _, isEndedByUnit: __, ...before } = reservation;
      return { ...before, status: 'active', locker: event.data.locker, startedAt: event.data.startedAt };
    }
    case 'ReservationCompleted': {
      const { endedAt, endedBy } = event.data;
      return { ...reservation, status: 'completed', endedAt, ...(endedBy === 'unit' ? { isEndedByUnit: true } : {}) };
    }
    case 'LockerOpenRequested':
      return {
        ...reservation,
        openResults: withOpen(reservation.openResults, event.data.commandId, 'pending'),
        openableUntil: event.data.expiresAt,
      };
    case 'LockerOpenAnswered':
      return withFailedLocker(
        { ...reservation, openResults: withOpen(reservation.openResults, event.data.commandId, event.data.result) },
        event.data,
        event.time,
      );
    default:
      return reservation;
  }
}

/** @param openAt its index in `open`, or -1 @param finishedAt its index in `finished`, or -1 */
function withReservation(
  { open, finished }: BookingState,
  reservation: Reservation,
  openAt: number,
  finishedAt: number,
): BookingState {
  if (!isFinished(reservation)) {
    if (openAt >= 0) return { open: open.with(openAt, reservation), finished };
    return { open: [...open, reservation], finished: withoutIndex(finished, finishedAt) };
  }
  if (finishedAt >= 0) return { open, finished: finished.with(finishedAt, reservation) };
  return { open: withoutIndex(open, openAt), finished: addFinished(finished, reservation) };
}

/** `at` is the index to replace; a negative one appends. */
function withoutIndex(reservations: readonly Reservation[], at: number): readonly Reservation[] {
  return at < 0 ? reservations : reservations.toSpliced(at, 1);
}

/** The reservation with the id of the command that caused the event; `opens` holds those that open doors. */
function withCommand(reservation: Reservation, { type, causationid }: BookingEvent): Reservation {
  const isOpening = type === 'LockerOpenRequested' || type === 'LockerOpenAnswered';
  if (causationid === undefined || isOpening || reservation.commandIds.includes(causationid)) return reservation;
  return { ...reservation, commandIds: [...reservation.commandIds, causationid].slice(-MAX_REMEMBERED_COMMANDS) };
}

/** The reservation after an answer to a request to open. A failure that another locker can mend is kept with its locker. */
function withFailedLocker(
  reservation: Reservation,
  { locker, result, reason }: EventOf<'LockerOpenAnswered'>,
  time: string,
): Reservation {
  const { failedLockers = {} } = reservation;
  if (result === 'opened' && Object.hasOwn(failedLockers, locker)) {
    const { [locker]: _, ...others } = failedLockers;
    return { ...reservation, failedLockers: others };
  }
  return isFailureOfLocker(result, reason) ? withFailure(reservation, locker, time) : reservation;
}

function withFormerLocker(reservation: Reservation, locker: string): Reservation {
  const { formerLockers = [] } = reservation;
  return { ...reservation, formerLockers: [...formerLockers, locker].slice(-MAX_FORMER_LOCKERS) };
}

function withoutFormerLockers({ formerLockers: _, ...reservation }: Reservation): Reservation {
  return reservation;
}

function withFailure(reservation: Reservation, locker: string, time: string): Reservation {
  const { failedLockers = {} } = reservation;
  // The first failure counts: a customer who tries again and again must not put off the end of the wait.
  if (Object.hasOwn(failedLockers, locker)) return reservation;
  const failed = Object.entries({ ...failedLockers, [locker]: time }).slice(-MAX_FAILED_LOCKERS);
  return { ...reservation, failedLockers: Object.fromEntries(failed) };
}

/** Whether a unit did not open because of the locker, so that another locker may open. */
export function isFailureOfLocker(result: OpenResult, reason: string | undefined): boolean {
  return (result === 'failed' || result === 'refused') && reason !== undefined && LOCKER_FAILURES.has(reason);
}

function withOpen(opens: Reservation['openResults'], commandId: string, result: string): Reservation['openResults'] {
  const entries = Object.entries({ ...opens, [commandId]: result });
  return Object.fromEntries(entries.slice(-MAX_REMEMBERED_COMMANDS));
}

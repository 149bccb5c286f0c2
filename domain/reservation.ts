/**
 * A reservation and the fold of a unit's `booking` events.
 *
 *   held ──confirm──▶ confirmed ──start──▶ active ──end──▶ completed
 *    │                    │                  ▲
 *    ├──cancel──▶ cancelled ◀──cancel──┤     │
 *    ├──time────▶ expired ◀──no-show───┤     ├── used at a unit that had not heard
 *    └──conflict▶ rejected ◀─conflict──┘     │   (from each of these three, and from held)
 *                     └──────────────────────┘
 */

import type { EventDraft } from './envelope.ts';
import type { LockerSize, Money } from './vocabulary.ts';

/** Finished reservations that a unit's state still knows, so that a late command gets its reason and not a 404. */
const MAX_FINISHED_RESERVATIONS = 32;
/** Commands that a reservation remembers, so that a repeated one changes nothing. */
const MAX_REMEMBERED_COMMANDS = 16;

export type ReservationStatus = 'held' | 'confirmed' | 'active' | 'completed' | 'cancelled' | 'expired' | 'rejected';

export interface Reservation {
  /** `<unit>.<uuid>` */
  readonly id: string;
  readonly customer: string;
  readonly status: ReservationStatus;
  readonly locker: string;
  /** Of the locker; larger than `bookedSize` after some moves. */
  readonly size: LockerSize;
  readonly bookedSize: LockerSize;
  readonly from: string;
  readonly until: string;
  readonly holdExpiresAt: string;
  readonly price: Money;
  readonly unitAck: 'pending' | 'accepted' | 'rejected';
  readonly paymentReference?: string;
  readonly confirmedAt?: string;
  readonly startedAt?: string;
  readonly endedAt?: string;
  /** Ids of the commands that changed it, oldest first; those that open doors stand in `opens`. */
  readonly commands: readonly string[];
  /** What came of the requests to open it: by command id, `pending` until answered. */
  readonly opens: Readonly<Record<string, string>>;
}

/** What the fold needs of an event: the facts, when it occurred, and the command that caused it. */
export type BookingFact = EventDraft & { readonly time: string; readonly causationid?: string };

export interface BookingState {
  /** By id. Those that still bind a locker in the order in which they were made, the finished as they finished. */
  readonly reservations: Readonly<Record<string, Reservation>>;
}

export const NO_BOOKINGS: BookingState = { reservations: {} };

const FINISHED: ReadonlySet<ReservationStatus> = new Set(['completed', 'cancelled', 'expired', 'rejected']);

export function isFinished(reservation: Reservation): boolean {
  return FINISHED.has(reservation.status);
}

export function evolveBooking(state: BookingState, event: BookingFact): BookingState {
  if (event.type === 'ReservationHeld') {
    const { reservationId, customer, locker, size, from, until, holdExpiresAt, price } = event.data;
    return withReservation(state, event, {
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
      commands: [],
      opens: {},
    });
  }
  if (!('reservationId' in event.data) || event.data.reservationId === undefined) return state;
  const reservation = state.reservations[event.data.reservationId];
  return reservation === undefined ? state : withReservation(state, event, evolveReservation(reservation, event));
}

function evolveReservation(reservation: Reservation, event: BookingFact): Reservation {
  switch (event.type) {
    case 'ReservationConfirmed':
      return {
        ...reservation,
        status: 'confirmed',
        paymentReference: event.data.paymentReference,
        confirmedAt: event.time,
      };
    case 'ReservationCancelled':
      return { ...reservation, status: 'cancelled' };
    case 'ReservationExpired':
      return { ...reservation, status: 'expired' };
    case 'ReservationAccepted':
      return { ...reservation, unitAck: 'accepted' };
    case 'ReservationRejected':
      return { ...reservation, status: 'rejected', unitAck: 'rejected' };
    case 'ReservationMoved':
      return { ...reservation, locker: event.data.toLocker, size: event.data.size, unitAck: 'pending' };
    case 'ReservationStarted':
      return { ...reservation, status: 'active', locker: event.data.locker, startedAt: event.data.startedAt };
    case 'ReservationCompleted':
      return { ...reservation, status: 'completed', endedAt: event.data.endedAt };
    case 'LockerOpenRequested':
      return { ...reservation, opens: withOpen(reservation.opens, event.data.commandId, 'pending') };
    case 'LockerOpenAnswered':
      return { ...reservation, opens: withOpen(reservation.opens, event.data.commandId, event.data.result) };
    default:
      return reservation;
  }
}

function withReservation(state: BookingState, event: BookingFact, reservation: Reservation): BookingState {
  const remembered = remembers(reservation, event) ? withCommand(reservation, event.causationid) : reservation;
  const { id } = remembered;
  const before = state.reservations[id];
  if (!isFinished(remembered) || (before !== undefined && isFinished(before))) {
    return { ...state, reservations: { ...state.reservations, [id]: remembered } };
  }
  const { [id]: _, ...others } = state.reservations;
  return { ...state, reservations: withoutOldest({ ...others, [id]: remembered }) };
}

function remembers(
  reservation: Reservation,
  event: BookingFact,
): event is BookingFact & { readonly causationid: string } {
  if (event.causationid === undefined || reservation.commands.includes(event.causationid)) return false;
  return event.type !== 'LockerOpenRequested' && event.type !== 'LockerOpenAnswered';
}

function withCommand(reservation: Reservation, commandId: string): Reservation {
  return { ...reservation, commands: [...reservation.commands, commandId].slice(-MAX_REMEMBERED_COMMANDS) };
}

function withOpen(opens: Reservation['opens'], commandId: string, result: string): Reservation['opens'] {
  const entries = Object.entries({ ...opens, [commandId]: result });
  return Object.fromEntries(entries.slice(-MAX_REMEMBERED_COMMANDS));
}

/** Forgets the reservations that finished first beyond the bound; one that still binds a locker is never forgotten. */
function withoutOldest(reservations: Record<string, Reservation>): Record<string, Reservation> {
  const finished = Object.values(reservations).filter(isFinished);
  const surplus = finished.length - MAX_FINISHED_RESERVATIONS;
  if (surplus <= 0) return reservations;
  const forgotten = new Set(finished.slice(0, surplus).map((reservation) => reservation.id));
  return Object.fromEntries(Object.entries(reservations).filter(([id]) => !forgotten.has(id)));
}

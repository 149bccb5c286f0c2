/**
 * The expected state of a unit: what holds, bookings, expiries and a queued configuration imply if no customer, operator or unit
 * acts otherwise.
 *
 * The forecast assumes that the unit stays as reachable as it is, that no door opens and no part fails, and that no customer reserves,
 * cancels or is late. Customers use confirmed reservations and give lockers back in time; an overdue rental ends within
 * `OVERDUE_ALLOWANCE_MS`. A unit applies the configuration that it is sent.
 *
 * A reservation has a `status`, which the platform will have decided by the clock alone, and a `course`, which is planned. They
 * differ where only the unit knows: the customer of a confirmed reservation is expected to come, and the reservation expires as a
 * no-show if not.
 */

import { blockedPeriod, blocksLocker, rentalPeriod } from '../booking/allocation.ts';
import { findReservation, isFinished, type Reservation } from '../booking/reservation.ts';
import { settleBookings, withDrafts } from '../booking/settlement.ts';
import { nextPushAtMs } from '../configuration/delivery.ts';
import type { DeviceState } from '../device/device.ts';
import { toInstant } from '../vocabulary.ts';
import type { UnitState } from './unit.ts';

export const COURSES = ['ahead', 'running', 'over'] as const;
/** Whether something has not begun, is running, or has ended. */
export type Course = (typeof COURSES)[number];

export interface ExpectedReservation {
  readonly reservation: Reservation;
  readonly course: Course;
}

export interface ExpectedRental {
  readonly course: Course;
  /** When the locker is expected to be given back, RFC 3339. */
  readonly endsAt: string;
}

export interface Forecast {
  /** The state that the platform will have decided by then, with the doors and rentals of the present. */
  readonly state: UnitState;
  /** The reservations that block a locker now, in the order of the state. */
  readonly reservations: readonly ExpectedReservation[];
  /** The rentals that run now, by locker. */
  readonly rentals: Readonly<Record<string, ExpectedRental>>;
  /** When the unit is expected to apply the desired configuration, RFC 3339; undefined when that is after `atMs`. */
  readonly appliedAt: string | undefined;
}

/** The forecast of a unit for `atMs` from what is known at `nowMs`, both in milliseconds since 1970. */
export function forecastUnit(state: UnitState, atMs: number, nowMs: number): Forecast {
  const present = settled(state, nowMs);
  const rentals = expectedRentals(present.device, atMs, nowMs);
  const { booking } = settled({ ...present, device: withoutEnded(present.device, rentals) }, atMs);
  const bound = present.booking.open.filter((reservation) => blocksLocker(reservation, nowMs));
  return {
    state: { ...present, booking },
    reservations: bound.map((before) => {
      const reservation = findReservation(booking, before.id);
      return reservation === undefined
        ? { reservation: before, course: 'over' }
        : { reservation, course: courseOf(before, reservation, atMs, nowMs) };
    }),
    rentals,
    appliedAt: appliedAt(present, atMs, nowMs),
  };
}

function settled(state: UnitState, nowMs: number): UnitState {
  return withDrafts(state, settleBookings(state, nowMs), toInstant(nowMs));
}

function courseOf(before: Reservation, after: Reservation, atMs: number, nowMs: number): Course {
  if (isFinished(after)) return 'over';
  const { fromMs, untilMs } = blockedPeriod(before, nowMs);
  if (atMs >= untilMs) return 'over';
  return before.status === 'active' || atMs >= fromMs ? 'running' : 'ahead';
}

function expectedRentals(device: DeviceState, atMs: number, nowMs: number): Record<string, ExpectedRental> {
  return Object.fromEntries(
    Object.entries(device.lockers).flatMap(([id, locker]): [string, ExpectedRental][] => {
      const period = rentalPeriod(locker, nowMs);
      if (period === undefined) return [];
      return [[id, { course: atMs < period.untilMs ? 'running' : 'over', endsAt: toInstant(period.untilMs) }]];
    }),
  );
}

/** The unit without the rentals that are expected to have ended, so that they block no reservation. */
function withoutEnded(device: DeviceState, rentals: Forecast['rentals']): DeviceState {
  const lockers = Object.entries(device.lockers).map(([id, { rental, door }]) =>
    rental === undefined || rentals[id]?.course === 'over' ? [id, { door }] : [id, { door, rental }],
  );
  return { ...device, lockers: Object.fromEntries(lockers) };
}

function appliedAt(state: UnitState, atMs: number, nowMs: number): string | undefined {
  const next = nextPushAtMs(state);
  if (next === undefined) return undefined;
  const pushedAtMs = Math.max(next, nowMs);
  return pushedAtMs <= atMs ? toInstant(pushedAtMs) : undefined;
}

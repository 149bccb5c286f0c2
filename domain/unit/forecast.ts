/**
 * A unit as it is expected to be: what holds, bookings, expiries and a queued configuration imply when nobody does anything new.
 *
 * Assumed: the unit stays as reachable as it is; no door opens, and no part breaks; nobody reserves, cancels or is late. Customers
 * use what they have confirmed, and give lockers back when their time is over; somebody who is over time now does within
 * `OVERDUE_ALLOWANCE_MS`. A configuration that is sent to a unit is applied.
 *
 * A reservation has both: its `status`, as the platform will have decided from the clock alone, and its `course`, what is planned.
 * The two differ where only the unit can tell: whoever has confirmed is expected to come, and is given up as a no-show if not.
 */

import { blockedPeriod, blocksLocker, rentalPeriod } from '../booking/allocation.ts';
import { findReservation, isFinished, type Reservation } from '../booking/reservation.ts';
import { settleBookings, withDrafts } from '../booking/settlement.ts';
import { nextPushAtMs } from '../configuration/delivery.ts';
import type { DeviceState } from '../device/device.ts';
import { toInstant } from '../vocabulary.ts';
import type { UnitState } from './unit.ts';

export const COURSES = ['ahead', 'running', 'over'] as const;
/** Where something stands in its time: not begun, under way, or done with. */
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
  /** What the platform will have decided by then. Doors and rentals are those of the present. */
  readonly state: UnitState;
  /** What becomes of each reservation that binds now, in the order of the state. */
  readonly reservations: readonly ExpectedReservation[];
  /** By locker, what becomes of the rentals that run now. */
  readonly rentals: Readonly<Record<string, ExpectedRental>>;
  /** When the wanted configuration is expected to have been applied, RFC 3339; undefined when it is not by then. */
  readonly appliedAt: string | undefined;
}

/** What to expect of a unit at `atMs`, as far as is known at `nowMs`: milliseconds since 1970. */
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

/** The unit when those rentals that are expected to be over are: they stand in nobody's way. */
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

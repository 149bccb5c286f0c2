/** Shows a folded unit, past or expected, as the API answers it. */

import { blocksLocker } from '../../../domain/booking/allocation.ts';
import type { Reservation } from '../../../domain/booking/reservation.ts';
import { requireConfigured } from '../../../domain/configuration/configuration.ts';
import { isSameHash } from '../../../domain/configuration/configuration-hash.ts';
import type { RegisteredUnit } from '../../../domain/registry/registry.ts';
import type { Course, Forecast } from '../../../domain/unit/forecast.ts';
import { lastSequenceOf, type UnitState } from '../../../domain/unit/unit.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import { unitDetails } from '../../../projections/units/details.ts';
import type { View } from './schema.ts';

/** A unit at another time, as the API shows it. */
export type StateView = ReturnType<typeof pastView> | ReturnType<typeof expectedView>;

/** The unit as it was, with the reservations that blocked a locker at that time. */
export function pastView(state: UnitState, registry: RegisteredUnit, atMs: number, view: View) {
  const blocking = state.booking.open.filter((reservation) => blocksLocker(reservation, atMs));
  return {
    ...viewAt(state, registry, atMs, view),
    forecast: false,
    reservations: blocking.map((reservation) => reservationView(reservation)),
  };
}

/** The unit as it is expected to be, with the expected status of the reservations and rentals that exist now. */
export function expectedView(forecast: Forecast, registry: RegisteredUnit, atMs: number) {
  const { state, reservations, rentals, appliedAt } = forecast;
  const { configuration, lockers, ...unchanged } = viewAt(state, registry, atMs, 'actual');
  return {
    ...unchanged,
    forecast: true,
    configuration: {
      ...configuration,
      expected: appliedAt === undefined ? null : { status: 'applied' as const, at: appliedAt },
    },
    lockers: lockers.map((locker) => {
      const { id, rental } = locker;
      return rental === null ? locker : { ...locker, rental: { ...rental, ...rentals[id] } };
    }),
    reservations: reservations.map(({ reservation, course }) => reservationView(reservation, course)),
  };
}

function viewAt(state: UnitState, registry: RegisteredUnit, atMs: number, view: View) {
  const { lockerDetails, configuration: _, ...details } = unitDetails(state, registry, atMs);
  return {
    name: state.name,
    displayName: registry.displayName,
    at: toInstant(atMs),
    view,
    position: String(lastSequenceOf(state)),
    ...details,
    configuration: configurationView(state),
    lockers: lockerDetails,
  };
}

function configurationView(state: UnitState) {
  const {
    desired,
    status,
    reported,
    desiredSince: wantedAt,
    attempts,
    nextAttemptAt,
    pushedAt,
    reason,
  } = requireConfigured(state.configuration);
  // A ping over UDP carries only the first bytes of the hash.
  const hash = reported !== undefined && isSameHash(reported.hash, desired.hash) ? desired.hash : reported?.hash;
  return {
    desired,
    reported: reported === undefined || hash === undefined ? null : { ...reported, hash },
    status,
    wantedAt,
    attempts,
    nextAttemptAt: nextAttemptAt ?? null,
    lastPushedAt: pushedAt ?? null,
    reason: reason ?? null,
  };
}

function reservationView(reservation: Reservation, course?: Course) {
  const { id, customer, locker, size, from, until, status, holdExpiresAt, price, unitAck, startedAt } = reservation;
  return {
    id,
    customer,
    locker,
    size,
    from,
    until,
    status,
    holdExpiresAt,
    price,
    unitAck,
    startedAt: startedAt ?? null,
    ...(course === undefined ? {} : { course }),
  };
}

/** A unit with a few lockers, a customer, and the moments of one reservation: what most tests of bookings begin with. */

import type { ReservationCommand } from '../../domain/booking/customer-decisions.ts';
import { configurationHash } from '../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import type { EventOf } from '../../domain/events/catalogue.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { type Past, UNIT } from './given.ts';

export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;

/** Monday at noon: the present, unless a test says otherwise. */
export const NOW_MS = Date.parse('2026-06-01T12:00:00.000Z');
export const HOLD_TTL_S = 600;

export const ALICE = 'customer-alice';
export const BOB = 'customer-bob';
export const R1 = `${UNIT}.11111111-1111-4111-8111-111111111111`;
export const R2 = `${UNIT}.22222222-2222-4222-8222-222222222222`;
export const R3 = `${UNIT}.33333333-3333-4333-8333-333333333333`;

/** A time that is so many minutes after (or before) the present. */
export function at(minutes: number): string {
  return toInstant(NOW_MS + minutes * MINUTE_MS);
}

export function atMs(minutes: number): number {
  return NOW_MS + minutes * MINUTE_MS;
}

export function registration(
  lockers: readonly { id: string; size: 'S' | 'M' | 'L' | 'XL' }[],
): EventOf<'UnitRegistered'> {
  return {
    name: UNIT,
    displayName: 'At the lake',
    address: '127.0.0.2:8080',
    probe: 'http',
    delivery: 'push',
    commandChannel: 'http',
    location: { lat: 52.5, lon: 13.4 },
    timeZone: 'Europe/Berlin',
    tags: [],
    lockers: [...lockers],
    configuration: defaultConfiguration(HOLD_TTL_S),
    keyVersion: 1,
    natsUser: 'UTEST',
  };
}

export const LOCKERS = [
  { id: 'A', size: 'S' },
  { id: 'B', size: 'S' },
  { id: 'C', size: 'M' },
] as const;

export const registered: Past = { type: 'UnitRegistered', data: registration(LOCKERS) };

/** The unit, with other lockers. */
export function registeredWith(...lockers: readonly { id: string; size: 'S' | 'M' | 'L' | 'XL' }[]): Past {
  return { type: 'UnitRegistered', data: registration(lockers) };
}

/** The unit, with some of its configuration changed. */
export function configured(changes: Partial<VersionedConfiguration['values']>): Past {
  const values = { ...defaultConfiguration(HOLD_TTL_S).values, ...changes };
  return {
    type: 'ConfigurationChanged',
    data: { version: 2, hash: configurationHash(values), values, mode: 'live' },
  };
}

export const PRICE = { amount: 200, currency: 'EUR' };

type Held = EventOf<'ReservationHeld'>;

/** Alice holds locker A for the hour from now; the hold was made a minute ago. */
export function held(changes: Partial<Held> = {}): Past & { readonly type: 'ReservationHeld' } {
  const data: Held = {
    reservationId: R1,
    customer: ALICE,
    locker: 'A',
    size: 'S',
    from: at(0),
    until: at(60),
    holdExpiresAt: at(9),
    price: PRICE,
    configurationVersion: 1,
    ...changes,
  };
  return { type: 'ReservationHeld', locker: data.locker, data };
}

export function confirmed(reservationId = R1, locker = 'A'): Past {
  return { type: 'ReservationConfirmed', locker, data: { reservationId, paymentReference: 'pay-1' } };
}

export function started(reservationId = R1, locker = 'A', minutes = 0): Past {
  return { type: 'ReservationStarted', locker, data: { reservationId, locker, startedAt: at(minutes) } };
}

export function completed(reservationId = R1, locker = 'A', minutes = 30): Past {
  return {
    type: 'ReservationCompleted',
    locker,
    data: { reservationId, endedAt: at(minutes), endedBy: 'customer' },
  };
}

/** The unit reports a rental: a walk-up unless a reservation is named. */
export function taken(
  locker: string,
  rental: {
    readonly fromMin: number;
    readonly untilMin: number;
    readonly id?: string;
    readonly reservationId?: string;
  },
): Past {
  const { fromMin, untilMin, id = `rental-${locker}`, reservationId } = rental;
  return {
    type: 'RentalStarted',
    locker,
    atMs: atMs(fromMin),
    data: { rentalId: id, until: at(untilMin), ...(reservationId === undefined ? {} : { reservationId }) },
  };
}

/** At the unit: the locker is given back. */
export function givenBack(
  locker: string,
  minutes: number,
  reservationId?: string,
  rentalId = `rental-${locker}`,
): Past {
  return {
    type: 'RentalEnded',
    locker,
    atMs: atMs(minutes),
    data: { rentalId, reason: 'given-back', ...(reservationId === undefined ? {} : { reservationId }) },
  };
}

/** Alice's command for R1 at the present time, with the given changes. */
export function command(changes: Partial<ReservationCommand> = {}): ReservationCommand {
  return { commandId: 'now', reservationId: R1, customer: ALICE, nowMs: NOW_MS, ...changes };
}

/** Access codes of tests: each reservation and draw has a code of its own, which is not of six digits. */
export function accessCodeOf(reservationId: string, draw: number): string {
  return `${reservationId} ${draw}`;
}

import { describe, expect, test } from 'bun:test';
import { OVERDUE_ALLOWANCE_MS } from '../../../domain/booking/allocation.ts';
import { NO_SHOW_GRACE_MS } from '../../../domain/booking/settlement.ts';
import { LIVE_GRACE_MS } from '../../../domain/configuration/delivery.ts';
import { forecastUnit } from '../../../domain/unit/forecast.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import { given, type Past } from '../../support/given.ts';
import {
  at,
  atMs,
  configured,
  confirmed,
  held,
  MINUTE_MS,
  NOW_MS,
  R1,
  R2,
  registered,
  registeredWith,
  started,
  taken,
} from '../../support/scene.ts';

/** What is expected in so many minutes of a unit with this past. */
function expected(minutes: number, ...past: readonly Past[]) {
  return forecastUnit(given(...past).state, atMs(minutes), NOW_MS);
}

function bookings(minutes: number, ...past: readonly Past[]) {
  return expected(minutes, ...past).reservations.map(({ reservation, course }) => [
    reservation.id,
    reservation.locker,
    reservation.status,
    course,
  ]);
}

const online: Past = { type: 'UnitWentOnline', data: { evidence: 'ping' }, atMs: atMs(-60) };
const GRACE_MIN = NO_SHOW_GRACE_MS / MINUTE_MS;
const ALLOWANCE_MIN = OVERDUE_ALLOWANCE_MS / MINUTE_MS;

describe('forecast holds', () => {
  const later = held({ from: at(30), until: at(90) });

  test('are held until they expire, and expired from then on', () => {
    expect(bookings(8, registered, later)).toEqual([[R1, 'A', 'held', 'ahead']]);
    expect(bookings(9, registered, later)).toEqual([[R1, 'A', 'expired', 'over']]);
  });

  test('that have expired occupy no locker', () => {
    expect(bookings(20, registered, held({ holdExpiresAt: at(-1) }))).toEqual([]);
  });
});

describe('forecast confirmed reservations', () => {
  const past = [registered, held({ from: at(30), until: at(90) }), confirmed()];

  test.each([
    [29, 'confirmed', 'ahead'],
    [30, 'confirmed', 'running'],
    [89, 'confirmed', 'running'],
    [90, 'confirmed', 'over'],
    [90 + GRACE_MIN - 1, 'confirmed', 'over'],
    [90 + GRACE_MIN, 'expired', 'over'],
  ])('in %d minutes are %s, and %s', (minutes, status, course) => {
    expect(bookings(minutes, ...past)).toEqual([[R1, 'A', status, course]]);
  });

  test('without a pending decision stay as they are', () => {
    const { state } = given(...past);
    expect(forecastUnit(state, atMs(1), NOW_MS).state).toEqual(state);
  });

  test('move at once when a walk-up rental has their locker', () => {
    const walkUp = taken('A', { fromMin: -5, untilMin: 45 });
    expect(bookings(60, ...past, walkUp)).toEqual([[R1, 'B', 'confirmed', 'running']]);
  });

  test('keep their locker when its rental is due to end in time', () => {
    const walkUp = taken('A', { fromMin: -5, untilMin: 25 });
    for (const minutes of [10, 60]) expect(bookings(minutes, ...past, walkUp)[0]?.[1]).toBe('A');
  });

  test('are not ended for an overdue rental that is expected to end', () => {
    const only = [registeredWith({ id: 'A', size: 'S' }), ...past.slice(1)];
    const overdue = taken('A', { fromMin: -60, untilMin: -1 });
    expect(bookings(89, ...only, overdue)).toEqual([[R1, 'A', 'confirmed', 'running']]);
  });
});

describe('a forecast open rental', () => {
  const past = [
    registered,
    held(),
    confirmed(),
    started(),
    taken('A', { fromMin: 0, untilMin: 60, reservationId: R1 }),
  ];

  test.each([
    [59, 'running'],
    [60, 'over'],
  ])('in %d minutes is %s, and no decision is made before the unit reports it', (minutes, course) => {
    expect(bookings(minutes, ...past)).toEqual([[R1, 'A', 'active', course as string]]);
    const { rentals, state } = expected(minutes, ...past);
    expect(rentals).toMatchObject({ A: { course, endsAt: at(60) } });
    expect(state.device.lockers.A?.rental).toBeDefined();
  });

  test('that is overdue is expected to end within the allowance', () => {
    const overdue = taken('A', { fromMin: -60, untilMin: -1 });
    const end = at(ALLOWANCE_MIN);
    expect(expected(ALLOWANCE_MIN - 1, registered, overdue).rentals.A).toEqual({ course: 'running', endsAt: end });
    expect(expected(ALLOWANCE_MIN, registered, overdue).rentals.A).toEqual({ course: 'over', endsAt: end });
  });
});

test('each reservation has a forecast of its own', () => {
  const second = held({ reservationId: R2, from: at(120), until: at(180) });
  expect(bookings(90, registered, held(), confirmed(), second, confirmed(R2))).toEqual([
    [R1, 'A', 'confirmed', 'over'],
    [R2, 'A', 'confirmed', 'ahead'],
  ]);
});

describe('a pending configuration', () => {
  const changed = { ...configured({ minimumMinutes: 30 }), atMs: NOW_MS - 1_000 };
  const failed: Past = {
    type: 'ConfigurationPushFailed',
    data: { version: 2, attempt: 1, reason: 'no answer', nextAttemptAt: at(5) },
    atMs: NOW_MS - 500,
  };

  test('is applied when it is due, if the unit is online', () => {
    const due = toInstant(NOW_MS - 1_000 + LIVE_GRACE_MS);
    expect(expected(1, registered, online, changed).appliedAt).toBe(due);
    expect(expected(4, registered, online, changed, failed).appliedAt).toBeUndefined();
    expect(expected(5, registered, online, changed, failed).appliedAt).toBe(at(5));
  });

  test('waits for a unit that is offline, and is absent for a unit that has applied it', () => {
    expect(expected(60, registered, changed).appliedAt).toBeUndefined();
    expect(expected(60, registered, online).appliedAt).toBeUndefined();
  });
});

/** Access codes: no two reservations of a unit that are not over have the same one. */

import { expect, test } from 'bun:test';
import { type AccessCodeOf, MAX_ACCESS_CODE_DRAWS } from '../../../domain/booking/access-codes.ts';
import { confirmReservation } from '../../../domain/booking/customer-decisions.ts';
import { findReservation } from '../../../domain/booking/reservation.ts';
import { settleBookings } from '../../../domain/booking/settlement.ts';
import { ReservationSecrets } from '../../../platform/credentials/reservation-secrets.ts';
import { given, type Past, UNIT, unitAfter, withDecision } from '../../support/given.ts';
import { at, command, completed, confirmed, held, NOW_MS, R1, R2, registered, taken } from '../../support/scene.ts';

const MANY = 2_600;
const later = { from: at(120), until: at(180) };
const other = (...events: readonly Past[]) => [registered, held({ reservationId: R2, ...later }), ...events, held()];
const cancelled: Past = { type: 'ReservationCancelled', locker: 'A', data: { reservationId: R2 } };

/** R1 and R2 have the same first code, and no other. */
const colliding: AccessCodeOf = (reservationId, draw) => (draw === 0 ? 'same' : `${reservationId} ${draw}`);

function confirm(accessCodeOf: AccessCodeOf, reservationId = R1) {
  return { ...command({ reservationId }), paymentReference: 'pay-1', accessCodeOf };
}

test.each([
  ['confirmed', other(confirmed(R2)), 1],
  ['cancelled, and may have been used already', other(confirmed(R2), cancelled), 1],
  ['over', other(confirmed(R2), completed(R2)), undefined],
] as const)('a reservation whose first code is that of one that is %s', (_, past, draw) => {
  const { state } = given(...past);
  const drafts = confirmReservation(state, confirm(colliding));
  const confirmation = drafts.find(({ type }) => type === 'ReservationConfirmed');
  expect(confirmation?.data).toEqual({
    reservationId: R1,
    paymentReference: 'pay-1',
    ...(draw === undefined ? {} : { accessCodeDraw: draw }),
  });
  const after = withDecision(state, drafts, { commandId: 'confirm', atMs: NOW_MS });
  expect(findReservation(after.booking, R1)?.accessCodeDraw).toBe(draw);
});

test('a reservation that is used after it was cancelled keeps its code, and no other one has got it meanwhile', () => {
  const past = [
    registered,
    held({ reservationId: R2, ...later }),
    { type: 'ReservationConfirmed', data: { reservationId: R2, paymentReference: 'p', accessCodeDraw: 1 } } as const,
    cancelled,
    held(),
  ];
  const takenCode: AccessCodeOf = (id, draw) => (draw === (id === R2 ? 1 : 0) ? 'same' : `${id} ${draw}`);
  const before = unitAfter(past);
  const confirmedState = withDecision(before, confirmReservation(before, confirm(takenCode)), {
    commandId: 'confirm',
    atMs: NOW_MS,
  });
  const used = unitAfter([taken('A', { reservationId: R2, fromMin: 120, untilMin: 180 })], confirmedState);
  const revived = withDecision(used, settleBookings(used, NOW_MS), { commandId: 'settle', atMs: NOW_MS });
  const codeOf = (id: string) => takenCode(id, findReservation(revived.booking, id)?.accessCodeDraw ?? 0);
  expect(findReservation(revived.booking, R2)).toMatchObject({ status: 'active', accessCodeDraw: 1 });
  expect(codeOf(R1)).not.toBe(codeOf(R2));
});

test('a reservation is refused when the code of every draw is taken', () => {
  let draws = 0;
  const always: AccessCodeOf = (reservationId) => {
    if (reservationId === R1) draws += 1;
    return 'same';
  };
  given(...other(confirmed(R2)))
    .when((state) => confirmReservation(state, confirm(always)))
    .thenRefused('reservation-state', /No access code is free/);
  expect(draws).toBe(MAX_ACCESS_CODE_DRAWS);
});

test('2,600 reservations of a unit have 2,600 codes', () => {
  const secrets = new ReservationSecrets(new Uint8Array(32).fill(7), undefined as never);
  const accessCodeOf: AccessCodeOf = (id, accessCodeDraw) => secrets.accessCode({ id, accessCodeDraw });
  const ids = Array.from({ length: MANY }, (_, index) => `${UNIT}.${index}`);
  const firstCodes = new Set(ids.map((id) => accessCodeOf(id, 0)));
  // Otherwise the test would show nothing.
  expect(firstCodes.size).toBeLessThan(MANY);
  let state = unitAfter([registered]);
  for (const [index, reservationId] of ids.entries()) {
    const period = { from: at(60 * index), until: at(60 * index + 60) };
    state = unitAfter([held({ reservationId, ...period })], state);
    const drafts = confirmReservation(state, confirm(accessCodeOf, reservationId));
    state = withDecision(state, drafts, { commandId: `confirm-${index}`, atMs: NOW_MS });
  }
  expect(state.booking.open).toHaveLength(MANY);
  expect(new Set(state.booking.open.map((reservation) => secrets.accessCode(reservation))).size).toBe(MANY);
}, 60_000);

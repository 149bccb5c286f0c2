/** Reservations over REST: what each route takes and answers. */

import { type Static, Type } from '@sinclair/typebox';
import { Instant, LockerId, LockerSize, Money, Text, UnitName } from '../../../domain/vocabulary.ts';
import { answer, operation } from '../../http/operation.ts';
import type { ProblemName } from '../../http/problems.ts';
import { ListQuery, MinPosition, OneOf, OrNull, pageOf, type Shown, strict } from '../../http/schemas.ts';

const TAG = 'Reservations';

const ReservationId = Type.String({
  pattern: '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
  expects: 'the id of a reservation, as the platform answered it',
  description: 'The id of a reservation. Clients keep it as it is and read nothing from it.',
  examples: ['PL-1000.0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55'],
});

const Period = {
  from: { ...Instant, description: 'The beginning of the period, inclusive: RFC 3339, UTC.' },
  until: { ...Instant, description: 'The end of the period, exclusive: RFC 3339, UTC.' },
};

const STATUSES = ['held', 'confirmed', 'active', 'completed', 'cancelled', 'expired', 'rejected'] as const;

/** Exactly one of `size` and `locker`. */
export const ReserveBody = Type.Object(
  { unit: UnitName, size: Type.Optional(LockerSize), locker: Type.Optional(LockerId), ...Period },
  {
    ...strict,
    title: 'Reserve',
    description: 'Names either a `size`, and the platform chooses a free locker, or a `locker`.',
    examples: [{ unit: 'PL-1000', size: 'M', from: '2026-07-01T10:00:00.000Z', until: '2026-07-01T12:00:00.000Z' }],
  },
);
export type ReserveBody = Static<typeof ReserveBody>;

const ConfirmBody = Type.Object(
  {
    paymentReference: Type.String({
      minLength: 1,
      maxLength: 200,
      description: 'The reference of the payment at the payment provider.',
    }),
  },
  { ...strict, title: 'Confirm', examples: [{ paymentReference: 'pay_8s7f6' }] },
);

export const Reservation = Type.Object(
  {
    id: ReservationId,
    unit: UnitName,
    customer: Type.Optional(
      Type.String({
        description: 'The random id of the customer. Only operators see it, and they see no access code.',
      }),
    ),
    locker: LockerId,
    size: LockerSize,
    ...Period,
    status: OneOf(STATUSES, {
      description:
        '`held`: the locker is kept until `holdExpiresAt`. `confirmed`: the customer has paid. `active`: the customer has opened ' +
        'the locker. `completed`: the customer has given it back. `cancelled`, `expired` and `rejected`: it ended before its use, ' +
        'by the customer, by time, or because another customer has the locker and no other one is free.',
    }),
    holdExpiresAt: { ...Instant, description: 'The end of the hold, unless the reservation is confirmed before.' },
    price: Money,
    unitAck: OneOf(['pending', 'accepted', 'rejected'], {
      description: 'Whether the unit knows the reservation. It gets it as soon as it is online.',
    }),
    accessCode: Type.Optional(
      Type.String({
        description: 'The digits that open the locker at the screen of the unit, while confirmed or active.',
      }),
    ),
    offlineToken: Type.Optional(
      Type.String({
        description:
          'The text of the QR code that opens the locker even when the unit is offline, while confirmed or active.',
      }),
    ),
  },
  { title: 'Reservation' },
);
export type Reservation = Shown<typeof Reservation>;

export const RESERVATION_EXAMPLE = {
  id: 'PL-1000.0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
  unit: 'PL-1000',
  locker: 'B',
  size: 'M',
  from: '2026-07-01T10:00:00.000Z',
  until: '2026-07-01T12:00:00.000Z',
  status: 'held',
  holdExpiresAt: '2026-07-01T09:40:00.000Z',
  price: { amount: 600, currency: 'EUR' },
  unitAck: 'pending',
} as const;

const CONFIRMED_EXAMPLE = {
  ...RESERVATION_EXAMPLE,
  status: 'confirmed',
  accessCode: '482913',
  offlineToken: 'eyJhbGciOi…',
} as const;

/** What the routes of one reservation have in common. */
const change = { auth: 'customer', idempotent: true, tag: TAG, params: Type.Object({ id: ReservationId }) } as const;
const CHANGE_PROBLEMS = ['validation', 'not-found', 'reservation-state'] as const satisfies readonly ProblemName[];

export const HOLD = operation({
  id: 'holdLocker',
  tag: TAG,
  auth: 'customer',
  idempotent: true,
  summary: 'Hold a locker for a period',
  description:
    'The hold keeps the locker until `holdExpiresAt` and ends by itself then, unless it is confirmed before.',
  body: ReserveBody,
  answers: { 201: answer('The reservation, held.', Reservation, RESERVATION_EXAMPLE) },
  problems: ['validation', 'not-found', 'no-locker-free'],
});

export const CONFIRM = operation({
  ...change,
  id: 'confirmReservation',
  summary: 'Confirm a paid hold',
  description: 'The answer has what opens the locker: the access code for the screen and the token for the QR code.',
  body: ConfirmBody,
  answers: { 200: answer('The reservation, confirmed.', Reservation, CONFIRMED_EXAMPLE) },
  problems: CHANGE_PROBLEMS,
});

export const CANCEL = operation({
  ...change,
  id: 'cancelReservation',
  summary: 'Cancel a reservation before its use',
  answers: {
    200: answer('The reservation, cancelled.', Reservation, { ...RESERVATION_EXAMPLE, status: 'cancelled' }),
  },
  problems: CHANGE_PROBLEMS,
});

export const END = operation({
  ...change,
  id: 'endReservation',
  summary: 'Give the locker back',
  description: 'The door must be closed.',
  answers: {
    200: answer('The reservation, completed.', Reservation, { ...RESERVATION_EXAMPLE, status: 'completed' }),
  },
  problems: CHANGE_PROBLEMS,
});

const Opened = Type.Object(
  {
    result: Type.Literal('opened'),
    locker: { ...LockerId, description: 'The locker that is open.' },
    movedFrom: OrNull({
      ...LockerId,
      description:
        'The locker that the reservation had before this request, when that one could not be opened. It is null when the ' +
        'reservation has kept its locker.',
    }),
  },
  { title: 'Opened' },
);
export type OpenedLocker = Shown<typeof Opened>;

export const OPEN = operation({
  ...change,
  id: 'openLocker',
  summary: 'Open the locker now',
  description:
    'The server asks the unit within this request, and never later: a door opens while its customer waits, or not at all. The ' +
    'first opening makes the reservation active. When another customer has not given the locker back, or its door fails, and ' +
    'another locker fits, the reservation moves, and that one opens: `locker` names it.',
  answers: {
    200: answer('The door is open.', Opened, { result: 'opened', locker: 'B', movedFrom: null }),
  },
  problems: [...CHANGE_PROBLEMS, 'not-yet', 'unit-rejected', 'unit-offline'],
});

export const FORCE_END = operation({
  ...change,
  auth: 'ops',
  id: 'forceEndReservation',
  summary: 'End a reservation that the customer and the unit do not end',
  description:
    'One that is in use becomes `completed`, and the unit releases its rental with its next list of reservations. One that has not ' +
    'begun becomes `rejected`.',
  body: Type.Object(
    {
      reason: { ...Text, minLength: 1, description: 'Why the operator ends it.' },
    },
    { ...strict, title: 'ForceEnd', examples: [{ reason: 'the customer called: the locker is empty' }] },
  ),
  answers: {
    200: answer('The reservation, ended.', Reservation, {
      ...RESERVATION_EXAMPLE,
      customer: '0197c5ea-0000-7000-8000-000000000009',
      status: 'completed',
    }),
  },
  problems: CHANGE_PROBLEMS,
});

export const GET_ONE = operation({
  id: 'getReservation',
  tag: TAG,
  auth: 'customer',
  minPosition: { readModel: 'reservations', unitOf: ({ id }) => unitOfReservation(id) },
  summary: 'Get one of your reservations',
  params: change.params,
  query: Type.Object(MinPosition, strict),
  answers: { 200: answer('The reservation.', Reservation, CONFIRMED_EXAMPLE) },
  problems: ['validation', 'not-found'],
});

export const LIST = operation({
  id: 'listReservations',
  tag: TAG,
  auth: 'any',
  minPosition: { readModel: 'reservations' },
  summary: 'List reservations, newest first',
  description: 'A customer sees their own reservations, an operator those of all customers.',
  query: Type.Object(
    {
      unit: Type.Optional({
        ...UnitName,
        description:
          'Only reservations at this unit. Those at a retired unit that had the name before are shown to their customers, and to ' +
          'operators with `customer`.',
      }),
      customer: Type.Optional(
        Type.String({
          maxLength: 100,
          description: 'For operators: only reservations of this customer, by the random id.',
        }),
      ),
      status: Type.Optional(OneOf(STATUSES)),
      from: Type.Optional({ ...Instant, description: 'Only reservations whose period begins then or later.' }),
      ...ListQuery,
      ...MinPosition,
    },
    strict,
  ),
  answers: {
    200: answer('A page of reservations.', pageOf(Reservation, 'ReservationPage'), {
      items: [RESERVATION_EXAMPLE],
      nextCursor: null,
    }),
  },
  problems: ['validation'],
});

/** The unit in the id of a reservation. */
export function unitOfReservation(reservationId = ''): string {
  return reservationId.slice(0, reservationId.lastIndexOf('.'));
}

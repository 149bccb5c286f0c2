/** What a reservation looks like over REST. */

import { type Static, Type } from '@sinclair/typebox';
import { Instant, LockerId, LockerSize, Money, UnitName } from '../../../domain/vocabulary.ts';

const strict = { additionalProperties: false };

const RESERVATION_ID = '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
export const ReservationId = Type.String({
  pattern: RESERVATION_ID,
  description: 'opaque',
  examples: ['PL-1000.0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55'],
});

const Period = {
  from: Instant,
  until: Instant,
};

/** Exactly one of `size` and `locker`. */
export const ReserveBody = Type.Object(
  { unit: UnitName, size: Type.Optional(LockerSize), locker: Type.Optional(LockerId), ...Period },
  {
    ...strict,
    description: 'Either `size` or `locker`, not both.',
    examples: [{ unit: 'PL-1000', size: 'M', from: '2026-07-01T10:00:00.000Z', until: '2026-07-01T12:00:00.000Z' }],
  },
);
export type ReserveBody = Static<typeof ReserveBody>;

export const ConfirmBody = Type.Object(
  { paymentReference: Type.String({ minLength: 1, maxLength: 200 }) },
  { ...strict, examples: [{ paymentReference: 'pay_8s7f6' }] },
);

export const ReservationView = Type.Object({
  id: ReservationId,
  unit: UnitName,
  locker: LockerId,
  size: LockerSize,
  ...Period,
  status: Type.Union(
    ['held', 'confirmed', 'active', 'completed', 'cancelled', 'expired', 'rejected'].map((status) =>
      Type.Literal(status),
    ),
  ),
  holdExpiresAt: Instant,
  price: Money,
  unitAck: Type.Union([Type.Literal('pending'), Type.Literal('accepted'), Type.Literal('rejected')]),
  accessCode: Type.Optional(Type.String({ description: 'for the screen, while confirmed or active' })),
  offlineToken: Type.Optional(Type.String({ description: 'for the QR code, while confirmed or active' })),
});

/** A reservation as it is answered, from the decision or from the read model. */
export interface ReservationFields {
  readonly id: string;
  readonly unit: string;
  readonly locker: string;
  readonly size: LockerSize;
  readonly from: string;
  readonly until: string;
  readonly status: string;
  readonly holdExpiresAt: string;
  readonly price: Money;
  readonly unitAck: string;
}

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
};

/** The unit in the id of a reservation. */
export function unitOfReservation(reservationId: string): string {
  return reservationId.slice(0, reservationId.lastIndexOf('.'));
}

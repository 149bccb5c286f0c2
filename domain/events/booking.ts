import { Type } from '@sinclair/typebox';
import { Identifier, Instant, LockerId, LockerSize, Money, Text } from '../vocabulary.ts';
import { defineEvent } from './define-event.ts';

const ReservationId = Type.String({ ...Identifier, description: '<unit>.<uuid>' });
const reservation = { reservationId: ReservationId };

export const OpenResult = Type.Union([
  Type.Literal('opened'),
  Type.Literal('failed'),
  Type.Literal('refused'),
  Type.Literal('unreachable'),
]);

export const bookingEvents = {
  ReservationHeld: defineEvent(
    'booking',
    'A customer claims a locker for a period; the claim ends by itself unless it is confirmed.',
    Type.Object({
      ...reservation,
      customer: Type.String({ ...Identifier, description: 'random id of the customer' }),
      locker: LockerId,
      size: LockerSize,
      from: Instant,
      until: Instant,
      holdExpiresAt: Instant,
      price: Money,
      configurationVersion: Type.Integer({ minimum: 1, description: 'the configuration that the price comes from' }),
    }),
  ),
  ReservationConfirmed: defineEvent(
    'booking',
    'A hold was paid for.',
    Type.Object({
      ...reservation,
      paymentReference: Text,
      accessCodeDraw: Type.Optional(
        Type.Integer({
          minimum: 0,
          description:
            'the number of the draw that gave the access code; 0 when it is absent. No event contains the code',
        }),
      ),
    }),
  ),
  ReservationCancelled: defineEvent(
    'booking',
    'A customer gave a reservation up before using it.',
    Type.Object(reservation),
  ),
  ReservationExpired: defineEvent(
    'booking',
    'A hold was not confirmed in time, or a confirmed reservation was never used.',
    Type.Object({ ...reservation, reason: Type.Union([Type.Literal('hold'), Type.Literal('no-show')]) }),
  ),
  ReservationAccepted: defineEvent('booking', 'The unit knows the reservation.', Type.Object(reservation)),
  ReservationRefusedByUnit: defineEvent(
    'booking',
    'The unit cannot keep the reservation in its locker, such as a locker that it does not have.',
    Type.Object({ ...reservation, locker: LockerId, reason: Text }),
  ),
  ReservationRejected: defineEvent(
    'booking',
    'The reservation cannot be kept.',
    Type.Object({ ...reservation, reason: Text }),
  ),
  ReservationMoved: defineEvent(
    'booking',
    'The reservation has another locker.',
    Type.Object({ ...reservation, fromLocker: LockerId, toLocker: LockerId, size: LockerSize, reason: Text }),
  ),
  ReservationStarted: defineEvent(
    'booking',
    'The customer took the locker.',
    Type.Object({ ...reservation, locker: LockerId, startedAt: Instant }),
  ),
  ReservationCompleted: defineEvent(
    'booking',
    'The customer gave the locker back, or an operator ended the use.',
    Type.Object({
      ...reservation,
      endedAt: Instant,
      endedBy: Type.Union([Type.Literal('customer'), Type.Literal('unit'), Type.Literal('operator')]),
      reason: Type.Optional({ ...Text, description: 'Why an operator ended it.' }),
    }),
  ),
  ReservationConflictDetected: defineEvent(
    'booking',
    'A reservation cannot have its locker: another rental occupies it, its door fails, or it is out of service. Or the unit used a ' +
      'reservation that had ended (`used`): the use stands.',
    Type.Object({
      ...reservation,
      locker: LockerId,
      rentalId: Type.Optional(Type.String({ ...Identifier, description: 'The rental that occupies the locker.' })),
      resolution: Type.Union([Type.Literal('moved'), Type.Literal('rejected'), Type.Literal('used')]),
    }),
  ),
  LockerOpenRequested: defineEvent(
    'booking',
    'A customer asked from the phone to open a locker now.',
    Type.Object({ ...reservation, locker: LockerId, commandId: Identifier, expiresAt: Instant }),
  ),
  LockerOpenAnswered: defineEvent(
    'booking',
    'What came of a request to open.',
    Type.Object({
      ...reservation,
      locker: LockerId,
      commandId: Identifier,
      result: OpenResult,
      reason: Type.Optional(Text),
    }),
  ),
};

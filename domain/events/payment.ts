import { Type } from '@sinclair/typebox';
import { Currency, Identifier, MAX_AMOUNT, Text } from '../vocabulary.ts';
import { defineEvent } from './define-event.ts';

const Payment = {
  reference: Type.String({
    minLength: 1,
    maxLength: 200,
    description: 'The reference of the payment at the payment provider.',
  }),
  amount: Type.Integer({
    minimum: 0,
    maximum: MAX_AMOUNT,
    description: 'The amount in minor units of the currency.',
  }),
  currency: Currency,
  reservationId: Type.Optional(Identifier),
  rentalId: Type.Optional(Identifier),
};
const aggregates = ['booking', 'device'] as const;

/** Payments happen in the app (`booking`) and at the terminal of a unit (`device`). */
export const paymentEvents = {
  PaymentStarted: defineEvent(aggregates, 'A customer began to pay.', Type.Object(Payment)),
  PaymentSucceeded: defineEvent(aggregates, 'A payment went through.', Type.Object(Payment)),
  PaymentFailed: defineEvent(
    aggregates,
    'A payment was declined or broke off.',
    Type.Object({ ...Payment, reason: Text }),
  ),
};

/** What each route of reservations takes and answers: schemas, examples, errors. */

import { Type } from '@sinclair/typebox';
import { documented } from '../../http/documented.ts';
import type { ProblemName } from '../../http/problems.ts';
import { IdempotencyHeaders, ListQuery, MinPosition, pageOf } from '../../http/reads.ts';
import { ConfirmBody, RESERVATION_EXAMPLE, ReservationId, ReservationView, ReserveBody } from './schema.ts';

const TAG = 'Reservations';
const CHANGE_ERRORS: readonly ProblemName[] = [
  'validation',
  'not-found',
  'reservation-state',
  'idempotency-key-reused',
];
const CONFIRMED_EXAMPLE = {
  ...RESERVATION_EXAMPLE,
  status: 'confirmed',
  accessCode: '482913',
  offlineToken: 'eyJhbGciOi…',
};

const params = Type.Object({ id: ReservationId });
const headers = IdempotencyHeaders;

export const HOLD = {
  headers,
  body: ReserveBody,
  detail: documented({
    summary: 'Hold a locker',
    description: 'The hold ends by itself at `holdExpiresAt` unless it is confirmed.',
    tag: TAG,
    answers: { 201: { description: 'The reservation, held', schema: ReservationView, example: RESERVATION_EXAMPLE } },
    errors: ['validation', 'not-found', 'no-locker-free', 'idempotency-key-reused'],
  }),
};

export const CONFIRM = {
  params,
  headers,
  body: ConfirmBody,
  detail: change('Confirm a paid hold', 'The reservation, confirmed', CONFIRMED_EXAMPLE),
};

export const CANCEL = {
  params,
  headers,
  detail: change('Cancel before the use', 'The reservation, cancelled', {
    ...RESERVATION_EXAMPLE,
    status: 'cancelled',
  }),
};

export const END = {
  params,
  headers,
  detail: change('Give the locker back', 'The reservation, completed', { ...RESERVATION_EXAMPLE, status: 'completed' }),
};

export const OPEN = {
  params,
  headers,
  detail: documented({
    summary: 'Open the locker now',
    description:
      'Always live: the unit is asked within this request, and never later. The first opening starts the use.',
    tag: TAG,
    answers: {
      200: {
        description: 'The door is open',
        schema: Type.Object({ result: Type.Literal('opened') }),
        example: { result: 'opened' },
      },
    },
    errors: [...CHANGE_ERRORS, 'not-yet', 'unit-rejected', 'unit-offline'],
  }),
};

export const GET_ONE = {
  params,
  query: Type.Object({ ...MinPosition }, { additionalProperties: false }),
  detail: documented({
    summary: 'One of your reservations',
    tag: TAG,
    answers: { 200: { description: 'The reservation', schema: ReservationView, example: CONFIRMED_EXAMPLE } },
    errors: ['validation', 'not-found'],
  }),
};

export const LIST_OWN = {
  query: Type.Object({ ...ListQuery, ...MinPosition }, { additionalProperties: false }),
  detail: documented({
    summary: 'Your reservations, newest first',
    tag: TAG,
    answers: {
      200: {
        description: 'A page',
        schema: pageOf(ReservationView),
        example: { items: [RESERVATION_EXAMPLE], nextCursor: null },
      },
    },
    errors: ['validation'],
  }),
};

function change(summary: string, description: string, example: unknown) {
  const answers = { 200: { description, schema: ReservationView, example } };
  return documented({ summary, tag: TAG, answers, errors: CHANGE_ERRORS });
}

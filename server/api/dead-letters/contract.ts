/** What each route of dead letters takes and answers: schemas, examples, errors. */

import { Type } from '@sinclair/typebox';
import { UnitName, Uuid } from '../../../domain/vocabulary.ts';
import { documented } from '../../http/documented.ts';
import { ListQuery, pageOf } from '../../http/schemas.ts';
import { IdempotencyHeaders } from '../../http/writes.ts';
import {
  DEAD_LETTER_EXAMPLE,
  DeadLetterView,
  DISMISSED_EXAMPLE,
  DismissBody,
  Dismissed,
  KINDS,
  RECOVERED_EXAMPLE,
  STATUSES,
  WHOLE_DEAD_LETTER_EXAMPLE,
  WholeDeadLetterView,
} from './schema.ts';

const TAG = 'Dead letters';
const params = Type.Object({ id: Uuid });
const Kind = Type.Union(KINDS.map((kind) => Type.Literal(kind)));

export const LIST = {
  query: Type.Object(
    {
      unit: Type.Optional(UnitName),
      kind: Type.Optional(Kind),
      status: Type.Optional(Type.Union(STATUSES.map((status) => Type.Literal(status)))),
      ...ListQuery,
    },
    { additionalProperties: false },
  ),
  detail: documented({
    summary: 'What units sent and was not accepted, newest first',
    description:
      'Single events, in whose place the log has `UnitEventRejected`, and batches that could not be read at all. ' +
      'A unit with 10,000 open letters is not heard until some are recovered or dismissed.',
    tag: TAG,
    answers: {
      200: {
        description: 'A page',
        schema: pageOf(DeadLetterView),
        example: { items: [DEAD_LETTER_EXAMPLE], nextCursor: null },
      },
    },
    errors: ['validation'],
  }),
};

export const GET_ONE = {
  params,
  detail: documented({
    summary: 'One dead letter, whole',
    description: 'With what came: of an event `content`, of a batch `text`, or `base64` when it is not UTF-8.',
    tag: TAG,
    answers: {
      200: { description: 'The letter', schema: WholeDeadLetterView, example: WHOLE_DEAD_LETTER_EXAMPLE },
    },
    errors: ['validation', 'not-found'],
  }),
};

export const RETRY = {
  params,
  headers: IdempotencyHeaders,
  detail: documented({
    summary: 'Try a dead letter again',
    description:
      'Checked by the rules of today. An event is recorded as `UnitEventRecovered`, once however often it is tried; of a ' +
      'batch, what is not recorded yet. What is not accepted now either answers 409 with the reason, and stays as it is. A ' +
      'dismissed letter can be tried too.',
    tag: TAG,
    answers: { 200: { description: 'The letter, recovered', schema: DeadLetterView, example: RECOVERED_EXAMPLE } },
    errors: ['validation', 'not-found', 'not-yet', 'idempotency-key-reused'],
  }),
};

export const DISMISS = {
  params,
  headers: IdempotencyHeaders,
  body: DismissBody,
  detail: documented({
    summary: 'Put a dead letter away',
    description:
      'It no longer counts among the open letters of its unit. It is kept whole, and can still be tried again. Dismissing ' +
      'twice changes nothing: who, when and why stay those of the first time. A letter that is recovered answers 409. The body ' +
      'may be left out.',
    tag: TAG,
    answers: { 200: { description: 'The letter, dismissed', schema: DeadLetterView, example: DISMISSED_EXAMPLE } },
    errors: ['validation', 'not-found', 'precondition-failed', 'idempotency-key-reused'],
  }),
};

export const DISMISS_OPEN = {
  query: Type.Object({ unit: UnitName, kind: Type.Optional(Kind) }, { additionalProperties: false }),
  headers: IdempotencyHeaders,
  body: DismissBody,
  detail: documented({
    summary: 'Put all open dead letters of a unit away',
    description:
      'As each of them would be. Up to 10,000 in a call, the oldest first: when it answers with so many, there may be more, ' +
      'and whoever uses an Idempotency-Key takes another for the next call. The body may be left out.',
    tag: TAG,
    answers: { 200: { description: 'How many', schema: Dismissed, example: { dismissed: 128 } } },
    errors: ['validation', 'idempotency-key-reused'],
  }),
};

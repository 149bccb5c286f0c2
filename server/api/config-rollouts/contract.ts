/** What each route of rollouts takes and answers: schemas, examples, errors. */

import { Type } from '@sinclair/typebox';
import { ROLLOUT_UNIT_STATUSES } from '../../../domain/configuration/rollout.ts';
import { Uuid } from '../../../domain/vocabulary.ts';
import { documented } from '../../http/documented.ts';
import { ListQuery, pageOf } from '../../http/schemas.ts';
import { IdempotencyHeaders } from '../../http/writes.ts';
import {
  ActionBody,
  ROLLOUT_EXAMPLE,
  ROLLOUT_UNIT_EXAMPLE,
  RolloutBody,
  RolloutUnitView,
  RolloutView,
} from './schema.ts';

const TAG = 'Configuration';
const params = Type.Object({ id: Uuid });
const strict = { additionalProperties: false };
const page = { limit: ListQuery.limit, cursor: ListQuery.cursor };

export const CREATE = {
  headers: IdempotencyHeaders,
  body: RolloutBody,
  detail: documented({
    summary: 'Change the configuration of many units',
    description:
      'The units are those that the selection names now. Each is changed when its turn comes, as by a queued change: what is ' +
      'not named in `changes` stays as it is there. When so many cannot take it that the threshold is reached, the rollout ' +
      'aborts itself: it goes no further, and units that have not proved it get back what was wanted before.',
    tag: TAG,
    answers: { 201: { description: 'It runs', schema: RolloutView, example: ROLLOUT_EXAMPLE } },
    errors: ['validation', 'idempotency-key-reused'],
  }),
};

export const LIST = {
  query: Type.Object(page, strict),
  detail: documented({
    summary: 'Rollouts, newest first',
    tag: TAG,
    answers: {
      200: {
        description: 'A page; the units are counted in `GET /v1/config-rollouts/{id}`',
        schema: pageOf(RolloutView),
        example: { items: [{ ...ROLLOUT_EXAMPLE, units: undefined }], nextCursor: null },
      },
    },
    errors: ['validation'],
  }),
};

export const GET_ONE = {
  params,
  detail: documented({
    summary: 'One rollout and how far it is',
    tag: TAG,
    answers: { 200: { description: 'The rollout', schema: RolloutView, example: ROLLOUT_EXAMPLE } },
    errors: ['validation', 'not-found'],
  }),
};

export const LIST_UNITS = {
  params,
  query: Type.Object(
    { status: Type.Optional(Type.Union(ROLLOUT_UNIT_STATUSES.map((status) => Type.Literal(status)))), ...page },
    strict,
  ),
  detail: documented({
    summary: 'The units of a rollout, in the order in which it comes to them',
    tag: TAG,
    answers: {
      200: {
        description: 'A page',
        schema: pageOf(RolloutUnitView),
        example: { items: [ROLLOUT_UNIT_EXAMPLE], nextCursor: null },
      },
    },
    errors: ['validation', 'not-found'],
  }),
};

const action = (summary: string, description: string, status: string) => ({
  headers: IdempotencyHeaders,
  params,
  body: ActionBody,
  detail: documented({
    summary,
    description,
    tag: TAG,
    answers: { 200: { description: 'The rollout', schema: RolloutView, example: { ...ROLLOUT_EXAMPLE, status } } },
    errors: ['validation', 'not-found', 'precondition-failed', 'idempotency-key-reused'],
  }),
});

export const PAUSE = action('Pause a rollout', 'It comes to no further units; those that it came to go on.', 'paused');
export const RESUME = action('Let a paused rollout go on', 'Its pace goes on where it was.', 'running');
export const ABORT = action(
  'Abort a rollout',
  'It goes no further. Units that have not proved its configuration get back what was wanted before; the others keep it.',
  'aborting',
);

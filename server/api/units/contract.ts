/** What each route of units takes and answers: schemas, examples, errors. */

import { Type } from '@sinclair/typebox';
import { Text, UnitName } from '../../../domain/vocabulary.ts';
import { NDJSON } from '../../http/body.ts';
import { documented } from '../../http/documented.ts';
import { ListQuery, MinPosition, pageOf } from '../../http/schemas.ts';
import { IdempotencyHeaders } from '../../http/writes.ts';
import {
  CREDENTIALS_EXAMPLE,
  GRID_EXAMPLE,
  GridRow,
  Named,
  Registered,
  Registration,
  UNIT_EXAMPLE,
  UNIT_SORTS,
  UNIT_STATES,
  UnitDetails,
} from './schema.ts';

const TAG = 'Units';

export const REGISTER = {
  headers: IdempotencyHeaders,
  body: Registration,
  detail: documented({
    summary: 'Register a unit',
    description:
      'The credentials are shown only in this answer; a repeated request does not show them again. Reads show the unit a ' +
      'moment later, or at once with `minPosition` and the `Lockfleet-Position` of this answer. How the unit is to use what ' +
      'it gets stands in docs/unit-protocol.md.',
    tag: TAG,
    answers: { 201: { description: 'The unit’s credentials', schema: Registered, example: CREDENTIALS_EXAMPLE } },
    errors: ['validation', 'idempotency-key-reused'],
  }),
};

export const IMPORT = {
  detail: documented({
    summary: 'Register many units',
    description: 'A unit a line, answered line by line and in order with the credentials or the problem of each.',
    tag: TAG,
    requestBody: {
      contentType: NDJSON,
      schema: Registration,
      example: `${JSON.stringify(Registration.examples[0])}\n`,
    },
    answers: {
      200: {
        description: 'A line a unit: `{name, credentials}` or `{name, problem}`',
        contentType: NDJSON,
        schema: Registered,
        example: CREDENTIALS_EXAMPLE,
      },
    },
    errors: ['validation'],
  }),
};

export const LIST = {
  query: Type.Object(
    {
      state: Type.Optional(Type.Union(UNIT_STATES.map((state) => Type.Literal(state)))),
      q: Type.Optional(Type.String({ maxLength: 100, description: 'part of a name or display name' })),
      shard: Type.Optional(Type.String({ pattern: '^[0-9a-f]{1,8}$', description: 'prefix of the hash of the name' })),
      sort: Type.Optional(Type.Union(UNIT_SORTS.map((sort) => Type.Literal(sort)))),
      ...ListQuery,
      ...MinPosition,
    },
    { additionalProperties: false },
  ),
  detail: documented({
    summary: 'The grid of units',
    tag: TAG,
    answers: { 200: { description: 'A page', schema: pageOf(GridRow), example: GRID_EXAMPLE } },
    errors: ['validation'],
  }),
};

export const GET_ONE = {
  params: Type.Object({ name: UnitName }),
  query: Type.Object({ ...MinPosition }, { additionalProperties: false }),
  detail: documented({
    summary: 'One unit',
    description: 'What it is, whether it answers, and its lockers with their doors and rentals.',
    tag: TAG,
    answers: {
      200: {
        description: 'The unit',
        schema: Type.Intersect([GridRow, UnitDetails]),
        example: UNIT_EXAMPLE,
      },
    },
    errors: ['validation', 'not-found'],
  }),
};

export const ROTATE_CREDENTIALS = {
  headers: IdempotencyHeaders,
  params: Type.Object({ name: UnitName }),
  detail: documented({
    summary: 'Give a unit new credentials',
    description:
      'The old ones end with this answer, and the connection that the unit has with them is cut. Also gives credentials to ' +
      'a unit whose credentials were revoked. They are shown only in this answer; a repeated request does not show them ' +
      'again, and whoever has lost them rotates once more under another key.',
    tag: TAG,
    answers: { 200: { description: 'The new credentials', schema: Registered, example: CREDENTIALS_EXAMPLE } },
    errors: ['validation', 'not-found', 'idempotency-key-reused'],
  }),
};

export const REVOKE_CREDENTIALS = {
  headers: IdempotencyHeaders,
  params: Type.Object({ name: UnitName }),
  body: Type.Optional(
    Type.Object({ reason: Type.Optional(Text) }, { additionalProperties: false, examples: [{ reason: 'stolen' }] }),
  ),
  detail: documented({
    summary: 'Take a unit’s credentials away',
    description:
      'With this answer its connection is cut and it can open no other. It is sent no commands and no pings any more, so that ' +
      'its `state` becomes `unknown`. Its log goes on when it is given new credentials. Revoking twice changes nothing. ' +
      'The body may be left out.',
    tag: TAG,
    answers: { 200: { description: 'They have ended', schema: Named, example: { name: 'PL-1000' } } },
    errors: ['validation', 'not-found', 'idempotency-key-reused'],
  }),
};

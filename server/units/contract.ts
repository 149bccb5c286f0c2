/** What each route of units takes and answers: schemas, examples, errors. */

import { Type } from '@sinclair/typebox';
import { UnitName } from '../../domain/vocabulary.ts';
import { NDJSON } from '../http/body.ts';
import { documented } from '../http/documented.ts';
import { IdempotencyHeaders, ListQuery, MinPosition, pageOf } from '../http/reads.ts';
import {
  CREDENTIALS_EXAMPLE,
  GRID_EXAMPLE,
  GridRow,
  Registered,
  Registration,
  UNIT_SORTS,
  UNIT_STATES,
} from './schema.ts';

const TAG = 'Units';

export const REGISTER = {
  headers: IdempotencyHeaders,
  body: Registration,
  detail: documented({
    summary: 'Register a unit',
    description: 'The credentials are shown only in this answer; a repeated request does not show them again.',
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
        schema: Type.Intersect([GridRow, Type.Object({}, { additionalProperties: true })]),
        example: GRID_EXAMPLE.items[0],
      },
    },
    errors: ['validation', 'not-found'],
  }),
};

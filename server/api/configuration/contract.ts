/** What each route of configurations takes and answers: schemas, examples, errors. */

import { Type } from '@sinclair/typebox';
import { UnitName } from '../../../domain/vocabulary.ts';
import { documented } from '../../http/documented.ts';
import { ListQuery, MinPosition, pageOf } from '../../http/schemas.ts';
import { IdempotencyHeaders } from '../../http/writes.ts';
import {
  ATTEMPT_EXAMPLE,
  AttemptView,
  ChangeBody,
  ConfigurationView,
  RollbackBody,
  VERSION_EXAMPLE,
  VersionView,
  VIEW_EXAMPLE,
  WholeVersionView,
} from './schema.ts';

const TAG = 'Configuration';
const params = Type.Object({ name: UnitName });
const strict = { additionalProperties: false };

const headers = Type.Object({
  ...IdempotencyHeaders.properties,
  'if-match': Type.Optional(
    Type.String({
      pattern: '^(\\*|"[1-9]\\d{0,8}")$',
      description: 'the `ETag` of what was read: `"` version `"`. Another version by now is refused with 412',
    }),
  ),
});

const changeAnswers = {
  200: { description: 'The unit proved that it runs it', schema: ConfigurationView, example: VIEW_EXAMPLE },
  202: {
    description: 'Recorded, and left to the queue; `status` and `reason` say why',
    schema: ConfigurationView,
    example: { ...VIEW_EXAMPLE, status: 'queued' },
  },
};

const CHANGE_ERRORS = [
  'validation',
  'not-found',
  'precondition-failed',
  'unit-rejected',
  'unit-offline',
  'idempotency-key-reused',
] as const;

export const CHANGE = {
  headers,
  params,
  body: ChangeBody,
  detail: documented({
    summary: 'Want another configuration on a unit',
    description:
      'All values, checked against each other; each change is a version. `live` sends it now and answers within 5 seconds: 200 ' +
      'when the unit proved it, 409 `unit-rejected` with its reason, 202 when it could not apply it or no answer came, and 503 ' +
      '`unit-offline`, with nothing recorded, when it was known to be offline. `queued` answers 202 at once: it is pushed as soon ' +
      'as the unit is online, and again after some time when that fails (`CONFIG_RETRY_SCHEDULE_S`). What is wanted already makes ' +
      'no new version, unless the unit has rejected it.',
    tag: TAG,
    answers: changeAnswers,
    errors: CHANGE_ERRORS,
  }),
};

export const ROLL_BACK = {
  headers,
  params,
  body: RollbackBody,
  detail: documented({
    summary: 'Want the values of an earlier version again',
    description: 'As a new version; everything else is as for a change.',
    tag: TAG,
    answers: changeAnswers,
    errors: CHANGE_ERRORS,
  }),
};

export const GET_CONFIGURATION = {
  params,
  query: Type.Object({ ...MinPosition }, strict),
  detail: documented({
    summary: 'What is wanted on a unit, what it runs, and why the two differ',
    description: 'The header `ETag` is what `If-Match` of a change wants.',
    tag: TAG,
    answers: { 200: { description: 'Desired and reported', schema: ConfigurationView, example: VIEW_EXAMPLE } },
    errors: ['validation', 'not-found'],
  }),
};

export const LIST_VERSIONS = {
  params,
  query: Type.Object({ ...ListQuery, ...MinPosition }, strict),
  detail: documented({
    summary: 'Every version that was wanted on a unit, newest first',
    description: 'Who wanted it, when, what it changed, and when the unit first proved it.',
    tag: TAG,
    answers: {
      200: {
        description: 'A page',
        schema: pageOf(VersionView),
        example: { items: [VERSION_EXAMPLE], nextCursor: null },
      },
    },
    errors: ['validation', 'not-found'],
  }),
};

export const GET_VERSION = {
  params: Type.Object({ name: UnitName, version: Type.String({ pattern: '^[1-9]\\d{0,8}$' }) }),
  query: Type.Object({ ...MinPosition }, strict),
  detail: documented({
    summary: 'One version with its values',
    tag: TAG,
    answers: {
      200: {
        description: 'The version',
        schema: WholeVersionView,
        example: { ...VERSION_EXAMPLE, values: VIEW_EXAMPLE.desired.values },
      },
    },
    errors: ['validation', 'not-found'],
  }),
};

export const LIST_ATTEMPTS = {
  params,
  query: Type.Object({ limit: ListQuery.limit, cursor: ListQuery.cursor, ...MinPosition }, strict),
  detail: documented({
    summary: 'What came of bringing configurations to a unit, newest first',
    tag: TAG,
    answers: {
      200: {
        description: 'A page',
        schema: pageOf(AttemptView),
        example: { items: [ATTEMPT_EXAMPLE], nextCursor: null },
      },
    },
    errors: ['validation', 'not-found'],
  }),
};

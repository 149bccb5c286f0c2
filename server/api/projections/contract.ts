/** What each route of projections takes and answers: schemas, examples, errors. */

import { Type } from '@sinclair/typebox';
import { UnitName } from '../../../domain/vocabulary.ts';
import { documented } from '../../http/documented.ts';
import { ListQuery, pageOf } from '../../http/schemas.ts';
import { IdempotencyHeaders } from '../../http/writes.ts';
import { PARKED_EXAMPLE, ParkedUnitView, PROJECTION_EXAMPLE, ProjectionView } from './schema.ts';

const TAG = 'Projections';
const name = Type.String({ pattern: '^[a-z][a-z0-9_]{0,62}$', description: 'such as `units`' });
const params = Type.Object({ name });

export const LIST = {
  detail: documented({
    summary: 'How far each read model is, and what is rebuilt',
    description:
      'Read models are filled from the log of events and can be filled again, one at a time, while everything goes on. ' +
      'Everything up to `position` is shown; `rebuild` is the run that is filled beside the one that serves.',
    tag: TAG,
    answers: {
      200: {
        description: 'All of them, by name',
        schema: pageOf(ProjectionView),
        example: { items: [PROJECTION_EXAMPLE], nextCursor: null },
      },
    },
  }),
};

export const REBUILD = {
  params,
  headers: IdempotencyHeaders,
  detail: documented({
    summary: 'Rebuild a read model',
    description:
      'A new run is filled from the first event on, beside the one that serves; when it is level with that in every part, it ' +
      'takes its place in one transaction. It goes on after a crash of anything. Asked for again while it is under way, it is ' +
      'the same rebuild. Nothing but tables comes of it: no command, timer or message is sent again.',
    tag: TAG,
    answers: { 202: { description: 'It is noted', schema: ProjectionView, example: PROJECTION_EXAMPLE } },
    errors: ['validation', 'not-found', 'idempotency-key-reused'],
  }),
};

export const CANCEL = {
  params,
  headers: IdempotencyHeaders,
  detail: documented({
    summary: 'Call a rebuild off',
    description:
      'The run that serves goes on serving. A rebuild that a new version of the code began cannot be called off: the code ' +
      'would begin it again; run the code of before.',
    tag: TAG,
    answers: {
      200: {
        description: 'It is called off',
        schema: ProjectionView,
        example: { ...PROJECTION_EXAMPLE, rebuild: null },
      },
    },
    errors: ['validation', 'not-found', 'precondition-failed', 'idempotency-key-reused'],
  }),
};

export const PARKED = {
  params,
  query: Type.Object(ListQuery, { additionalProperties: false }),
  detail: documented({
    summary: 'Units of which an event could not be applied',
    description: 'They wait in this read model, each with all that came later; every other unit goes on.',
    tag: TAG,
    answers: {
      200: {
        description: 'A page, by name of unit',
        schema: pageOf(ParkedUnitView),
        example: { items: [PARKED_EXAMPLE], nextCursor: null },
      },
    },
    errors: ['validation', 'not-found'],
  }),
};

export const RETRY = {
  params: Type.Object({ name, unit: UnitName }),
  headers: IdempotencyHeaders,
  detail: documented({
    summary: 'Try a parked unit again',
    description:
      'What waits of it is applied in order, within moments, by the process that fills its part of the read model. It is ' +
      'parked no longer when it is not in the list any more; `retries` counts the tries in vain.',
    tag: TAG,
    answers: { 202: { description: 'It is noted', schema: ParkedUnitView, example: PARKED_EXAMPLE } },
    errors: ['validation', 'not-found', 'idempotency-key-reused'],
  }),
};

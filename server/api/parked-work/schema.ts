/** Parked work over REST: what each route takes and answers. */

import { Type } from '@sinclair/typebox';
import { Instant, UnitName, Uuid } from '../../../domain/vocabulary.ts';
import { WORK_QUEUES } from '../../../platform/parked-work/queues.ts';
import { answer, operation } from '../../http/operation.ts';
import { ListQuery, OneOf, OrNull, pageOf, strict } from '../../http/schemas.ts';

const TAG = 'Parked work';
const params = Type.Object({ id: { ...Uuid, description: 'The id of the parked work.' } });

const ParkedWork = Type.Object(
  {
    id: Uuid,
    queue: Type.String({ description: 'The work queue that could not do it.' }),
    unit: UnitName,
    job: Type.String({ description: 'The kind of a job, or the aggregate of the events that the work follows.' }),
    subject: Type.String({ description: 'The subject of its messages.' }),
    firstSequence: Type.Integer({ description: 'The sequence in the stream of the first message of the work.' }),
    lastSequence: Type.Integer({ description: 'The sequence in the stream of its last message.' }),
    reason: Type.String({ description: 'Why the work is parked.' }),
    error: OrNull(Type.String({ description: 'The error of the last attempt; null where there was none.' })),
    attempts: Type.Integer({ description: 'The number of attempts that failed.' }),
    parkedAt: Instant,
    nextRetryAt: { ...Instant, description: 'When the queue retries it by itself.' },
  },
  { title: 'ParkedWork' },
);

const EXAMPLE = {
  id: '5f0f8a52-9c1b-4f57-9d5e-1f4b6f6f4c11',
  queue: 'reactor-facts',
  unit: 'PL-1000',
  job: 'device',
  subject: 'evt.5.e.PL-1000.device',
  firstSequence: 81_231,
  lastSequence: 81_240,
  reason: 'The same attempt fails again.',
  error:
    'A decision on the booking subject of unit PL-1000 has 612 events (ReservationExpired); a commit holds at most 500. Nothing was changed.',
  attempts: 1,
  parkedAt: '2026-07-01T10:00:00.120Z',
  nextRetryAt: '2026-07-01T10:42:11.000Z',
} as const;

export const LIST_PARKED_WORK = operation({
  id: 'listParkedWork',
  tag: TAG,
  auth: 'ops',
  summary: 'List work that the platform could not do for a unit, the newest first',
  description:
    'A work queue parks work of a unit when a retry within minutes cannot succeed, so that it delays no other unit. A piece of parked ' +
    'work stands for all messages of its queue, unit and job that were parked. The queue retries it by itself, at first after a minute ' +
    'and at last every hour; work that succeeds leaves the list.',
  query: Type.Object(
    {
      unit: Type.Optional({ ...UnitName, description: 'Only work of this unit.' }),
      queue: Type.Optional(OneOf(WORK_QUEUES, { description: 'Only work of this queue.' })),
      ...ListQuery,
    },
    strict,
  ),
  answers: {
    200: answer('A page of parked work.', pageOf(ParkedWork, 'ParkedWorkPage'), { items: [EXAMPLE], nextCursor: null }),
  },
  problems: ['validation'],
});

export const RETRY_PARKED_WORK = operation({
  id: 'retryParkedWork',
  tag: TAG,
  auth: 'ops',
  idempotent: true,
  summary: 'Retry parked work now',
  description:
    'The queue makes the attempt within seconds. Work that succeeds leaves the list; otherwise its `attempts` grow and `reason` and ' +
    '`error` say why. An attempt has no effect twice. Work that succeeded meanwhile answers 404.',
  params,
  answers: {
    202: answer('The retry is queued.', ParkedWork, { ...EXAMPLE, nextRetryAt: '2026-07-01T10:05:00.000Z' }),
  },
  problems: ['validation', 'not-found'],
});

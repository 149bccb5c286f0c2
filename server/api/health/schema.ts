/** Health checks over REST: what each route answers. */

import { Type } from '@sinclair/typebox';
import { answer, operation } from '../../http/operation.ts';
import { OneOf } from '../../http/schemas.ts';

const TAG = 'Health';

const Readiness = Type.Object(
  {
    status: OneOf(['ready', 'not-ready']),
    checks: Type.Record(Type.String(), Type.Boolean(), {
      description: 'Whether each part that the API needs works: NATS, Postgres, and the read models.',
    }),
    problems: Type.Array(
      Type.Object({
        check: Type.String({ description: 'The part that does not work.' }),
        detail: Type.String({ description: 'What does not work, and why: for example which read model is missing.' }),
      }),
      { description: 'Why a check failed. Empty when all parts work.' },
    ),
  },
  { title: 'Readiness' },
);

export const LIVENESS = operation({
  id: 'getLiveness',
  tag: TAG,
  summary: 'Ask whether the process lives',
  description: 'A process that does not answer within a few seconds should be restarted.',
  answers: {
    200: answer('The process lives.', Type.Object({ status: Type.Literal('ok') }, { title: 'Liveness' }), {
      status: 'ok',
    }),
  },
});

export const READINESS = operation({
  id: 'getReadiness',
  tag: TAG,
  summary: 'Ask whether the API can do its work',
  description: 'A load balancer should send requests only while the answer is 200.',
  answers: {
    200: answer('NATS, Postgres and the read models work.', Readiness, {
      status: 'ready',
      checks: { nats: true, postgres: true, readModels: true },
      problems: [],
    }),
    503: answer('A part that the API needs does not work.', Readiness, {
      status: 'not-ready',
      checks: { nats: true, postgres: true, readModels: false },
      problems: [
        {
          check: 'readModels',
          detail:
            'The read model bookings serves version 9, and this code reads version 10. Its run 12 of version 10 is being built.',
        },
      ],
    }),
  },
});

import { Type } from '@sinclair/typebox';
import { Elysia } from 'elysia';
import { documented } from '../../http/documented.ts';
import { RETRY_AFTER_S } from '../../http/problems.ts';

/** What must work for the API to answer; each check resolves to true when it does. */
export type HealthChecks = Readonly<Record<string, () => Promise<boolean>>>;

const CHECK_TIMEOUT_MS = 1_000;
const TAG = 'Health';

export function healthRoutes(checks: HealthChecks) {
  return new Elysia()
    .get('/healthz', () => ({ status: 'ok' }), {
      detail: documented({
        summary: 'The process lives',
        tag: TAG,
        secured: false,
        answers: {
          200: {
            description: 'It does',
            schema: Type.Object({ status: Type.Literal('ok') }),
            example: { status: 'ok' },
          },
        },
      }),
    })
    .get(
      '/readyz',
      async ({ set }) => {
        const results = await Promise.all(
          Object.entries(checks).map(async ([name, check]) => [name, await inTime(check())] as const),
        );
        const ready = results.every(([, ok]) => ok);
        if (!ready) {
          set.status = 503;
          set.headers['retry-after'] = String(RETRY_AFTER_S);
        }
        return { status: ready ? 'ready' : 'not-ready', checks: Object.fromEntries(results) };
      },
      {
        detail: documented({
          summary: 'The API can do its work',
          tag: TAG,
          secured: false,
          answers: {
            200: {
              description: 'NATS, Postgres and the read models are there',
              schema: Type.Object({ status: Type.String(), checks: Type.Record(Type.String(), Type.Boolean()) }),
              example: { status: 'ready', checks: { nats: true, postgres: true, readModels: true } },
            },
            503: {
              description: 'Something is missing',
              schema: Type.Object({ status: Type.String(), checks: Type.Record(Type.String(), Type.Boolean()) }),
              example: { status: 'not-ready', checks: { nats: false, postgres: true, readModels: true } },
            },
          },
        }),
      },
    );
}

async function inTime(check: Promise<boolean>): Promise<boolean> {
  const late = new Promise<boolean>((resolve) => {
    setTimeout(() => resolve(false), CHECK_TIMEOUT_MS).unref();
  });
  return Promise.race([check.catch(() => false), late]);
}

import { Elysia, status } from 'elysia';
import { RETRY_AFTER_S } from '../../http/problems.ts';
import { LIVENESS, READINESS } from './schema.ts';

/** The parts that the API needs, by name. A check that rejects or takes longer than `CHECK_TIMEOUT_MS` counts as `false`. */
export type HealthChecks = Readonly<Record<string, () => Promise<boolean>>>;

const CHECK_TIMEOUT_MS = 1_000;

export function healthRoutes(checks: HealthChecks) {
  return new Elysia()
    .get('/healthz', () => ({ status: 'ok' as const }), LIVENESS)
    .get(
      '/readyz',
      async ({ set }) => {
        const results = await Promise.all(
          Object.entries(checks).map(async ([name, check]) => [name, await resultOf(check())] as const),
        );
        const readiness = { checks: Object.fromEntries(results) };
        if (results.every(([, isWorking]) => isWorking)) return status(200, { status: 'ready', ...readiness });
        set.headers['retry-after'] = String(RETRY_AFTER_S);
        return status(503, { status: 'not-ready', ...readiness });
      },
      READINESS,
    );
}

async function resultOf(check: Promise<boolean>): Promise<boolean> {
  const timeout = new Promise<boolean>((resolve) => {
    setTimeout(() => resolve(false), CHECK_TIMEOUT_MS).unref();
  });
  return Promise.race([check.catch(() => false), timeout]);
}

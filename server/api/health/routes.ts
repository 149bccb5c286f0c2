import { Elysia, status } from 'elysia';
import { FailureLog } from '../../../platform/observability/failure-log.ts';
import type { Log } from '../../../platform/observability/log.ts';
import { RETRY_AFTER_S } from '../../http/problems.ts';
import { LIVENESS, READINESS } from './schema.ts';

/**
 * The parts that the API needs, by name. A check resolves to what does not work, in sentences for operators; to none when the part works.
 * A check that rejects, or that takes longer than `CHECK_TIMEOUT_MS`, counts as failed.
 */
export type HealthChecks = Readonly<Record<string, () => Promise<readonly string[]>>>;

const CHECK_TIMEOUT_MS = 1_000;
const TIMEOUT_PROBLEM = `There was no answer within ${CHECK_TIMEOUT_MS} ms.`;
const FAILURE_PROBLEM = 'The check failed; the log of this server has the cause.';

export function healthRoutes(checks: HealthChecks, log: Log) {
  const runs = Object.entries(checks).map(([name, check]) => ({ name, run: logged(name, check, log) }));
  return new Elysia()
    .get('/healthz', () => ({ status: 'ok' as const }), LIVENESS)
    .get(
      '/readyz',
      async ({ set }) => {
        const results = await Promise.all(
          runs.map(async ({ name, run }) => ({ name, problems: await withTimeout(run()) })),
        );
        const readiness = {
          checks: Object.fromEntries(results.map(({ name, problems }) => [name, problems.length === 0])),
          problems: results.flatMap(({ name, problems }) => problems.map((detail) => ({ check: name, detail }))),
        };
        if (readiness.problems.length === 0) return status(200, { status: 'ready', ...readiness });
        set.headers['retry-after'] = String(RETRY_AFTER_S);
        return status(503, { status: 'not-ready', ...readiness });
      },
      READINESS,
    );
}

/** The check, which does not reject. The log has the error once, since load balancers ask each second. */
function logged(name: string, check: HealthChecks[string], log: Log): HealthChecks[string] {
  const consequence = 'The server is not ready, and load balancers should send it no requests.';
  const failureLog = new FailureLog({ operation: `the check ${name} of /readyz`, consequence, log });
  return async () => {
    try {
      const problems = await check();
      failureLog.recordSuccess();
      return problems;
    } catch (error) {
      failureLog.recordFailure(error);
      return [FAILURE_PROBLEM];
    }
  };
}

async function withTimeout(check: Promise<readonly string[]>): Promise<readonly string[]> {
  const timeout = new Promise<readonly string[]>((resolve) => {
    setTimeout(() => resolve([TIMEOUT_PROBLEM]), CHECK_TIMEOUT_MS).unref();
  });
  return Promise.race([check, timeout]);
}

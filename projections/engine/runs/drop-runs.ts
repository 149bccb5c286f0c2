/** Drops the schemas of runs that ended, once no query can read them any more. */

import type { Log } from '../../../platform/observability/log.ts';
import type { Postgres } from '../../../platform/postgres/connection.ts';
import { endRun, type Run, SERVING_RUN_TTL_MS } from './runs.ts';

/** The longest query that may have started just before the lookup of the serving run expired. */
const LONGEST_QUERY_MS = 29_000;
const KEEP_ENDED_RUN_MS = SERVING_RUN_TTL_MS + LONGEST_QUERY_MS;
/** A verification that has reported no progress for this long was killed. */
const VERIFICATION_TIMEOUT_MS = 900_000;
/** A query that still reads a schema holds a lock on it: the next call tries again. */
const LOCK_TIMEOUT = '200ms';

/** @throws PostgresUnavailableError also when a query still reads one of the schemas */
export async function dropEndedRuns(postgres: Postgres, log: Log): Promise<void> {
  const abandoned = await postgres.sql<{ id: number }[]>`
    select id from platform.projection_runs
    where status = 'verifying' and heard_at < now() - ${`${VERIFICATION_TIMEOUT_MS} ms`}::interval`;
  for (const { id } of abandoned)
    await endRun(postgres.sql, id, 'cancelled', 'the process that verified it reported no progress for 15 minutes');
  const ended = await postgres.sql<{ id: number; schema: string }[]>`
    select id, schema_name as schema from platform.projection_runs
    where dropped_at is null and ended_at < now() - ${`${KEEP_ENDED_RUN_MS} ms`}::interval`;
  for (const run of ended) {
    await dropRun(postgres, run);
    log.info('dropped the schema of a run that ended', { schema: run.schema });
  }
}

/** Drops the tables, checkpoints and parked units of a run that ended. Its row stays, for the history of rebuilds. */
export async function dropRun(postgres: Postgres, { id, schema }: Pick<Run, 'id' | 'schema'>): Promise<void> {
  await postgres.transaction(async (tx) => {
    await tx.script(`set local lock_timeout = '${LOCK_TIMEOUT}'`);
    await tx`drop schema if exists ${tx(schema)} cascade`;
    await tx`delete from platform.projection_checkpoints where run_id = ${id}`;
    await tx`delete from platform.projection_parked where run_id = ${id}`;
    await tx`update platform.projection_runs set dropped_at = now() where id = ${id}`;
  });
}

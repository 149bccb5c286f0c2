/** Drops the schemas of runs that ended, when nobody can read them any more. */

import type { Log } from '../../../platform/observability/log.ts';
import type { Postgres } from '../../../platform/postgres/connection.ts';
import { endRun, type Run, SERVING_RUN_TTL_MS } from './runs.ts';

/** So long after the last reader can have looked up a schema, its longest query has ended too. */
const QUERY_ALLOWANCE_MS = 29_000;
const KEEP_MS = SERVING_RUN_TTL_MS + QUERY_ALLOWANCE_MS;
/** A verification that was not heard of for so long was killed. */
const VERIFICATION_SILENCE_MS = 900_000;
/** Whoever still reads a schema is not waited for: it is tried again later. */
const LOCK_TIMEOUT = '200ms';

/** @throws PostgresUnavailableError also when somebody still reads one */
export async function dropEndedRuns(postgres: Postgres, log: Log): Promise<void> {
  const silent = await postgres.sql<{ id: number }[]>`
    select id from platform.projection_runs
    where status = 'verifying' and heard_at < now() - ${`${VERIFICATION_SILENCE_MS} ms`}::interval`;
  for (const { id } of silent) await endRun(postgres.sql, id, 'cancelled', 'whoever verified it fell silent');
  const ended = await postgres.sql<{ id: number; schema: string }[]>`
    select id, schema_name as schema from platform.projection_runs
    where dropped_at is null and ended_at < now() - ${`${KEEP_MS} ms`}::interval`;
  for (const run of ended) {
    await dropRun(postgres, run);
    log.info('the schema of a run that ended was dropped', { schema: run.schema });
  }
}

/** Drops what a run that ended has filled; that it was stays noted. */
export async function dropRun(postgres: Postgres, { id, schema }: Pick<Run, 'id' | 'schema'>): Promise<void> {
  await postgres.transaction(async (tx) => {
    await tx.script(`set local lock_timeout = '${LOCK_TIMEOUT}'`);
    await tx`drop schema if exists ${tx(schema)} cascade`;
    await tx`delete from platform.projection_checkpoints where run_id = ${id}`;
    await tx`delete from platform.projection_parked where run_id = ${id}`;
    await tx`update platform.projection_runs set dropped_at = now() where id = ${id}`;
  });
}

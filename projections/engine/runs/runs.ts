/**
 * Runs. A run fills the tables of one version of a projection, in a schema of its own.
 *
 *   (none) ── the event store is empty ─────────────────────────▶ serving ── another run replaces it ──▶ retired
 *   (none) ── no run serves, or an older version ──▶ building ── level in every lane ──▶ serving
 *   (none) ── an operator requests a rebuild ──▶ requested ── a process starts it ──▶ building
 *   requested, building ── cancelled ──▶ cancelled        building ── an event cannot be applied ──▶ failed
 *
 * Each transition is one transaction, so a process that crashes leaves a run with which the next process continues.
 * `drop-runs.ts` drops the schemas of runs that ended.
 */

import { LANE_COUNT } from '../../../domain/shard.ts';
import type { Postgres, Sql, Tx } from '../../../platform/postgres/connection.ts';
import type { Projection } from '../projection.ts';

/**
 * A process may read from a run for this long after it looked up which run serves. The schema of a run that ended therefore
 * stays at least this long.
 */
export const SERVING_RUN_TTL_MS = 1_000;

export type RunReason = 'first' | 'version' | 'request' | 'verification';

export interface Run {
  readonly id: number;
  readonly projection: string;
  readonly version: number;
  readonly schema: string;
  readonly status: 'requested' | 'building' | 'serving' | 'verifying';
  readonly reason: RunReason;
}

/** A run of a newer version serves, so this code does not know its tables. Terminal. */
export class ObsoleteProjectionError extends Error {
  override readonly name = 'ObsoleteProjectionError';
}

/**
 * Finds or creates the run that this code fills: the run that serves, or a run of a newer version beside it. A first run over
 * an empty store serves at once; over a filled store, readers wait until the run is level with the store.
 *
 * @throws ObsoleteProjectionError
 */
export function ensureRun(postgres: Postgres, projection: Projection, storeIsEmpty = true): Promise<Run> {
  const { name, version } = projection;
  return postgres.transaction(async (tx) => {
    await lockProjection(tx, name);
    const runs = await activeRuns(tx, [name]);
    const serving = runs.find((run) => run.status === 'serving');
    const unfinished = runs.find((run) => run.status !== 'serving');
    if (serving?.version === version) return serving;
    if (serving !== undefined && serving.version > version) {
      throw new ObsoleteProjectionError(
        `Version ${serving.version} of the projection ${name} serves, but this code has version ${version}. ` +
          'Run code of the version that serves, or newer code.',
      );
    }
    if (unfinished?.version === version) return unfinished;
    if (unfinished !== undefined) await endRun(tx, unfinished.id, 'cancelled', `version ${version} is built instead`);
    if (serving !== undefined) return createRun(tx, projection, { status: 'building', reason: 'version' });
    return createRun(tx, projection, { status: storeIsEmpty ? 'serving' : 'building', reason: 'first' });
  });
}

/** Reads the runs of some projections that are filled or wait to be started. */
export function activeRuns(sql: Sql, projections: readonly string[]): Promise<Run[]> {
  return sql<Run[]>`
    select id, projection, version, schema_name as schema, status, reason from platform.projection_runs
    where projection = any(${projections}::text[]) and status in ('requested', 'building', 'serving')
    order by projection, id`;
}

/** Whether a run has not ended: it is built, serves, or is verified. */
export async function isActive(sql: Sql, runId: number): Promise<boolean> {
  const rows = await sql`
    select 1 from platform.projection_runs
    where id = ${runId} and status in ('building', 'serving', 'verifying')`;
  return rows.length > 0;
}

/** Starts a requested run: creates its tables. Idempotent; of several processes, the first does it. */
export function startRequestedRun(postgres: Postgres, projection: Projection, run: Run): Promise<void> {
  return postgres.transaction(async (tx) => {
    await lockProjection(tx, projection.name);
    const { count } = await tx`
      update platform.projection_runs set status = 'building', started_at = now()
      where id = ${run.id} and status = 'requested' and version = ${projection.version}`;
    if (count === 1) await createSchema(tx, projection, run);
  });
}

/** Creates a run that never serves: a verification fills it, compares it with the run that serves, and drops it. */
export function createVerification(postgres: Postgres, projection: Projection): Promise<Run> {
  return postgres.transaction((tx) => createRun(tx, projection, { status: 'verifying', reason: 'verification' }));
}

async function createRun(tx: Tx, projection: Projection, kind: Pick<Run, 'status' | 'reason'>): Promise<Run> {
  const { name, version } = projection;
  const { status, reason } = kind;
  const run = await insertRun(tx, { projection: name, version, status, reason });
  await tx`
    update platform.projection_runs set started_at = now(), heard_at = now(),
      served_at = case when status = 'serving' then now() end
    where id = ${run.id}`;
  await createSchema(tx, projection, run);
  return run;
}

/** Inserts the row of a run; its schema does not exist yet. */
export async function insertRun(tx: Tx, run: Omit<Run, 'id' | 'schema'>): Promise<Run> {
  const { projection, version, status, reason } = run;
  const [next] = await tx<{ id: number }[]>`
    select nextval(pg_get_serial_sequence('platform.projection_runs', 'id')) as id`;
  if (next === undefined) throw new Error('Postgres returned no id for a new row of platform.projection_runs.');
  const { id } = next;
  const schema = `${projection}_v${version}_r${id}`;
  await tx`
    insert into platform.projection_runs (id, projection, version, schema_name, status, reason)
    values (${id}, ${projection}, ${version}, ${schema}, ${status}, ${reason})`;
  return { id, schema, ...run };
}

async function createSchema(tx: Tx, projection: Projection, { id, schema }: Run): Promise<void> {
  await tx`
    insert into platform.projection_checkpoints (run_id, lane, position)
    select ${id}, lane, 0 from generate_series(0, ${LANE_COUNT - 1}) as lane`;
  await tx`create schema ${tx(schema)}`;
  await projection.createTables(tx, schema);
}

/** Ends a run that does not serve. Idempotent. @returns whether this call ended it */
export async function endRun(
  sql: Sql,
  runId: number,
  status: 'cancelled' | 'failed',
  because: string,
): Promise<boolean> {
  const { count } = await sql`
    update platform.projection_runs set status = ${status}, ended_at = now(), ended_because = ${because}
    where id = ${runId} and status in ('requested', 'building', 'verifying')`;
  return count === 1;
}

/** Adds to the number of events that a run has applied, for progress displays, and notes that a process still fills it. */
export async function countEvents(tx: Tx, runId: number, events: number): Promise<void> {
  await tx`update platform.projection_runs set events = events + ${events}, heard_at = now() where id = ${runId}`;
}

/** Locks the runs of a projection until the transaction ends: only one process at a time creates, ends or promotes one. */
export async function lockProjection(tx: Tx, projection: string): Promise<void> {
  await tx`select pg_advisory_xact_lock(hashtextextended(${lockName(projection)}, 0))`;
}

/** As `lockProjection`, without waiting. @returns false while another transaction has the lock */
export async function tryLockProjection(tx: Tx, projection: string): Promise<boolean> {
  const [row] = await tx<{ locked: boolean }[]>`
    select pg_try_advisory_xact_lock(hashtextextended(${lockName(projection)}, 0)) as locked`;
  return row?.locked === true;
}

function lockName(projection: string): string {
  return `projection ${projection}`;
}

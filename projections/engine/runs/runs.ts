/**
 * Runs: a version of a projection being filled, or serving. Each fills a schema of its own.
 *
 *   (none) ──the store is empty─────────────────────────▶ serving ──another took its place──▶ retired
 *   (none) ──nothing serves, or an older version──▶ building ──level in every lane──▶ serving
 *   (none) ──asked for──▶ requested ──taken up──▶ building
 *   requested, building ──cancelled──▶ cancelled      building ──an event cannot be applied──▶ failed
 *
 * Every transition is one transaction here, so that whoever dies in the middle of anything leaves a run that the next process
 * goes on with. `dropping.ts` drops the schemas of runs that ended.
 */

import { LANE_COUNT } from '../../../domain/shard.ts';
import type { Postgres, Sql, Tx } from '../../../platform/postgres/connection.ts';
import type { Projection } from '../projection.ts';

/**
 * For so long a process reads from the run that it last found serving. The schema of a run that ended stays at least so long.
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

/** Newer code has taken over: this code does not know its tables. Terminal. */
export class ObsoleteProjectionError extends Error {
  override readonly name = 'ObsoleteProjectionError';
}

/**
 * The run that this code fills: the one that serves, or a newer version beside it. Where nothing serves yet, readers wait
 * until a first run has caught up with the store; only in an empty store it serves at once.
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
        `version ${serving.version} of the projection ${name} serves, this code has version ${version}: run the newer code`,
      );
    }
    if (unfinished?.version === version) return unfinished;
    if (unfinished !== undefined) await endRun(tx, unfinished.id, 'cancelled', `version ${version} is built instead`);
    if (serving !== undefined) return createRun(tx, projection, { status: 'building', reason: 'version' });
    return createRun(tx, projection, { status: storeIsEmpty ? 'serving' : 'building', reason: 'first' });
  });
}

/** The runs that are filled or wait to be, of some projections. */
export function activeRuns(sql: Sql, projections: readonly string[]): Promise<Run[]> {
  return sql<Run[]>`
    select id, projection, version, schema_name as schema, status, reason from platform.projection_runs
    where projection = any(${projections}::text[]) and status in ('requested', 'building', 'serving')
    order by projection, id`;
}

/** Whether a run is still filled, by whatever name. */
export async function isActive(sql: Sql, runId: number): Promise<boolean> {
  const rows = await sql`
    select 1 from platform.projection_runs
    where id = ${runId} and status in ('building', 'serving', 'verifying')`;
  return rows.length > 0;
}

/** Makes the tables of a run that was asked for, once, whoever comes first. */
export function startRequestedRun(postgres: Postgres, projection: Projection, run: Run): Promise<void> {
  return postgres.transaction(async (tx) => {
    await lockProjection(tx, projection.name);
    const { count } = await tx`
      update platform.projection_runs set status = 'building', started_at = now()
      where id = ${run.id} and status = 'requested' and version = ${projection.version}`;
    if (count === 1) await createSchema(tx, projection, run);
  });
}

/** A run that never serves: it is filled as far as the one that does, compared with it, and dropped. */
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

/** Notes a run, without tables. */
export async function insertRun(tx: Tx, run: Omit<Run, 'id' | 'schema'>): Promise<Run> {
  const { projection, version, status, reason } = run;
  const [next] = await tx<{ id: number }[]>`
    select nextval(pg_get_serial_sequence('platform.projection_runs', 'id')) as id`;
  if (next === undefined) throw new Error('a sequence gave no number');
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

/** Ends a run that has not begun to serve, if it has not ended yet. @returns whether it did now */
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

/** Counts what was applied while a run is built. */
export async function countEvents(tx: Tx, runId: number, events: number): Promise<void> {
  await tx`update platform.projection_runs set events = events + ${events}, heard_at = now() where id = ${runId}`;
}

/** Held by whoever makes runs of a projection or ends them by a rule. */
export async function lockProjection(tx: Tx, projection: string): Promise<void> {
  await tx`select pg_advisory_xact_lock(hashtextextended(${`projection ${projection}`}, 0))`;
}

/** How long the old run is held up while the new one comes level with it. */
const PROMOTION_TIMEOUT_MS = 2_000;
const PROMOTION_POLL_INTERVAL_MS = 20;

/**
 * Lets a run that was built serve in the place of the old one, if it has passed `end` and is level with the old one in
 * every lane: a reader never goes back in time. The old run is held still for that moment.
 *
 * @returns `serving` when it serves now, `ended` when it was cancelled meanwhile
 */
export function promoteRun(
  postgres: Postgres,
  run: Run,
  end: number,
  sleep: (ms: number) => Promise<unknown>,
): Promise<'serving' | 'behind' | 'ended'> {
  return postgres.transaction(async (tx) => {
    // Whoever cancels waits for this; whoever fills the run does not.
    await lockProjection(tx, run.projection);
    const [own] = await tx<{ status: string }[]>`select status from platform.projection_runs where id = ${run.id}`;
    if (own?.status !== 'building') return own?.status === 'serving' ? 'serving' : 'ended';
    const held = await tx<{ lane: number; position: number }[]>`
      select c.lane, c.position from platform.projection_checkpoints c
      join platform.projection_runs r on r.id = c.run_id
      where r.projection = ${run.projection} and r.status = 'serving'
      order by c.lane for update of c`;
    for (let waitedMs = 0; ; waitedMs += PROMOTION_POLL_INTERVAL_MS) {
      const [behind] = await tx<{ lanes: number }[]>`
        select count(*) as lanes from platform.projection_checkpoints c
        left join unnest(${held.map(({ lane }) => lane)}::int[], ${held.map(({ position }) => position)}::bigint[])
          as old(lane, position) on old.lane = c.lane
        where c.run_id = ${run.id} and c.position < greatest(old.position, ${end})`;
      if (behind?.lanes === 0) break;
      if (waitedMs >= PROMOTION_TIMEOUT_MS) return 'behind';
      await sleep(PROMOTION_POLL_INTERVAL_MS);
    }
    await tx`
      update platform.projection_runs set status = 'retired', ended_at = now()
      where projection = ${run.projection} and status = 'serving'`;
    await tx`update platform.projection_runs set status = 'serving', served_at = now() where id = ${run.id}`;
    return 'serving';
  });
}

/** Whether every lane of a run has passed a position, whoever fills it: asked before the old run is held up. */
export async function hasPassedPosition(sql: Sql, runId: number, position: number): Promise<boolean> {
  const [row] = await sql<{ behind: number }[]>`
    select count(*) as behind from platform.projection_checkpoints where run_id = ${runId} and position < ${position}`;
  return row?.behind === 0;
}

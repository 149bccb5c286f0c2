/**
 * Runs: a version of a projection being filled, or serving.
 *
 *   (none) ──first of all──▶ serving ──a newer one took over──▶ retired
 *   (none) ──an older version serves──▶ building ──caught up in every lane──▶ serving
 */

import { LANE_COUNT } from '../../domain/shard.ts';
import type { Postgres, Tx } from '../../platform/postgres/connection.ts';
import type { Projection } from './projection.ts';

export interface Run {
  readonly id: number;
  readonly projection: string;
  readonly version: number;
  readonly schema: string;
  readonly status: 'building' | 'serving';
}

/** Newer code has taken over: this code does not know its tables. Terminal. */
export class ObsoleteProjectionError extends Error {
  override readonly name = 'ObsoleteProjectionError';
}

/** The run that this code fills: the one that serves, or a newer version beside it. */
export function ensureRun(postgres: Postgres, projection: Projection): Promise<Run> {
  const { name, version } = projection;
  return postgres.transaction(async (tx) => {
    await tx`select pg_advisory_xact_lock(hashtextextended(${`projection ${name}`}, 0))`;
    const runs = await tx<Run[]>`
      select id, projection, version, schema_name as schema, status from platform.projection_runs
      where projection = ${name} and status in ('serving', 'building')`;
    const serving = runs.find((run) => run.status === 'serving');
    const building = runs.find((run) => run.status === 'building');
    if (serving?.version === version) return serving;
    if (serving !== undefined && serving.version > version) {
      throw new ObsoleteProjectionError(
        `version ${serving.version} of the projection ${name} serves, this code has version ${version}: run the newer code`,
      );
    }
    if (building?.version === version) return building;
    if (building !== undefined) await retire(tx, building.id);
    return createRun(tx, projection, serving === undefined ? 'serving' : 'building');
  });
}

async function createRun(tx: Tx, projection: Projection, status: Run['status']): Promise<Run> {
  const { name, version } = projection;
  const [next] = await tx<{ id: number }[]>`
    select nextval(pg_get_serial_sequence('platform.projection_runs', 'id')) as id`;
  if (next === undefined) throw new Error('a sequence gave no number');
  const { id } = next;
  const schema = `${name}_v${version}_r${id}`;
  await tx`
    insert into platform.projection_runs (id, projection, version, schema_name, status)
    values (${id}, ${name}, ${version}, ${schema}, ${status})`;
  await tx`
    insert into platform.projection_checkpoints (run_id, lane, position)
    select ${id}, lane, 0 from generate_series(0, ${LANE_COUNT - 1}) as lane`;
  await tx`create schema ${tx(schema)}`;
  await projection.createTables(tx, schema);
  return { id, projection: name, version, schema, status };
}

async function retire(tx: Tx, runId: number): Promise<void> {
  await tx`update platform.projection_runs set status = 'retired' where id = ${runId}`;
}

/** How long the old run is held up while the new one comes level with it. */
const SWAP_PATIENCE_MS = 2_000;
const SWAP_POLL_MS = 20;

/**
 * Lets a run that was built serve in the place of the old one, if it has passed `end` and is level with the old one in
 * every lane: a reader never goes back in time. The old run is held still for that moment.
 *
 * @returns whether it serves now
 */
export function takeOver(
  postgres: Postgres,
  run: Run,
  end: number,
  sleep: (ms: number) => Promise<unknown>,
): Promise<boolean> {
  return postgres.transaction(async (tx) => {
    const held = await tx<{ lane: number; position: number }[]>`
      select c.lane, c.position from platform.projection_checkpoints c
      join platform.projection_runs r on r.id = c.run_id
      where r.projection = ${run.projection} and r.status = 'serving'
      order by c.lane for update of c`;
    for (let waitedMs = 0; ; waitedMs += SWAP_POLL_MS) {
      const [behind] = await tx<{ lanes: number }[]>`
        select count(*) as lanes from platform.projection_checkpoints c
        join unnest(${held.map(({ lane }) => lane)}::int[], ${held.map(({ position }) => position)}::bigint[])
          as old(lane, position) on old.lane = c.lane
        where c.run_id = ${run.id} and c.position < greatest(old.position, ${end})`;
      if (behind?.lanes === 0) break;
      if (waitedMs >= SWAP_PATIENCE_MS) return false;
      await sleep(SWAP_POLL_MS);
    }
    await tx`
      update platform.projection_runs set status = 'retired'
      where projection = ${run.projection} and status = 'serving'`;
    await tx`update platform.projection_runs set status = 'serving' where id = ${run.id}`;
    return true;
  });
}

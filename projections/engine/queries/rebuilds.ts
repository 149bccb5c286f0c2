/**
 * Requests and cancels rebuilds. A request is a row: any process that fills the projection starts the rebuild, and continues it
 * after a crash. The run that serves is not affected until the new run replaces it.
 */

import type { Postgres } from '../../../platform/postgres/connection.ts';
import { endRun, insertRun, lockProjection } from '../runs/runs.ts';

interface RunRow {
  readonly id: number;
  readonly version: number;
  readonly status: 'requested' | 'building' | 'serving';
  readonly reason: string;
}

/**
 * Requests a rebuild. Idempotent while a rebuild waits or runs: the caller then gets that rebuild.
 *
 * @param by who requests it, for the record
 * @returns the run, and whether this call created it; undefined when no run of the projection serves
 */
export function requestRebuild(
  postgres: Postgres,
  projection: string,
  by: string,
): Promise<{ readonly runId: number; readonly isNew: boolean } | undefined> {
  return postgres.transaction(async (tx) => {
    await lockProjection(tx, projection);
    const runs = await tx<RunRow[]>`
      select id, version, status, reason from platform.projection_runs
      where projection = ${projection} and status in ('requested', 'building', 'serving')`;
    const unfinished = runs.find(({ status }) => status !== 'serving');
    if (unfinished !== undefined) return { runId: unfinished.id, isNew: false };
    const [serving] = runs;
    if (serving === undefined) return undefined;
    const { version } = serving;
    const run = await insertRun(tx, { projection, version, status: 'requested', reason: 'request' });
    await tx`update platform.projection_runs set requested_by = ${by} where id = ${run.id}`;
    return { runId: run.id, isNew: true };
  });
}

/**
 * Cancels a rebuild. Its schema is dropped about 30 s later.
 *
 * @returns `none` when no rebuild waits or runs; `needed` when no operator requested it: the code has a new version and
 *   would start the rebuild again
 */
export function cancelRebuild(
  postgres: Postgres,
  projection: string,
  by: string,
): Promise<'cancelled' | 'none' | 'needed'> {
  return postgres.transaction(async (tx) => {
    await lockProjection(tx, projection);
    const [unfinished] = await tx<RunRow[]>`
      select id, version, status, reason from platform.projection_runs
      where projection = ${projection} and status in ('requested', 'building')`;
    if (unfinished === undefined) return 'none';
    if (unfinished.reason !== 'request') return 'needed';
    return (await endRun(tx, unfinished.id, 'cancelled', `by ${by}`)) ? 'cancelled' : 'none';
  });
}

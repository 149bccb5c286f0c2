/**
 * Asking for a rebuild and calling it off. What is asked for is a row: whichever process fills the projection takes it up, and
 * goes on with it after any crash. The run that serves goes on serving until the new one takes its place.
 */

import type { Postgres } from '../../../platform/postgres/connection.ts';
import { endRun, insertRun, lockProjection } from '../runs/runs.ts';

interface Known {
  readonly id: number;
  readonly version: number;
  readonly status: 'requested' | 'building' | 'serving';
  readonly reason: string;
}

/**
 * Asks for a rebuild; one that is under way or waits already is the same.
 *
 * @returns the run, and whether it is new; `undefined` when there is no such projection
 */
export function requestRebuild(
  postgres: Postgres,
  projection: string,
  by: string,
): Promise<{ readonly runId: number; readonly isNew: boolean } | undefined> {
  return postgres.transaction(async (tx) => {
    await lockProjection(tx, projection);
    const runs = await tx<Known[]>`
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
 * Calls a rebuild off. What it has filled is dropped a little later.
 *
 * @returns `needed` for one that nobody asked for: the code would begin it again
 */
export function cancelRebuild(
  postgres: Postgres,
  projection: string,
  by: string,
): Promise<'cancelled' | 'none' | 'needed'> {
  return postgres.transaction(async (tx) => {
    await lockProjection(tx, projection);
    const [unfinished] = await tx<Known[]>`
      select id, version, status, reason from platform.projection_runs
      where projection = ${projection} and status in ('requested', 'building')`;
    if (unfinished === undefined) return 'none';
    if (unfinished.reason !== 'request') return 'needed';
    return (await endRun(tx, unfinished.id, 'cancelled', `by ${by}`)) ? 'cancelled' : 'none';
  });
}

/**
 * `./run projections rebuild NAME` and `cancel NAME`. The projections processes do the work; these commands only write the
 * request and show the progress, so a rebuild continues when the command ends.
 */

import type { Sql } from '../../platform/postgres/connection.ts';
import { cancelRebuild, requestRebuild } from '../engine/queries/rebuilds.ts';
import { FAILED, INTERRUPTED, type OperationContext, SUCCEEDED, unknownProjection } from './operation.ts';
import { formatDuration, formatNumber, ProgressDisplay } from './progress-display.ts';

const POLL_INTERVAL_MS = 500;
/** When no process has started the rebuild by then, the command says so. */
const START_TIMEOUT_MS = 3_000;

interface RunRow {
  readonly status: 'requested' | 'building' | 'serving' | 'retired' | 'cancelled' | 'failed';
  readonly events: number;
  readonly position: number;
  readonly ended_because: string | null;
  readonly took_s: number | null;
}

/** Requests a rebuild, or joins the one that runs, and shows its progress until it ends. @returns the exit status */
export async function rebuild(name: string, context: OperationContext): Promise<number> {
  const { postgres, store, projections, output, clock, sleep, interrupted, by } = context;
  const display = new ProgressDisplay(name, output, clock);
  const request = await requestRebuild(postgres, name, by);
  if (request === undefined) {
    const isKnown = projections.some((projection) => projection.name === name);
    display.printLine(isKnown ? notServing(name) : unknownProjection(name, projections));
    return FAILED;
  }
  if (!request.isNew) display.printLine(`${name}: a rebuild runs already; this is its progress.`);
  const requestedAtMs = clock();
  let hasWarned = false;
  while (!interrupted.aborted) {
    const run = await readRun(postgres.sql, request.runId);
    const end = await store.lastSequence();
    switch (run.status) {
      case 'serving':
      case 'retired':
        display.printLine(`${name}: ${rebuilt(run)}`);
        return SUCCEEDED;
      case 'cancelled':
        display.printLine(
          `${name}: the rebuild was cancelled (${run.ended_because}). The run that served before still serves.`,
        );
        return FAILED;
      case 'failed':
        display.printLine(
          `${name}: the rebuild failed: ${run.ended_because}. The run that served before still serves.`,
        );
        return FAILED;
      case 'requested':
        if (!hasWarned && clock() - requestedAtMs > START_TIMEOUT_MS) {
          hasWarned = true;
          display.printLine(
            `${name}: the rebuild is requested, but no projections process has started it within 3 s. ` +
              'Check that one is running; ./run start starts one.',
          );
        }
        break;
      case 'building':
        display.show({ share: end === 0 ? 1 : Math.min(1, run.position / end), events: run.events });
        break;
    }
    await sleep(POLL_INTERVAL_MS);
  }
  display.printLine(
    `${name}: the rebuild continues without this terminal. To see its progress again: ./run projections rebuild ${name}. ` +
      `To cancel it: ./run projections cancel ${name}.`,
  );
  return INTERRUPTED;
}

export function notServing(name: string): string {
  return `${name}: no run serves yet. Wait until ./run projections status shows one as serving, then try again.`;
}

function rebuilt({ took_s, events }: RunRow): string {
  const tookS = took_s ?? 0;
  const rate = tookS > 0 ? ` (${formatNumber(events / tookS)} events/s)` : '';
  return `rebuilt from ${formatNumber(events)} events in ${formatDuration(tookS)}${rate}; the new run serves.`;
}

/** Cancels a rebuild. @returns the exit status: 1 when there is none to cancel */
export async function cancel(name: string, { postgres, output, by }: OperationContext): Promise<number> {
  const outcome = await cancelRebuild(postgres, name, by);
  const answer = {
    cancelled: 'the rebuild is cancelled. The run that served before still serves.',
    none: 'no rebuild runs.',
    needed:
      'this rebuild cannot be cancelled: the running code has a new version of the read model and would start it again. To do ' +
      'without it, run the code of the version that serves.',
  }[outcome];
  output.write(`${name}: ${answer}\n`);
  return outcome === 'cancelled' ? SUCCEEDED : FAILED;
}

async function readRun(sql: Sql, runId: number): Promise<RunRow> {
  const [row] = await sql<RunRow[]>`
    select status, events, ended_because,
      extract(epoch from served_at - started_at)::double precision as took_s,
      coalesce((select avg(position)::bigint from platform.projection_checkpoints c where c.run_id = r.id), 0) as position
    from platform.projection_runs r where id = ${runId}`;
  if (row === undefined) throw new Error(`Run ${runId} is missing in platform.projection_runs.`);
  return row;
}

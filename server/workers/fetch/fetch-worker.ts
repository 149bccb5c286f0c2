/**
 * The fetch worker reads the logs of units that do not push, or whose pushes do not arrive (`fetch-schedule.ts` says which).
 *
 * The candidates come from a read model, which may lag. Before the worker records events or gives them up as lost, it folds
 * the unit from the store. Two processes that fetch from one unit at the same time cost one request more and record nothing
 * twice.
 */

import { errorMessage } from '../../../platform/observability/error-message.ts';
import type { Log } from '../../../platform/observability/log.ts';
import { UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import { type FetchReason, FetchSchedule, type FetchTarget } from './fetch-schedule.ts';
import { type FetchUnitLogOptions, fetchUnitLog } from './fetch-unit-log.ts';

/** Length of the shard prefixes by which the fetch workers divide the units between them. */
export const FETCH_SHARD_LETTERS = 2;
/** Units from which one process fetches at the same time. */
export const MAX_CONCURRENT_FETCHES = 32;
/** Least pause between two polls of the read model. */
const POLL_INTERVAL_MS = 1_000;
/** The pause lasts at least so many times as long as the poll before it, so that polling takes a tenth of the time at most. */
const POLL_DUTY_FACTOR = 10;
/** Units that one query of the read model returns. */
export const MAX_TARGETS_PER_PAGE = 1_000;

export interface FetchWorkerOptions extends FetchUnitLogOptions {
  /** Reads candidates in the order of their names, after `afterName`. A page of fewer than `limit` is the last. */
  readonly readTargets: (afterName: string | undefined, limit: number) => Promise<readonly FetchTarget[]>;
  /** Whether this process fetches from that unit. */
  readonly owns: (unit: string) => boolean;
  /** Interval in which every unit of `delivery: "fetch"` has one slot. */
  readonly intervalMs: number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` is aborted and the running fetches have ended. */
export async function runFetchWorker(options: FetchWorkerOptions): Promise<void> {
  const { intervalMs, signal, sleep, clock, log } = options;
  const schedule = new FetchSchedule(intervalMs);
  const running = new Map<string, Promise<void>>();
  let failing = false;
  while (!signal.aborted) {
    const startedMs = clock();
    try {
      const due = schedule.listDue(await readOwnTargets(options), clock());
      for (const { name, reason } of due) {
        if (signal.aborted) break;
        if (running.has(name)) continue;
        if (running.size >= MAX_CONCURRENT_FETCHES) await Promise.race(running.values());
        schedule.recordAttempt(name, clock());
        running.set(
          name,
          fetchFromUnit(name, reason, schedule, options).finally(() => running.delete(name)),
        );
      }
      failing = false;
    } catch (error) {
      if (!failing)
        log.warn('The fetch worker could not read which units are due; it retries with the next poll.', {
          error: errorMessage(error),
        });
      failing = true;
    }
    await sleep(Math.max(POLL_INTERVAL_MS, (clock() - startedMs) * POLL_DUTY_FACTOR));
  }
  await Promise.all(running.values());
}

async function readOwnTargets({ readTargets, owns }: FetchWorkerOptions): Promise<FetchTarget[]> {
  const own: FetchTarget[] = [];
  for (let after: string | undefined; ; ) {
    const page = await readTargets(after, MAX_TARGETS_PER_PAGE);
    for (const target of page) if (owns(target.name)) own.push(target);
    after = page.at(-1)?.name;
    if (page.length < MAX_TARGETS_PER_PAGE) return own;
  }
}

/** Fetches from one unit and tells the schedule the outcome. It never rejects: it logs what failed. */
async function fetchFromUnit(
  unit: string,
  reason: FetchReason,
  schedule: FetchSchedule,
  options: FetchWorkerOptions,
): Promise<void> {
  const { unitInbox, clock, log } = options;
  try {
    // Batches that wait for ingest already hold the next events of the unit.
    if (reason === 'behind' && (await unitInbox.listPendingBatches(unit)).length > 0) return;
    const events = await fetchUnitLog(unit, options);
    schedule.recordAnswer(unit);
    if (events > 0 || reason === 'confirm') schedule.recordProgress(unit, clock());
    log.debug('The fetch worker read the log of a unit.', { unit, reason, events });
  } catch (error) {
    const isExpected = error instanceof UnitUnreachableError;
    log[isExpected ? 'debug' : 'warn']('The fetch worker could not read the log of a unit; it retries with backoff.', {
      unit,
      reason,
      error: errorMessage(error),
    });
  }
}

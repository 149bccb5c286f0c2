/**
 * The fetch worker reads the logs of units that do not push, or whose pushes do not arrive (`fetch-schedule.ts` says which).
 *
 * The change feed names units whose rows changed; the worker reads those rows, and all rows at first. The read model may lag, so
 * before the worker records events or gives them up as lost, it folds the unit from the store. Two processes that fetch from one
 * unit at the same time cost one request more and record nothing twice.
 */

import { UnitFollower, type UnitQuery } from '../../../platform/change-feed/follower.ts';
import type { UnitChangeSubscription } from '../../../platform/change-feed/subscription.ts';
import { errorMessage } from '../../../platform/observability/error-message.ts';
import { FailureLog } from '../../../platform/observability/failure-log.ts';
import type { Log } from '../../../platform/observability/log.ts';
import { UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import { type DueFetch, FetchSchedule, type FetchTarget } from './fetch-schedule.ts';
import { type FetchUnitLogOptions, fetchUnitLog } from './fetch-unit-log.ts';

/** Length of the shard prefixes by which the fetch workers divide the units between them. */
export const FETCH_SHARD_LETTERS = 2;
/** Units from which one process fetches at the same time. */
export const MAX_CONCURRENT_FETCHES = 32;
/** Pause between two looks at the change feed and the schedule. */
const STEP_INTERVAL_MS = 1_000;

export interface FetchWorkerOptions extends FetchUnitLogOptions {
  /** Reads rows of units: a page of those that may become due, or those that are named. */
  readonly readTargets: (query: UnitQuery) => Promise<readonly FetchTarget[]>;
  readonly changes: UnitChangeSubscription;
  /** Whether this process fetches from that unit. When that changes, the caller puts `all` back into `changes`. */
  readonly owns: (unit: string) => boolean;
  /** Interval in which every unit of `delivery: "fetch"` has one slot. */
  readonly intervalMs: number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` is aborted and the running fetches have ended. */
export async function runFetchWorker(options: FetchWorkerOptions): Promise<void> {
  const { changes, intervalMs, signal, sleep, clock, log } = options;
  const schedule = new FetchSchedule(intervalMs);
  const follower = followTargets(schedule, options);
  const reading = new FailureLog({
    operation: 'reading which units to fetch from',
    consequence: 'The worker continues with the units that it knows, and reads again at its next poll.',
    log,
  });
  const outdated = new Set<string>();
  const running = new Set<Promise<void>>();
  while (!signal.aborted) {
    try {
      await follower.refresh(signal, outdated);
      outdated.clear();
      reading.recordSuccess();
    } catch (error) {
      reading.recordFailure(error);
    }
    do {
      const due = schedule.due(clock(), MAX_CONCURRENT_FETCHES - running.size);
      for (const name of due.outdated) outdated.add(name);
      for (const fetch of due.fetches) {
        schedule.recordAttempt(fetch.name, clock());
        const run = fetchFromUnit(fetch, schedule, options).finally(() => running.delete(run));
        running.add(run);
      }
      if (running.size >= MAX_CONCURRENT_FETCHES) await Promise.race(running);
    } while (!signal.aborted && !changes.hasChanges && schedule.hasDue(clock()));
    await sleep(STEP_INTERVAL_MS);
  }
  await Promise.all(running);
}

function followTargets(
  schedule: FetchSchedule,
  { changes, readTargets, owns, monotonic, clock }: FetchWorkerOptions,
): UnitFollower<FetchTarget> {
  return new UnitFollower({
    changes,
    read: readTargets,
    owns,
    monotonic,
    onUnit: (target) => (owns(target.name) ? schedule.update(target, clock()) : schedule.remove(target.name)),
    onAbsent: (name) => schedule.remove(name),
    onFullRead: (present) => schedule.retain(present),
  });
}

/** Fetches from one unit and records the outcome in the schedule. It logs errors and never rejects. */
async function fetchFromUnit(fetch: DueFetch, schedule: FetchSchedule, options: FetchWorkerOptions): Promise<void> {
  const { unitInbox, clock, log } = options;
  const { name: unit, reason } = fetch;
  try {
    // Batches that wait for ingest already hold the next events of the unit.
    if (reason === 'behind' && (await unitInbox.listPendingBatches(unit)).length > 0) return;
    const events = await fetchUnitLog(unit, options);
    schedule.recordAnswer(fetch, events, clock());
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

/**
 * Retries the parked units of a read model, beside the engine that fills it: nothing that a parked unit needs delays the engine.
 *
 * A parked unit is due when its time of the next retry has come (`RETRIES`, `FAULTS`), when an operator requests it, and when this
 * process fills its lane for the first time, because newer code may be able to apply what the code that parked the unit could
 * not. One unit of a read model is retried at a time, for at most `TURN_MS`; then it waits for its next turn.
 */

import type { EventStore } from '../../../platform/event-store/store.ts';
import { type RetrySchedule, retryDelayMs } from '../../../platform/nats/work-failures.ts';
import { errorMessage } from '../../../platform/observability/error-message.ts';
import { FailureLog } from '../../../platform/observability/failure-log.ts';
import type { Postgres } from '../../../platform/postgres/connection.ts';
import { isRetryable, type RetryPolicy } from '../../../platform/retry/retry-policy.ts';
import type { Applied } from '../applied.ts';
import { FencedError } from '../checkpoints/checkpoints.ts';
import type { Run } from '../runs/runs.ts';
import type { Share } from '../shares.ts';
import { type CatchUpStep, catchUpStep } from './catch-up.ts';
import {
  type ClaimedUnit,
  claimDue,
  claimNext,
  prolongClaim,
  recordFailure,
  recordFault,
  yieldClaim,
} from './parked-rows.ts';
import { MAX_REASON_LENGTH } from './parking.ts';

/** After a retry that failed by the fault of an event: new code or an operator may mend it at any time. */
export const RETRIES: RetrySchedule = { firstMs: 60_000, maxMs: 3_600_000 };
/** After a retry that could not be made, such as while the event store is away. */
export const FAULTS: RetrySchedule = { firstMs: 1_000, maxMs: 60_000 };
/** Pause between two looks for units that are due. */
const POLL_INTERVAL_MS = 500;
/** Longest time for which a unit is retried before another one has its turn. */
const TURN_MS = 5_000;
/** Longer than one step may take. */
const LEASE_MS = 90_000;

export interface ParkedRetryOptions extends RetryPolicy {
  readonly postgres: Postgres;
  readonly store: EventStore;
  /** Monotonic, in milliseconds. */
  readonly clock: () => number;
  /** Called after each committed transaction. Must not throw. */
  readonly onApplied: (run: Run, applied: Applied) => void;
  /** From 0 to 1, for jitter. */
  readonly random: () => number;
  /** What this process fills of one read model, as of now. */
  readonly shares: () => readonly Share[];
}

/** Lanes that this process fills for the first time: it retries each of their parked units once, by name, due or not. */
interface Sweep {
  readonly lanes: readonly number[];
  /** The units up to this name are retried. */
  after: string;
}

/** What this process has seen of one run. */
interface Progress {
  readonly lanes: Set<number>;
  readonly sweeps: Sweep[];
}

/** Retries the parked units of one read model until `signal` aborts. */
export async function retryParkedUnits(projection: string, options: ParkedRetryOptions): Promise<void> {
  const { signal, sleep, random, log } = options;
  const failureLog = new FailureLog({
    operation: `retrying parked units of ${projection}`,
    consequence: 'The units stay parked; the retry is repeated.',
    log,
  });
  const progress = new Map<number, Progress>();
  for (let faults = 0; !signal.aborted; ) {
    try {
      const shares = options.shares().filter(({ run }) => run.status !== 'requested');
      for (const runId of progress.keys()) if (!shares.some(({ run }) => run.id === runId)) progress.delete(runId);
      for (const share of shares) {
        const { lanes, sweeps } = progress.get(share.run.id) ?? { lanes: new Set(), sweeps: [] };
        const newLanes = share.lanes.filter((lane) => !lanes.has(lane));
        if (newLanes.length > 0) sweeps.push({ lanes: newLanes, after: '' });
        progress.set(share.run.id, { lanes: lanes.union(new Set(newLanes)), sweeps });
        await retryUnits(share, sweeps, options);
      }
      if (faults > 0) failureLog.recordSuccess();
      faults = 0;
      await sleep(POLL_INTERVAL_MS);
    } catch (error) {
      if (signal.aborted) return;
      faults += 1;
      failureLog.recordFailure(error);
      await sleep(retryDelayMs(FAULTS, faults, random()));
    }
  }
}

/** Retries units until none is due and the sweeps are done. */
async function retryUnits(share: Share, sweeps: Sweep[], options: ParkedRetryOptions): Promise<void> {
  const { sql } = options.postgres;
  const { run, lanes } = share;
  while (!options.signal.aborted) {
    const due = await claimDue(sql, run.id, lanes, LEASE_MS);
    if (due !== undefined) {
      await retryUnit(share, due, options);
      continue;
    }
    const [sweep] = sweeps;
    if (sweep === undefined) return;
    const next = await claimNext(sql, run.id, sweep.lanes, { after: sweep.after, leaseMs: LEASE_MS });
    if (next === undefined) {
      sweeps.shift();
      continue;
    }
    const { after } = sweep;
    sweep.after = next.unit;
    if (await retryUnit(share, next, options)) continue;
    // The other process may have older code: this one retries the unit when the other one has finished.
    sweep.after = after;
    return;
  }
}

/** @returns false when another process retries the unit at the same time @throws the retryable error of a service that is away */
async function retryUnit(share: Share, claimed: ClaimedUnit, options: ParkedRetryOptions): Promise<boolean> {
  const { postgres, signal, random, log } = options;
  const { run } = share;
  const { unit } = claimed;
  try {
    const step = await catchUpForOneTurn(share, claimed, options);
    if (step.kind === 'moved') {
      await yieldClaim(postgres.sql, run.id, unit);
    } else if (step.kind === 'unparked') {
      log.info('A parked unit was unparked: its waiting events are applied.', { projection: run.projection, unit });
    } else {
      await recordFailure(postgres.sql, run.id, unit, retryDelayMs(RETRIES, claimed.retries + 1, random()));
      log.error('The retry of a parked unit failed: the unit stays parked.', {
        projection: run.projection,
        ...step.poison,
      });
    }
    return true;
  } catch (error) {
    if (error instanceof FencedError) return false;
    if (signal.aborted) {
      await yieldClaim(postgres.sql, run.id, unit);
      return true;
    }
    const fault = errorMessage(error).slice(0, MAX_REASON_LENGTH);
    const retryInMs = retryDelayMs(FAULTS, claimed.faults + 1, random());
    await recordFault(postgres.sql, run.id, unit, { fault, retryInMs });
    // A service that is away fails the retries of all units.
    if (isRetryable(error)) throw error;
    log.error('A parked unit could not be retried.', { projection: run.projection, unit, error });
    return true;
  }
}

/** @returns the last step: `moved` when the turn ended before the unit has caught up */
async function catchUpForOneTurn(
  { run, projection }: Share,
  { unit, position: claimedAt }: ClaimedUnit,
  options: ParkedRetryOptions,
): Promise<CatchUpStep> {
  const { postgres, store, signal, clock, onApplied } = options;
  const endsAtMs = clock() + TURN_MS;
  let step: CatchUpStep = { kind: 'moved', position: claimedAt, events: 0 };
  while (step.kind === 'moved') {
    step = await catchUpStep({ postgres, store, signal, projection, run }, unit, step.position);
    onApplied(run, { events: step.kind === 'poison' ? 0 : step.events, units: new Set([unit]) });
    if (step.kind !== 'moved') return step;
    if (signal.aborted || clock() >= endsAtMs) return step;
    await prolongClaim(postgres.sql, run.id, unit, LEASE_MS);
  }
  return step;
}

/**
 * Promotes a run that is built, when it is level with the run that serves.
 *
 * How it works. Each process that fills the run asks its filler to write what it has folded up to the end of the store, and waits
 * until every lane has passed that end. Only then does the process stop the run that serves, for a few milliseconds in which the
 * new run becomes level with it. When that takes longer than the hold, the process lets the run that serves go on, and tries
 * again later with a longer hold. So the run that serves never stands still for more than `MAX_HOLD_MS`, and during a tenth of the
 * time at most.
 */

import type { EventStore } from '../../../platform/event-store/store.ts';
import type { Postgres } from '../../../platform/postgres/connection.ts';
import { type RetryPolicy, retryWithBackoff } from '../../../platform/retry/retry-policy.ts';
import { hasPassedPosition, promoteRun } from '../runs/promote-run.ts';
import type { Filler } from './filler.ts';

/** How long the run that serves stands still at the first attempt. The time doubles with each attempt that fails. */
const FIRST_HOLD_MS = 100;
const MAX_HOLD_MS = 1_000;
/** Least pause after an attempt that failed, as a multiple of its hold. */
const PAUSE_FACTOR = 10;
const POLL_INTERVAL_MS = 20;
/** Pause between two looks at the lanes of other processes, and between two writes while an attempt is not due. */
const IDLE_INTERVAL_MS = 100;

export interface PromotionContext {
  readonly postgres: Postgres;
  readonly store: EventStore;
  /** Monotonic, in milliseconds. */
  readonly clock: () => number;
  readonly onPromoted: () => void;
}

/** Returns when the run serves or has ended, or when the signal aborts. */
export async function promoteWhenLevel(
  filler: Filler,
  { postgres, store, clock, onPromoted }: PromotionContext,
  retryPolicy: RetryPolicy,
): Promise<void> {
  const { signal, sleep, log } = retryPolicy;
  const { run } = filler;
  const writeAt = (position: number) => filler.writeAt(position);
  let holdMs = FIRST_HOLD_MS;
  let dueMs = Number.NEGATIVE_INFINITY;
  while (!signal.aborted) {
    const end = await retryWithBackoff('reading the end of the event store', retryPolicy, () => store.lastSequence());
    writeAt(end);
    while (!signal.aborted && filler.lowestPosition < end) await sleep(POLL_INTERVAL_MS);
    const hasPassed = () => hasPassedPosition(postgres.sql, run.id, end);
    while (!signal.aborted && !(await retryWithBackoff('reading checkpoints', retryPolicy, hasPassed)))
      await sleep(IDLE_INTERVAL_MS);
    if (signal.aborted) return;
    if (clock() < dueMs) {
      await sleep(IDLE_INTERVAL_MS);
      continue;
    }
    const outcome = await retryWithBackoff('promoting a run', retryPolicy, () =>
      promoteRun(postgres, { run, end, holdMs, sleep, writeAt }),
    );
    if (outcome === 'serving') {
      log.info('a run was promoted: it serves now', { projection: run.projection, schema: run.schema });
      onPromoted();
    }
    if (outcome === 'serving' || outcome === 'ended') return;
    if (outcome === 'behind') {
      dueMs = clock() + holdMs * PAUSE_FACTOR;
      holdMs = Math.min(MAX_HOLD_MS, holdMs * 2);
    }
    await sleep(POLL_INTERVAL_MS);
  }
}

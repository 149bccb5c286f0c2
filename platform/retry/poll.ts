/**
 * Repeats a piece of work until the process stops.
 *
 * Polls start one interval apart, and take at most the share `maxDuty` of the time. A poll that failed is repeated sooner, with
 * exponential backoff, so that a service that starts or is available again is noticed within a fraction of the interval. Of
 * consecutive failures, only the first is logged, and so is the first success after them.
 */

import { FailureLog } from '../observability/failure-log.ts';
import type { Log } from '../observability/log.ts';
import { backoffMs } from './backoff.ts';

/** Pause after the first failure in a row, unless the interval is shorter. */
export const FIRST_POLL_BACKOFF_MS = 250;
/** Longest pause after a failure, unless the interval itself is longer. */
export const MAX_POLL_BACKOFF_MS = 5_000;
/** Longest pause that `maxDuty` asks for. It bounds the effect of a system clock that jumps ahead during a poll. */
export const MAX_DUTY_PAUSE_MS = 60_000;

export interface PollOptions {
  /** A gerund for the log, such as "reading the clock offsets of units". */
  readonly name: string;
  /** What the failures mean for operators until a poll succeeds, as a sentence for the log. */
  readonly consequence?: string;
  /** From the start of a poll to the start of the next, milliseconds. */
  readonly intervalMs: number;
  /** Greatest share of the time that polls may take, above 0. @default 1 */
  readonly maxDuty?: number;
  /** Milliseconds; only differences count. */
  readonly clock: () => number;
  readonly signal: AbortSignal;
  /** Resolves after `ms`, or at once when the process stops. */
  readonly sleep: (ms: number) => Promise<unknown>;
  readonly log: Log;
}

/** Sleeps within a poll. Time spent here does not count as work. */
export type Idle = (ms: number) => Promise<void>;

/** Polls until `signal` aborts. A poll that rejects counts as failed, whatever its error is. Never rejects itself. */
export async function poll(options: PollOptions, work: (idle: Idle) => Promise<void>): Promise<void> {
  const { name, consequence, intervalMs, maxDuty = 1, clock, signal, sleep, log } = options;
  const failureLog = new FailureLog({
    operation: name,
    consequence: `${consequence === undefined ? '' : `${consequence} `}It is repeated with exponential backoff.`,
    log,
  });
  const backoff = {
    firstMs: Math.min(intervalMs, FIRST_POLL_BACKOFF_MS),
    maxMs: Math.max(intervalMs, MAX_POLL_BACKOFF_MS),
  };
  let failures = 0;
  while (!signal.aborted) {
    const startedMs = clock();
    let idleMs = 0;
    const idle = async (ms: number) => {
      await sleep(ms);
      idleMs += ms;
    };
    try {
      await work(idle);
      failureLog.recordSuccess();
      failures = 0;
    } catch (error) {
      failureLog.recordFailure(error);
      failures += 1;
    }
    const tookMs = Math.max(0, clock() - startedMs);
    const dutyPauseMs = Math.min(MAX_DUTY_PAUSE_MS, (tookMs - idleMs) * (1 / maxDuty - 1));
    const pauseMs = failures === 0 ? intervalMs - tookMs : backoffMs(failures, backoff);
    if (!signal.aborted) await sleep(Math.max(0, pauseMs, dutyPauseMs));
  }
}

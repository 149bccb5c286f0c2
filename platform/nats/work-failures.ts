/**
 * What a work queue does when a handler throws, as data: the class of the error, and the retry schedule of the class.
 *
 *   infrastructure   a service that the handler needs is away: the message is retried while the fault lasts
 *   terminal         the same work on the same state fails again: the work is parked at once
 *   unknown          every other error: the message is retried a bounded number of times, then its work is parked
 */

export type FailureClass = 'infrastructure' | 'terminal' | 'unknown';

/** Classes by the name of the error's class or of one that it extends. Names, because the classes are in folders that import this one. */
const FAILURE_CLASSES: Readonly<Record<string, FailureClass>> = {
  // The event store, NATS or Postgres does not answer, or sheds load.
  StoreUnavailableError: 'infrastructure',
  NatsUnavailableError: 'infrastructure',
  PostgresUnavailableError: 'infrastructure',
  // A fault of the code, or a value that the code does not expect.
  RangeError: 'terminal',
  ReferenceError: 'terminal',
  SyntaxError: 'terminal',
  TypeError: 'terminal',
  // The decision cannot be stored as it is.
  DecisionTooLargeError: 'terminal',
  EndlessDecisionError: 'terminal',
  // The input is invalid, or the domain refuses it.
  MalformedCommitError: 'terminal',
  Refusal: 'terminal',
  TransformDecodeCheckError: 'terminal',
  // Postgres refuses the value or the statement. Its retryable errors are `PostgresUnavailableError`.
  PostgresError: 'terminal',
};

/** When and how often an attempt is repeated: exponential backoff with jitter. */
export interface RetrySchedule {
  /** Pause after the first failure. It doubles with each further failure. */
  readonly firstMs: number;
  readonly maxMs: number;
  /** Attempts, the first included. @default without end */
  readonly maxAttempts?: number;
  /** What follows the last attempt: the work is parked, or it is dropped because another event queues it again. @default 'park' */
  readonly whenExhausted?: 'park' | 'done';
}

export const INFRASTRUCTURE_RETRIES: RetrySchedule = { firstMs: 100, maxMs: 15_000 };
export const UNKNOWN_RETRIES: RetrySchedule = { firstMs: 250, maxMs: 5_000, maxAttempts: 5 };
/** Parked work is retried too, because the state of its unit changes and new code may have mended the fault. */
export const PARKED_RETRIES: RetrySchedule = { firstMs: 60_000, maxMs: 3_600_000 };
/** Parked work whose error is terminal is retried at the slowest pace from the beginning. */
export const TERMINAL_RETRIES: RetrySchedule = { firstMs: 3_600_000, maxMs: 3_600_000 };

export function classifyFailure(error: unknown): FailureClass {
  if (!(error instanceof Error)) return 'unknown';
  for (const name of namesOf(error)) {
    const found = Object.hasOwn(FAILURE_CLASSES, name) ? FAILURE_CLASSES[name] : undefined;
    if (found !== undefined) return found;
  }
  return 'unknown';
}

/**
 * The pause after a failure: exponential backoff, of which the second half is jitter.
 * @param failures failures since the last success, from 1
 * @param random from 0 to 1
 */
export function retryDelayMs({ firstMs, maxMs }: RetrySchedule, failures: number, random: number): number {
  const delayMs = Math.min(maxMs, firstMs * 2 ** Math.max(0, failures - 1));
  return Math.ceil((delayMs * (1 + random)) / 2);
}

/** Whether a schedule allows no attempt after this number of failures. */
export function isExhausted({ maxAttempts = Number.POSITIVE_INFINITY }: RetrySchedule, failures: number): boolean {
  return failures >= maxAttempts;
}

/** What became of earlier attempts at a piece of work. */
export interface Attempts {
  /** Attempts that failed by the fault of the work. */
  readonly failures: number;
  /** Attempts in a row that failed because a service was away. They never count as the fault of the work. */
  readonly faults: number;
}

/** What the queue does after an attempt. */
export type Step =
  | { readonly kind: 'done' }
  | {
      readonly kind: 'wait';
      readonly ms: number;
      /** False when the work is not due yet. */
      readonly isFailure: boolean;
      /** Whether a service is away. */
      readonly isFault: boolean;
      readonly reason: string;
      readonly error: unknown;
    }
  | { readonly kind: 'park'; readonly reason: string; readonly error: unknown; readonly retryInMs: number };

/** The part of a handler's result that says what to do; `WorkResult` of `work-queue.ts`. */
type Result =
  | 'done'
  | { readonly retryInMs: number }
  | { readonly retry: RetrySchedule; readonly reason: string }
  | { readonly park: string };

/**
 * Makes an attempt and says what follows from its result or its error.
 * @param isParked whether work of the same unit is parked already: a further unknown error is then parked at once
 */
export async function nextStep(
  attempt: () => Promise<Result>,
  { failures: before, faults }: Attempts,
  { random, isParked }: { readonly random: () => number; readonly isParked: boolean },
): Promise<{ readonly step: Step; readonly attempts: Attempts }> {
  const failures = before + 1;
  const retry = (schedule: RetrySchedule, reason: string, error: unknown): Step => {
    if (!isExhausted(schedule, failures) && !isParked) {
      const ms = retryDelayMs(schedule, failures, random());
      return { kind: 'wait', ms, isFailure: true, isFault: false, reason, error };
    }
    if (schedule.whenExhausted === 'done') return { kind: 'done' };
    return { kind: 'park', reason, error, retryInMs: retryDelayMs(PARKED_RETRIES, 1, random()) };
  };
  try {
    const result = await attempt();
    if (result === 'done') return { step: { kind: 'done' }, attempts: { failures: 0, faults: 0 } };
    if ('retryInMs' in result) {
      const { retryInMs: ms } = result;
      const step = {
        kind: 'wait',
        ms,
        isFailure: false,
        isFault: false,
        reason: 'not due yet',
        error: undefined,
      } as const;
      return { step, attempts: { failures: before, faults: 0 } };
    }
    const attempts = { failures, faults: 0 };
    if ('retry' in result) return { step: retry(result.retry, result.reason, undefined), attempts };
    const retryInMs = retryDelayMs(PARKED_RETRIES, 1, random());
    return { step: { kind: 'park', reason: result.park, error: undefined, retryInMs }, attempts };
  } catch (error) {
    switch (classifyFailure(error)) {
      case 'infrastructure': {
        const ms = retryDelayMs(INFRASTRUCTURE_RETRIES, faults + 1, random());
        const step = { kind: 'wait', ms, isFailure: true, isFault: true, reason: 'a service is away', error } as const;
        return { step, attempts: { failures: before, faults: faults + 1 } };
      }
      case 'terminal': {
        const retryInMs = retryDelayMs(TERMINAL_RETRIES, 1, random());
        const step = { kind: 'park', reason: 'The same attempt fails again.', error, retryInMs } as const;
        return { step, attempts: { failures, faults: 0 } };
      }
      case 'unknown':
        return { step: retry(UNKNOWN_RETRIES, 'The handler failed.', error), attempts: { failures, faults: 0 } };
    }
  }
}

/** The name of an error, then the names of its class and of those that it extends. */
function namesOf(error: Error): string[] {
  const names = [error.name];
  for (let type = Object.getPrototypeOf(error); type instanceof Error; type = Object.getPrototypeOf(type)) {
    names.push(type.constructor.name);
  }
  return names;
}

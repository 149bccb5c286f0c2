import type { Log } from '../observability/log.ts';

/** The parts of a process that are stopping, so that the deadline can name those that did not stop. */
export class StoppingParts {
  readonly #running = new Map<Promise<unknown>, string>();

  /** Names a part until its end. @returns `ended` */
  track<T>(name: string, ended: Promise<T>): Promise<T> {
    const forget = () => void this.#running.delete(ended);
    this.#running.set(ended, name);
    ended.then(forget, forget);
    return ended;
  }

  /** The names of the parts that have not ended. */
  names(): readonly string[] {
    return [...this.#running.values()];
  }
}

export interface StopDeadlineOptions {
  /** Aborts when the process starts to stop. */
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
  readonly parts: StoppingParts;
  readonly log: Log;
  /** Ends the process with an exit code. */
  readonly exit: (code: number) => void;
}

/**
 * Ends the process when it has not ended within `deadlineMs` of its stop: a connection that does not close, or a worker that
 * does not return, would otherwise keep it alive until the supervisor kills it, which leaves no line in the log.
 * @returns a function that cancels the deadline
 */
export function enforceStopDeadline({ signal, deadlineMs, parts, log, exit }: StopDeadlineOptions): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const start = () => {
    timer = setTimeout(() => {
      log.error(
        `The process did not stop within ${deadlineMs / 1_000} s and ends now. Work that was running is repeated by its next owner.`,
        { running: parts.names().join(', ') },
      );
      exit(1);
    }, deadlineMs);
  };
  if (signal.aborted) start();
  else signal.addEventListener('abort', start, { once: true });
  return () => {
    signal.removeEventListener('abort', start);
    clearTimeout(timer);
  };
}

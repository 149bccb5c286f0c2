import type { Log } from '../../platform/observability/log.ts';
import { poll } from '../../platform/retry/poll.ts';
import type { PingerClock } from '../runtime/clock.ts';
import type { TargetList } from './target-list.ts';

/** Time between the starts of two reads: the maximum delay before a new unit is pinged, or a new recorded position sent in a ping. */
export const TARGETS_REFRESH_MS = 2_000;
/** Reads take at most this share of the time. */
const MAX_READ_DUTY = 0.1;

export interface TargetPollerOptions {
  readonly list: Pick<TargetList, 'refresh'>;
  readonly clock: PingerClock;
  readonly log: Log;
}

/** Keeps the target list up to date by reading it again and again, one read at a time. */
export class TargetPoller {
  readonly #options: TargetPollerOptions;
  readonly #stop = new AbortController();
  #polling: Promise<void> | undefined;
  #isRefreshRequested = false;
  /** Ends the pause between two reads. */
  #wake: (() => void) | undefined;

  constructor(options: TargetPollerOptions) {
    this.#options = options;
  }

  /** Reads at once, and then once in `TARGETS_REFRESH_MS`. */
  start(): void {
    const { list, clock, log } = this.#options;
    const { signal } = this.#stop;
    this.#polling = poll(
      {
        name: 'reading the units to ping',
        intervalMs: TARGETS_REFRESH_MS,
        maxDuty: MAX_READ_DUTY,
        clock: clock.monotonic,
        signal,
        sleep: (ms) => this.#pause(ms),
        log,
      },
      () => list.refresh(signal),
    );
  }

  /** Reads at once, or as soon as the read in flight has ended. */
  refreshNow(): void {
    if (this.#wake === undefined) this.#isRefreshRequested = true;
    else this.#wake();
  }

  /** Starts no further read, and waits for the one in flight. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#polling;
  }

  #pause(ms: number): Promise<void> {
    const isRefreshRequested = this.#isRefreshRequested;
    this.#isRefreshRequested = false;
    if (isRefreshRequested) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#options.clock.after(ms, resolve);
    this.#wake = resolve;
    return promise.finally(() => {
      cancel();
      this.#wake = undefined;
    });
  }
}

/** Whose clock is wrong, as ingest needs it: in memory, a few seconds old, and still there while Postgres is away. */

import type { Log } from '../observability/log.ts';

/** Pause between two readings: how late ingest may hear that a clock went wrong, or was set right. */
export const CLOCK_OFFSETS_REFRESH_MS = 3_000;

export interface ClockOffsetCacheOptions {
  /** Reads by how many milliseconds the clocks that are wrong are ahead, by unit; a bounded number of them. */
  readonly read: () => Promise<ReadonlyMap<string, number>>;
  readonly log: Log;
}

export class ClockOffsetCache {
  readonly #options: ClockOffsetCacheOptions;
  #known: ReadonlyMap<string, number> = new Map();
  #failing = false;

  constructor(options: ClockOffsetCacheOptions) {
    this.#options = options;
  }

  /** By how many milliseconds the clock of a unit is ahead; `undefined` when it is not known to be wrong. */
  get(unit: string): number | undefined {
    return this.#known.get(unit);
  }

  /** Reads once. When that fails, what was known stays. Never rejects. */
  async refresh(): Promise<void> {
    const { read, log } = this.#options;
    try {
      this.#known = await read();
      if (this.#failing) log.info('reading whose clock is wrong: works again');
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) log.warn('reading whose clock is wrong: fails, what was known counts', { error });
      this.#failing = true;
    }
  }

  /** Reads every few seconds until the signal. */
  async run(signal: AbortSignal, sleep: (ms: number) => Promise<unknown>): Promise<void> {
    while (!signal.aborted) {
      await this.refresh();
      await sleep(CLOCK_OFFSETS_REFRESH_MS);
    }
  }
}

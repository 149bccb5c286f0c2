/**
 * Caches in memory which units have a wrong clock, and by how much. Ingest reads it for every batch, and must not depend on Postgres
 * for that.
 */

import type { Log } from '../observability/log.ts';
import { poll } from '../retry/poll.ts';

/** Interval of the reads. Ingest knows after this time at the latest that a unit's clock went wrong, or was corrected. */
const CLOCK_OFFSETS_REFRESH_MS = 3_000;

export interface ClockOffsetCacheOptions {
  /** Reads by how many milliseconds each wrong clock is ahead, by unit. The query bounds the number of units. */
  readonly read: () => Promise<ReadonlyMap<string, number>>;
  readonly clock: () => number;
  readonly log: Log;
}

export class ClockOffsetCache {
  readonly #options: ClockOffsetCacheOptions;
  readonly #firstRead = Promise.withResolvers<void>();
  #offsets: ReadonlyMap<string, number> = new Map();

  constructor(options: ClockOffsetCacheOptions) {
    this.#options = options;
  }

  /** By how many milliseconds the unit's clock is ahead; `undefined` unless the clock is known to be wrong. */
  get(unit: string): number | undefined {
    return this.#offsets.get(unit);
  }

  /** Resolves when the first read has succeeded or failed. */
  get firstRead(): Promise<void> {
    return this.#firstRead.promise;
  }

  /** Reads the offsets every three seconds until `signal` aborts. The cache keeps its content while reads fail. Never rejects. */
  poll(signal: AbortSignal, sleep: (ms: number) => Promise<unknown>): Promise<void> {
    const { read, clock, log } = this.#options;
    const name = 'reading the clock offsets of units';
    return poll({ name, intervalMs: CLOCK_OFFSETS_REFRESH_MS, clock, signal, sleep, log }, async () => {
      try {
        this.#offsets = await read();
      } finally {
        this.#firstRead.resolve();
      }
    });
  }
}

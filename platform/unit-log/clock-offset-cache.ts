/**
 * Caches in memory which units have a wrong clock, and by how much. Ingest reads it for every batch, and must not depend on Postgres
 * for that. What the platform signs for a unit has the times of the unit's clock, which `unitNowMs` tells.
 */

import type { Log } from '../observability/log.ts';
import { poll } from '../retry/poll.ts';

/** Interval of the reads. Ingest knows after this time at the latest that a unit's clock went wrong, or was corrected. */
const CLOCK_OFFSETS_REFRESH_MS = 3_000;
/** An offset that was measured longer ago does not count for signatures: the unit may have set its clock since. */
export const MAX_SIGNING_OFFSET_AGE_MS = 3_600_000;
/**
 * A greater offset does not count for signatures. A command that is signed for a distant time would be valid again at that time, for
 * anybody who has a copy. A unit whose clock is that wrong executes no command until its clock is set.
 */
export const MAX_SIGNING_OFFSET_MS = 3_600_000;

/** By how many milliseconds the clock of a unit is ahead, and when that was measured. */
export interface ClockOffset {
  readonly offsetMs: number;
  /** Milliseconds since 1970. */
  readonly measuredAtMs: number;
}

export interface ClockOffsetCacheOptions {
  /** Reads the offset of each wrong clock, by unit. The query bounds the number of units. */
  readonly read: () => Promise<ReadonlyMap<string, ClockOffset>>;
  readonly clock: () => number;
  readonly log: Log;
}

export class ClockOffsetCache {
  readonly #options: ClockOffsetCacheOptions;
  readonly #firstRead = Promise.withResolvers<void>();
  #offsets: ReadonlyMap<string, ClockOffset> = new Map();

  constructor(options: ClockOffsetCacheOptions) {
    this.#options = options;
  }

  /** By how many milliseconds the unit's clock is ahead; `undefined` unless the clock is known to be wrong. */
  get(unit: string): number | undefined {
    return this.#offsets.get(unit)?.offsetMs;
  }

  /**
   * The unit's clock now, milliseconds since 1970, for the times that the platform signs for the unit. An unknown, old or very great
   * offset counts as 0.
   */
  unitNowMs(unit: string): number {
    const nowMs = this.#options.clock();
    const offset = this.#offsets.get(unit);
    if (offset === undefined || nowMs - offset.measuredAtMs > MAX_SIGNING_OFFSET_AGE_MS) return nowMs;
    return Math.abs(offset.offsetMs) > MAX_SIGNING_OFFSET_MS ? nowMs : nowMs + offset.offsetMs;
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

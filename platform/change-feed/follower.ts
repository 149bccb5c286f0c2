/**
 * Passes the units of a read model to its owner, and later the units that have changed. The follower reads the units that the
 * change feed names. It reads every unit at the start, when the feed cannot tell which units changed, and every
 * `FULL_READ_INTERVAL_MS`.
 *
 * The regular full read bounds how long a change stays unnoticed when no message names it.
 */

import { chunksOf } from '../batching/chunks-of.ts';
import type { UnitChangeSubscription, UnitChanges } from './subscription.ts';

/** Units in one query. */
export const MAX_UNITS_PER_QUERY = 1_000;
/** Interval of the regular full reads, in milliseconds. */
export const FULL_READ_INTERVAL_MS = 600_000;

/** Units by their names, or a page of all units: those after a name, in order. Fewer than `limit` units are the last page. */
export type UnitQuery =
  | { readonly names: readonly string[] }
  | { readonly afterName: string | undefined; readonly limit: number };

export interface UnitFollowerOptions<Unit extends { readonly name: string }> {
  readonly changes: Pick<UnitChangeSubscription, 'take' | 'putBack'>;
  /** Reads the read model. The result may omit units that the owner does not follow. */
  readonly read: (query: UnitQuery) => Promise<readonly Unit[]>;
  /** Whether a unit that the feed names is read at all. */
  readonly owns: (name: string) => boolean;
  /** Units in one query. @default MAX_UNITS_PER_QUERY */
  readonly pageSize?: number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  readonly onUnit: (unit: Unit, isFullRead: boolean) => void;
  /** Called when the read model does not return a unit that the follower requested by name. */
  readonly onAbsent: (name: string) => void;
  /** Called after a full read. `present` holds the names of all units that it found. */
  readonly onFullRead: (present: ReadonlySet<string>) => void;
}

export class UnitFollower<Unit extends { readonly name: string }> {
  readonly #options: UnitFollowerOptions<Unit>;
  readonly #pageSize: number;
  #fullReadMs = Number.NEGATIVE_INFINITY;

  constructor(options: UnitFollowerOptions<Unit>) {
    this.#options = options;
    this.#pageSize = options.pageSize ?? MAX_UNITS_PER_QUERY;
  }

  /** The next `refresh` reads every unit, also when one runs now. */
  requestFullRead(): void {
    this.#options.changes.putBack('all');
  }

  /**
   * Reads the changed units, and the units named in `also`. When a query fails, the changes stay for the next call.
   * @throws what `read` throws
   */
  async refresh(signal: AbortSignal, also: Iterable<string> = []): Promise<void> {
    const { changes, monotonic } = this.#options;
    const startedMs = monotonic();
    const taken = startedMs - this.#fullReadMs >= FULL_READ_INTERVAL_MS ? takeAll(changes) : changes.take();
    try {
      if (taken !== 'all') return await this.#readNamed(signal, new Set([...taken, ...also]));
      this.#fullReadMs = startedMs;
      await this.#readAll(signal);
    } catch (error) {
      changes.putBack(taken);
      throw error;
    }
  }

  async #readAll(signal: AbortSignal): Promise<void> {
    const { read, onUnit, onFullRead } = this.#options;
    const present = new Set<string>();
    for (let afterName: string | undefined; !signal.aborted; ) {
      const page = await read({ afterName, limit: this.#pageSize });
      for (const unit of page) {
        present.add(unit.name);
        onUnit(unit, true);
      }
      afterName = page.at(-1)?.name;
      if (page.length < this.#pageSize) return onFullRead(present);
    }
  }

  async #readNamed(signal: AbortSignal, names: ReadonlySet<string>): Promise<void> {
    const { read, owns, onUnit, onAbsent } = this.#options;
    for (const chunk of chunksOf([...names].filter(owns), this.#pageSize)) {
      if (signal.aborted) return;
      const missing = new Set(chunk);
      for (const unit of await read({ names: chunk })) {
        missing.delete(unit.name);
        onUnit(unit, false);
      }
      for (const name of missing) onAbsent(name);
    }
  }
}

/** Discards the names that the feed has collected, because a full read covers them. */
function takeAll(changes: Pick<UnitChangeSubscription, 'take'>): UnitChanges {
  changes.take();
  return 'all';
}

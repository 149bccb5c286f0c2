/** The units that time alone will change, in memory, by when they are due. */

import { LRUCache } from 'lru-cache';
import TinyQueue from 'tinyqueue';

/** Bound on the units in memory. The read model has the others, and they are found there when they are due. */
export const MAX_KNOWN_UNITS = 100_000;

interface Entry {
  readonly unit: string;
  /** Milliseconds since 1970. */
  readonly dueMs: number;
}

/** When a unit is due, as of a position of the store. */
interface Known {
  readonly position: number;
  readonly dueMs: number;
}

export class DueUnits {
  readonly #known = new LRUCache<string, Known>({ max: MAX_KNOWN_UNITS });
  /** Holds outdated entries too; `#known` tells which count. */
  #queue = new TinyQueue<Entry>([], byDueTime);

  /** Notes when a unit is due, as of a position of the store; `undefined`: time alone does not change it. */
  note(unit: string, position: number, dueMs: number | undefined): void {
    const known = this.#known.get(unit);
    if (known !== undefined && position < known.position) return;
    if (dueMs === undefined) {
      this.#known.delete(unit);
      return;
    }
    this.#known.set(unit, { position, dueMs });
    if (dueMs !== known?.dueMs) this.#push({ unit, dueMs });
  }

  /** Makes a unit due again after a settlement that failed, unless more was noted meanwhile. */
  retry(unit: string, dueMs: number): void {
    if (!this.#known.has(unit)) this.note(unit, 0, dueMs);
  }

  /** Whether what is known of a unit is as new as a position of the store. */
  isKnownSince(unit: string, position: number): boolean {
    return (this.#known.peek(unit)?.position ?? -1) >= position;
  }

  /** Removes and returns a unit that is due at `nowMs`; undefined when none is. The caller notes when it is due next. */
  takeDue(nowMs: number): string | undefined {
    for (let next = this.#queue.peek(); next !== undefined && next.dueMs <= nowMs; next = this.#queue.peek()) {
      this.#queue.pop();
      if (this.#known.peek(next.unit)?.dueMs !== next.dueMs) continue;
      this.#known.delete(next.unit);
      return next.unit;
    }
    return undefined;
  }

  #push(entry: Entry): void {
    this.#queue.push(entry);
    if (this.#queue.length <= 2 * MAX_KNOWN_UNITS) return;
    const current = [...this.#known.entries()].map(([unit, { dueMs }]) => ({ unit, dueMs }));
    this.#queue = new TinyQueue(current, byDueTime);
  }
}

function byDueTime(a: Entry, b: Entry): number {
  return a.dueMs - b.dueMs;
}

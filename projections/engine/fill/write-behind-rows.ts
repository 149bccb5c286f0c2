import { LRUCache } from 'lru-cache';

export interface WriteBehindOptions<Row> {
  /** Approximate bytes of a row; called for every changed row, so it must be cheap. */
  readonly bytesOf: (row: Row) => number;
  /** Bound of the clean rows that stay in memory; the least recently used are evicted. */
  readonly maxCleanBytes: number;
  /** Whether the table is empty: then a row that is not in memory does not exist, and needs no read. */
  readonly isFresh: boolean;
}

/**
 * The rows of a table that a fold holds in memory and writes behind. A dirty row waits to be written; a clean row equals its
 * row in the table.
 *
 * Invariant: a row is evicted only when the table holds it. Rows of the last drain are therefore pinned until the next one,
 * because their write has committed only by then. Rows that were read since the last drain are pinned too: the fold may still
 * be about to use them.
 */
export class WriteBehindRows<Row extends object> {
  readonly #bytesOf: (row: Row) => number;
  readonly #clean: LRUCache<string, Row>;
  #pinned = new Map<string, Row>();
  #dirty = new Map<string, Row>();
  #dirtyBytes = 0;
  /** Whether every row of the table is in memory. */
  #isComplete: boolean;

  constructor({ bytesOf, maxCleanBytes, isFresh }: WriteBehindOptions<Row>) {
    this.#bytesOf = bytesOf;
    this.#isComplete = isFresh;
    this.#clean = new LRUCache({
      maxSize: Math.max(1, maxCleanBytes),
      sizeCalculation: (row) => Math.max(1, bytesOf(row)),
    });
  }

  /** Approximate bytes of the rows that wait to be written. */
  get dirtyBytes(): number {
    return this.#dirtyBytes;
  }

  get(key: string): Row | undefined {
    return this.#dirty.get(key) ?? this.#pinned.get(key) ?? this.#clean.get(key);
  }

  /** Of some keys, those that are not in memory and may have a row in the table. */
  missing(keys: Iterable<string>): string[] {
    return this.#isComplete ? [] : [...new Set(keys)].filter((key) => this.get(key) === undefined);
  }

  /** Adds a row as the table holds it, or as the write of the last drain will leave it. */
  putClean(key: string, row: Row): void {
    this.#clean.delete(key);
    this.#pinned.set(key, row);
  }

  /** Adds or changes a row that waits to be written. */
  putDirty(key: string, row: Row): void {
    const before = this.#dirty.get(key);
    if (before !== undefined) this.#dirtyBytes -= this.#bytesOf(before);
    this.#dirtyBytes += this.#bytesOf(row);
    this.#clean.delete(key);
    this.#pinned.delete(key);
    this.#dirty.set(key, row);
  }

  /** Takes out the dirty rows. The caller writes them, and calls `drain` again only after that write has committed. */
  drain(): Row[] {
    const cleanRows = this.#clean.size + this.#pinned.size;
    for (const [key, row] of this.#pinned) this.#clean.set(key, row);
    if (this.#clean.size < cleanRows) this.#isComplete = false;
    this.#pinned = this.#dirty;
    this.#dirty = new Map();
    this.#dirtyBytes = 0;
    return [...this.#pinned.values()];
  }
}

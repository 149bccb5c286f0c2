/**
 * Rows that a fold keeps in memory: those that changed until they are written, the others as long as there is room.
 *
 * What holds: a row is let go only after the write before last, and a write begins only when the one before is committed. So
 * whatever is not kept can be read from its table.
 */
export class WriteBehindRows<Row> {
  readonly #maxRows: number;
  readonly #rows = new Map<string, Row>();
  readonly #changed = new Set<string>();
  /** Whether every row of the table is kept. */
  #isWhole: boolean;

  /** `isFresh`: the table is empty. */
  constructor(maxRows: number, isFresh: boolean) {
    this.#maxRows = maxRows;
    this.#isWhole = isFresh;
  }

  /** How many wait to be written. */
  get dirtyCount(): number {
    return this.#changed.size;
  }

  get(key: string): Row | undefined {
    return this.#rows.get(key);
  }

  /** Of some keys, those whose rows may stand in the table and are not kept. */
  missing(keys: Iterable<string>): string[] {
    return this.#isWhole ? [] : [...new Set(keys)].filter((key) => !this.#rows.has(key));
  }

  /** Keeps a row as it was read. */
  putClean(key: string, row: Row): void {
    this.#rows.set(key, row);
  }

  putDirty(key: string, row: Row): void {
    // At the end: the rows that changed last are let go last.
    this.#rows.delete(key);
    this.#rows.set(key, row);
    this.#changed.add(key);
  }

  /** Takes out the rows that wait to be written, and lets go what there is no room for. */
  drain(): Row[] {
    const drained: Row[] = [];
    for (const key of this.#changed) {
      const row = this.#rows.get(key);
      if (row !== undefined) drained.push(row);
    }
    for (const key of this.#rows.keys()) {
      if (this.#rows.size <= this.#maxRows) break;
      if (this.#changed.has(key)) continue;
      this.#rows.delete(key);
      this.#isWhole = false;
    }
    this.#changed.clear();
    return drained;
  }
}

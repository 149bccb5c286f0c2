/**
 * Group commit: everything that wants to be written in one turn of the event loop goes into one transaction, one fsync.
 *
 * A decision is taken in memory at once, and nobody hears of it before its transaction has been committed. When a commit
 * fails, memory is ahead of the disk for good: the store takes nothing more, and the process has to end.
 */

import type { Database } from 'bun:sqlite';

/** Most writes in one transaction: more would hold up the event loop. */
const MAX_WRITES_PER_COMMIT = 1_000;

interface Write {
  readonly apply: () => void;
  readonly committed: () => void;
}

interface Group {
  readonly writes: Write[];
  readonly done: PromiseWithResolvers<void>;
}

/** The store could not keep what it was given, or was closed before. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
}

export class GroupCommit {
  readonly #database: Database;
  readonly #onFailure: (error: StoreError) => void;
  /** Waiting groups, oldest first. Only the last one still grows. */
  #groups: Group[] = [];
  #scheduled = false;
  #failure: StoreError | undefined;

  /** `onFailure` is called once, when a commit failed; whatever waits is rejected with the same error. */
  constructor(database: Database, onFailure: (error: StoreError) => void) {
    this.#database = database;
    this.#onFailure = onFailure;
  }

  /**
   * Adds a write to the next transaction. `committed` runs right after its commit, before anybody who waits.
   * @throws StoreError when the commit, or an earlier one, failed
   */
  write(apply: () => void, committed: () => void): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    let group = this.#groups.at(-1);
    if (group === undefined || group.writes.length >= MAX_WRITES_PER_COMMIT) {
      group = { writes: [], done: Promise.withResolvers() };
      this.#groups.push(group);
    }
    group.writes.push({ apply, committed });
    this.#schedule();
    return group.done.promise;
  }

  /** Resolves when everything that was written so far is durable. */
  settled(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return this.#groups.at(-1)?.done.promise ?? Promise.resolve();
  }

  /** Takes nothing more. What waits is committed first. */
  close(): void {
    while (this.#groups.length > 0) this.#commitOldest();
    this.#failure ??= new StoreError('the store is closed');
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#commitOldest();
      if (this.#groups.length > 0) this.#schedule();
    });
  }

  #commitOldest(): void {
    const group = this.#groups.shift();
    if (group === undefined) return;
    try {
      this.#database.transaction(() => {
        for (const { apply } of group.writes) apply();
      })();
    } catch (error) {
      this.#fail(group, new StoreError('the store of the simulator cannot write', { cause: error }));
      return;
    }
    for (const { committed } of group.writes) committed();
    group.done.resolve();
  }

  #fail(group: Group, failure: StoreError): void {
    this.#failure = failure;
    for (const waiting of [group, ...this.#groups]) waiting.done.reject(failure);
    this.#groups = [];
    this.#onFailure(failure);
  }
}

/**
 * Group commit: all writes of one turn of the event loop share one transaction, and so one fsync.
 *
 * A unit takes a decision in memory first, and answers after the commit. When a commit fails, the memory of the process is
 * ahead of its disk and cannot be rolled back: the store accepts no further write, and the process must end.
 */

import type { Database } from 'bun:sqlite';

/** Most writes in one transaction: a longer one would block the event loop. */
const MAX_WRITES_PER_COMMIT = 1_000;

interface Write {
  readonly apply: () => void;
  readonly committed: () => void;
}

interface Group {
  readonly writes: Write[];
  readonly done: PromiseWithResolvers<void>;
}

/** The store cannot be opened, cannot write, or is closed. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
}

export class GroupCommit {
  readonly #database: Database;
  readonly #onFailure: (error: StoreError) => void;
  /** Groups that wait for their commit, oldest first. New writes join the last one. */
  #groups: Group[] = [];
  #isScheduled = false;
  #failure: StoreError | undefined;

  /** @param onFailure called once, when a commit fails; every waiting write is rejected with the same error */
  constructor(database: Database, onFailure: (error: StoreError) => void) {
    this.#database = database;
    this.#onFailure = onFailure;
  }

  /**
   * Adds a write to the next transaction. `committed` runs right after the commit, before the promise resolves.
   * @throws StoreError when this commit or an earlier one fails
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

  /** Resolves when all earlier writes are durable. */
  settled(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return this.#groups.at(-1)?.done.promise ?? Promise.resolve();
  }

  /** Commits the waiting writes, and rejects later ones. */
  close(): void {
    while (this.#groups.length > 0) this.#commitOldest();
    this.#failure ??= new StoreError('The store of the simulator is closed.');
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
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
      this.#fail(
        group,
        new StoreError(
          'The store of the simulator cannot write, so the simulator ends. Everything that it has answered is stored. ' +
            'Check the disk of DATA_DIR, then start the simulator again.',
          { cause: error },
        ),
      );
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

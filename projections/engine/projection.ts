/**
 * What a read model is to the engine. It turns events into rows and does nothing else: no commands, no timers, no messages.
 * So a rebuild, which applies every event again, has no effect but its tables.
 */

import type { Aggregate, CloudEvent } from '../../domain/events/envelope.ts';
import type { Sql, Tx } from '../../platform/postgres/connection.ts';

/** One commit of the store, parsed. */
export interface Commit {
  readonly sequence: number;
  readonly unit: string;
  readonly aggregate: Aggregate;
  readonly lane: number;
  readonly recordedAtMs: number;
  readonly events: readonly CloudEvent[];
}

/** Commits in the order of the store. All that a unit has in the range of the batch is in it. */
export type CommitBatch = readonly Commit[];

export interface Projection {
  /** Also the beginning of its schemas' names: lower case and underscores. */
  readonly name: string;
  /** Counts up with every change of the tables or of what goes into them: a run of the new version is then built. */
  readonly version: number;
  createTables(tx: Tx, schema: string): Promise<void>;
  /**
   * Applies a batch, in the transaction that also moves the checkpoints: it sees every commit once. Row for row, the
   * outcome depends on the commits alone and not on where one batch ends and the next begins.
   *
   * @throws whatever an event that cannot be applied leads to: the engine then finds its unit and parks it
   */
  apply(tx: Tx, schema: string, batch: CommitBatch): Promise<void>;
  /**
   * Begins to fill tables from the beginning, or, `isFresh` false, from where a fold ended: faster than by `apply`, with the
   * same outcome row for row. Without it, a rebuild applies batch after batch.
   */
  openFold?(schema: string, isFresh: boolean): Fold;
}

/**
 * Many batches, folded in memory, each row written once for all of them. Nobody else fills the same lanes meanwhile, or what
 * was folded is thrown away.
 */
export interface Fold {
  /** Folds a batch in; may read rows that it wrote before. @throws like `apply`, and is of no use then */
  add(sql: Sql, batch: CommitBatch): Promise<void> | void;
  /** Whether so much waits to be written that it should be. */
  readonly isFull: boolean;
  /** Takes out what waits. @returns what writes it, in the transaction that moves the checkpoints; the last one first */
  drain(): (tx: Tx) => Promise<void>;
}

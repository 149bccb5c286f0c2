/**
 * What the engine needs of a projection. A projection turns events into rows of a read model and has no other effect: it sends
 * no command, sets no timer and publishes no message. A rebuild, which applies every event again, therefore changes nothing but
 * the tables of its own run.
 */

import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import type { Sql, Tx } from '../../platform/postgres/connection.ts';

/** Events in one call of `apply`; a commit with more events is a batch of its own. */
export const MAX_BATCH_EVENTS = 8_000;

/** A parsed commit of the event store: the events that one decision on one unit appended together. */
export interface Commit {
  readonly sequence: number;
  readonly unit: string;
  readonly aggregate: Aggregate;
  readonly lane: number;
  readonly recordedAtMs: number;
  readonly events: readonly CloudEvent[];
}

/** Commits in the order of the store. The batch holds every commit of a unit between its first and its last sequence. */
export type CommitBatch = readonly Commit[];

export interface Projection {
  /** Also the first part of the names of its schemas: lower case and underscores. */
  readonly name: string;
  /** Increases with every change of the tables or of the rows: the engine then builds a run of the new version. */
  readonly version: number;
  createTables(tx: Tx, schema: string): Promise<void>;
  /**
   * Applies a batch in the transaction that also moves the checkpoints, so the projection sees every commit exactly once. The
   * rows must depend on the commits alone, and not on how the engine splits them into batches.
   *
   * @throws any error when an event cannot be applied: the engine then finds the unit of that event and parks it
   */
  apply(tx: Tx, schema: string, batch: CommitBatch): Promise<void>;
  /**
   * Opens a fold that fills the tables faster than `apply` and writes equal rows. `isFresh` tells that the tables are empty.
   *
   * @default a rebuild applies batch after batch
   */
  openFold?(schema: string, isFresh: boolean): Fold;
}

/**
 * Folds many batches in memory and writes each changed row once for all of them. Only one process may fill a lane by folding:
 * the engine discards the fold when another process has moved a checkpoint of it.
 */
export interface Fold {
  /** Folds a batch; may read rows that an earlier `drain` wrote. After an error the fold cannot be used. @throws like `apply` */
  add(sql: Sql, batch: CommitBatch): Promise<void> | void;
  /** Whether the rows that wait to be written have reached their bound: the engine then drains the fold. */
  readonly isFull: boolean;
  /**
   * Takes out the rows that wait to be written.
   *
   * @returns the write of these rows; the engine runs it in the transaction that moves the checkpoints, one write at a time
   */
  drain(): (tx: Tx) => Promise<void>;
}

/** What a read model is to the engine. */

import type { Aggregate, CloudEvent } from '../../domain/envelope.ts';
import type { Tx } from '../../platform/postgres/connection.ts';

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
}

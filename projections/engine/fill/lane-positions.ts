/** Where the lanes of a run are, as far as this process knows, and which units of them are parked. */

import type { Postgres, Tx } from '../../../platform/postgres/connection.ts';
import { movePositions, type Positions, readPositions } from '../checkpoints/checkpoints.ts';
import { readParked, requireParked } from '../parking/parking.ts';
import { isActive, type Run } from '../runs/runs.ts';

/** A lane is not where this process left it, but before: the database was set back. Terminal. */
export class CheckpointWentBackError extends Error {
  override readonly name = 'CheckpointWentBackError';
}

export class LanePositions {
  readonly #postgres: Postgres;
  readonly #run: Run;
  readonly #lanes: readonly number[];
  #positions = new Map<number, number>();
  #parked = new Map<string, number>();

  /** `lanes`: those that this process fills, at least one. */
  constructor(postgres: Postgres, run: Run, lanes: readonly number[]) {
    this.#postgres = postgres;
    this.#run = run;
    this.#lanes = lanes;
  }

  /** Everything up to here is applied in all of them. */
  get lowestPosition(): number {
    return Math.min(...this.#positions.values());
  }

  /** Something after this is applied in none of them. */
  get highestPosition(): number {
    return Math.max(...this.#positions.values());
  }

  /** Parked units, with the position at which each stopped. */
  get parked(): Map<string, number> {
    return this.#parked;
  }

  /** Whether a commit of a lane is still to be applied here. */
  isPending(lane: number, sequence: number): boolean {
    return sequence > (this.#positions.get(lane) ?? Number.POSITIVE_INFINITY);
  }

  /** The lanes that are before a position, of some or of all. */
  behind(position: number, among?: Iterable<number>): Positions {
    const found = new Map<number, number>();
    for (const lane of among ?? this.#positions.keys()) {
      const at = this.#positions.get(lane);
      if (at !== undefined && at < position) found.set(lane, at);
    }
    return found;
  }

  /**
   * Reads where they are.
   *
   * @returns false when the run has ended
   * @throws CheckpointWentBackError
   */
  async reload(): Promise<boolean> {
    const { sql } = this.#postgres;
    const positions = await readPositions(sql, this.#run.id, this.#lanes);
    const parked = await readParked(sql, this.#run.id, this.#lanes);
    if (!(await isActive(sql, this.#run.id))) return false;
    for (const [lane, known] of this.#positions) {
      if ((positions.get(lane) ?? 0) >= known) continue;
      throw new CheckpointWentBackError(
        `lane ${lane} of ${this.#run.schema} was at ${known} and is at ${positions.get(lane)}`,
      );
    }
    this.#parked = parked;
    this.#positions = new Map(positions);
    return true;
  }

  /** Moves lanes in a transaction that passes over parked units. @throws FencedError */
  async move(tx: Tx, from: Positions, to: number, skipped: readonly string[] = []): Promise<void> {
    await movePositions(tx, this.#run.id, from, to);
    await requireParked(tx, this.#run.id, skipped);
  }

  /** Takes note of what was committed. */
  recordMove(from: Positions, to: number): void {
    for (const lane of from.keys()) this.#positions.set(lane, to);
  }
}

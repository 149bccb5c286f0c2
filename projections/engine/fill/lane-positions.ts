import type { Postgres, Tx } from '../../../platform/postgres/connection.ts';
import { movePositions, type Positions, readPositions } from '../checkpoints/checkpoints.ts';
import { readParked, requireParked } from '../parking/parking.ts';
import { isActive, type Run } from '../runs/runs.ts';

/** A checkpoint is lower than this process left it: the database was restored to an earlier state. Terminal. */
export class CheckpointWentBackError extends Error {
  override readonly name = 'CheckpointWentBackError';
}

/** What a filler knows of its lanes: the position of each, and the parked units in them. */
export class LanePositions {
  readonly #postgres: Postgres;
  readonly #run: Run;
  readonly #lanes: readonly number[];
  #positions = new Map<number, number>();
  #parked = new Map<string, number>();

  /** `lanes`: the lanes that this process fills; at least one. */
  constructor(postgres: Postgres, run: Run, lanes: readonly number[]) {
    this.#postgres = postgres;
    this.#run = run;
    this.#lanes = lanes;
  }

  /** Every lane is applied up to this position. */
  get lowestPosition(): number {
    return Math.min(...this.#positions.values());
  }

  /** No lane is applied beyond this position. */
  get highestPosition(): number {
    return Math.max(...this.#positions.values());
  }

  /** Parked units, each with the position of the commit that failed. */
  get parked(): Map<string, number> {
    return this.#parked;
  }

  /** Whether a commit is still to be applied: it is in a lane of this process and beyond the position of the lane. */
  isPending(lane: number, sequence: number): boolean {
    return sequence > (this.#positions.get(lane) ?? Number.POSITIVE_INFINITY);
  }

  /** The lanes whose position is lower than the given one. @param among the lanes to look at; @default all of this process */
  behind(position: number, among?: Iterable<number>): Positions {
    const behind = new Map<number, number>();
    for (const lane of among ?? this.#positions.keys()) {
      const own = this.#positions.get(lane);
      if (own !== undefined && own < position) behind.set(lane, own);
    }
    return behind;
  }

  /**
   * Reads the positions and the parked units again.
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
        `The checkpoint of lane ${lane} of ${this.#run.schema} went back from ${known} to ${positions.get(lane)}: the database was ` +
          'restored to an earlier state. Restart the process to fill the read model from there.',
      );
    }
    this.#parked = parked;
    this.#positions = new Map(positions);
    return true;
  }

  /** Moves the checkpoints of lanes in a transaction that skips parked units. @throws FencedError */
  async move(tx: Tx, from: Positions, to: number, skippedUnits: readonly string[] = []): Promise<void> {
    await movePositions(tx, this.#run.id, from, to);
    await requireParked(tx, this.#run.id, skippedUnits);
  }

  /** Records a move whose transaction has committed. */
  recordMove(from: Positions, to: number): void {
    for (const lane of from.keys()) this.#positions.set(lane, to);
  }
}

import { setTimeout as pause } from 'node:timers/promises';
import { LANE_COUNT } from '../../../domain/shard.ts';
import type { ReadModels } from './serving-runs.ts';

/** Pause between two polls of the checkpoints; one poll serves all waiting reads. */
const POLL_INTERVAL_MS = 15;
/** Reads that may wait at the same time. A further read is answered at once, as if its timeout had passed. */
const MAX_WAITING_READS = 10_000;

export interface AwaitedPosition {
  readonly projections: readonly string[];
  /** The lanes that the read depends on. */
  readonly lanes: 'all' | readonly number[];
  /** The position that each of these lanes must have passed. */
  readonly position: number;
  readonly timeoutMs: number;
}

interface WaitingRead extends AwaitedPosition {
  readonly deadlineMs: number;
  resolve(passed: boolean): void;
  reject(error: unknown): void;
}

interface ProgressRow {
  readonly run_id: number;
  readonly schema_name: string;
  readonly projection: string;
  readonly lane: number;
  readonly position: number;
}

/** Positions of the runs that serve, by projection and lane. They only grow, so a cached position is never too high. */
type Progress = Map<string, Map<number, number>>;

/** Lets a read wait until the read model shows an earlier write. It polls Postgres only while a read waits. */
export class PositionWaiter {
  readonly #readModels: ReadModels;
  readonly #clock: () => number;
  readonly #waiting = new Set<WaitingRead>();
  readonly #progress: Progress = new Map();
  #isPolling = false;

  /** `clock` is monotonic and counts milliseconds. */
  constructor(readModels: ReadModels, clock: () => number) {
    this.#readModels = readModels;
    this.#clock = clock;
  }

  /**
   * Waits until the lanes of the runs that serve have passed a position.
   *
   * @returns false when they have not passed it within the timeout
   * @throws PostgresUnavailableError
   */
  waitUntilPassed(awaited: AwaitedPosition): Promise<boolean> {
    if (this.#hasPassed(awaited)) return Promise.resolve(true);
    if (this.#waiting.size >= MAX_WAITING_READS) return Promise.resolve(false);
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    this.#waiting.add({ ...awaited, deadlineMs: this.#clock() + awaited.timeoutMs, resolve, reject });
    if (!this.#isPolling) void this.#poll();
    return promise;
  }

  async #poll(): Promise<void> {
    this.#isPolling = true;
    while (this.#waiting.size > 0) {
      try {
        await this.#readProgress();
        this.#resolvePassed();
      } catch (error) {
        for (const waiting of this.#waiting) waiting.reject(error);
        this.#waiting.clear();
      }
      if (this.#waiting.size > 0) await pause(POLL_INTERVAL_MS);
    }
    this.#isPolling = false;
  }

  async #readProgress(): Promise<void> {
    const projections = new Set<string>();
    const lanes = new Set<number>();
    let isAll = false;
    for (const waiting of this.#waiting) {
      for (const projection of waiting.projections) projections.add(projection);
      if (waiting.lanes === 'all') isAll = true;
      else for (const lane of waiting.lanes) lanes.add(lane);
    }
    const { sql, servingRuns } = this.#readModels;
    const rows = await sql<ProgressRow[]>`
      select r.id as run_id, r.schema_name, r.projection, c.lane, c.position
      from platform.projection_runs r join platform.projection_checkpoints c on c.run_id = r.id
      where r.status = 'serving' and r.projection = any(${[...projections]}::text[])
        and (${isAll}::boolean or c.lane = any(${[...lanes]}::smallint[]))`;
    const noted = new Set<number>();
    for (const { run_id, schema_name, projection, lane, position } of rows) {
      if (!noted.has(run_id)) servingRuns.put(projection, { runId: run_id, schema: schema_name });
      noted.add(run_id);
      const known = this.#progress.get(projection) ?? new Map<number, number>();
      this.#progress.set(projection, known.set(lane, position));
    }
  }

  #resolvePassed(): void {
    const nowMs = this.#clock();
    for (const waiting of this.#waiting) {
      const hasPassed = this.#hasPassed(waiting);
      if (!hasPassed && nowMs < waiting.deadlineMs) continue;
      this.#waiting.delete(waiting);
      waiting.resolve(hasPassed);
    }
  }

  #hasPassed({ projections, lanes, position }: AwaitedPosition): boolean {
    return projections.every((projection) => {
      const known = this.#progress.get(projection);
      if (known === undefined) return false;
      if (lanes === 'all') return known.size === LANE_COUNT && [...known.values()].every((at) => at >= position);
      return lanes.every((lane) => (known.get(lane) ?? -1) >= position);
    });
  }
}

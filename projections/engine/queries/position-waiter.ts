/** How far the projections are, for reads that wait for a write. What operators ask is in `queries/`. */

import { setTimeout as pause } from 'node:timers/promises';
import { LANE_COUNT } from '../../../domain/shard.ts';
import type { ReadModels } from './serving-runs.ts';

/** How often the checkpoints are read while somebody waits: once for all who wait. */
const POLL_INTERVAL_MS = 15;
/** Reads that may wait at the same time; a further one is told at once that it is too early. */
const MAX_WAITING_READS = 10_000;

export interface AwaitedPosition {
  readonly projections: readonly string[];
  /** The lanes that matter to the read. */
  readonly lanes: 'all' | readonly number[];
  /** The sequence that they must have passed. */
  readonly position: number;
  readonly timeoutMs: number;
}

interface Waiting extends AwaitedPosition {
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

/** Positions of the runs that serve, by projection and lane. They only grow, so that what was read once stays true. */
type Progress = Map<string, Map<number, number>>;

/** Tells when the runs that serve have passed a position. Reads Postgres only while somebody waits. */
export class PositionWaiter {
  readonly #readModels: ReadModels;
  readonly #clock: () => number;
  readonly #waiting = new Set<Waiting>();
  readonly #progress: Progress = new Map();
  #isPolling = false;

  /** `clock` gives milliseconds. */
  constructor(readModels: ReadModels, clock: () => number) {
    this.#readModels = readModels;
    this.#clock = clock;
  }

  /**
   * Waits until the lanes have passed a position.
   *
   * @returns false when they had not in time
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
        this.#answer();
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

  #answer(): void {
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

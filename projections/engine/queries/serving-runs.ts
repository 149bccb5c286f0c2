/**
 * The lookup of the run that serves a projection: reads need its schema. A rebuild changes one row of
 * `platform.projection_runs`; every process reads from the new schema at the latest `SERVING_RUN_TTL_MS` later.
 */

import { PostgresUnavailableError, type Sql } from '../../../platform/postgres/connection.ts';
import { SERVING_RUN_TTL_MS } from '../runs/runs.ts';

export interface ServingRun {
  readonly runId: number;
  readonly schema: string;
}

/** What the queries of a read model need: a connection, and the lookup that a process shares between all its connections. */
export interface ReadModels {
  readonly sql: Sql;
  readonly servingRuns: ServingRuns;
}

interface CachedRun {
  readonly run: Promise<ServingRun>;
  readonly expiresAtMs: number;
}

/** A process makes one instance. The cache has one entry a projection, so its size is bounded by the code. */
export class ServingRuns {
  readonly #sql: Sql;
  readonly #clock: () => number;
  readonly #cache = new Map<string, CachedRun>();

  /** `clock` is monotonic and counts milliseconds. */
  constructor(sql: Sql, clock: () => number) {
    this.#sql = sql;
    this.#clock = clock;
  }

  /** @throws PostgresUnavailableError when Postgres does not answer, and while no run of the projection serves yet */
  find(projection: string): Promise<ServingRun> {
    const cached = this.#cache.get(projection);
    if (cached !== undefined && this.#clock() < cached.expiresAtMs) return cached.run;
    const run = findServingRun(this.#sql, projection);
    this.#put(projection, run);
    run.catch(() => this.#cache.delete(projection));
    return run;
  }

  /**
   * Replaces the cached run by one that the caller has just read. A client that waited for a position of this run must not
   * read rows of an older run afterwards.
   */
  put(projection: string, run: ServingRun): void {
    this.#put(projection, Promise.resolve(run));
  }

  #put(projection: string, run: Promise<ServingRun>): void {
    this.#cache.set(projection, { run, expiresAtMs: this.#clock() + SERVING_RUN_TTL_MS });
  }
}

async function findServingRun(sql: Sql, projection: string): Promise<ServingRun> {
  const [row] = await sql<{ id: number; schema_name: string }[]>`
    select id, schema_name from platform.projection_runs where projection = ${projection} and status = 'serving'`;
  if (row === undefined)
    throw new PostgresUnavailableError(
      `The read model ${projection} has no run that serves yet: its first run is still being filled. Retry later.`,
    );
  return { runId: row.id, schema: row.schema_name };
}

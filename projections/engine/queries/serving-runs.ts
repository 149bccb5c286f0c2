/** Which schema serves a projection now. A rebuild moves one row; every process knows it within `REMEMBER_MS`. */

import { PostgresUnavailableError, type Sql } from '../../../platform/postgres/connection.ts';

/** How long a serving schema is remembered; a schema that no longer serves stays at least that long. */
export const REMEMBER_MS = 1_000;

export interface ServingRun {
  readonly runId: number;
  readonly schema: string;
}

const remembered = new WeakMap<Sql, Map<string, { readonly run: Promise<ServingRun>; readonly untilMs: number }>>();

/** @throws PostgresUnavailableError also while no run of the projection serves yet */
export function servingRun(sql: Sql, projection: string): Promise<ServingRun> {
  const runs = remembered.get(sql) ?? new Map();
  remembered.set(sql, runs);
  const known = runs.get(projection);
  const nowMs = performance.now();
  if (known !== undefined && nowMs < known.untilMs) return known.run;
  const run = findServingRun(sql, projection);
  runs.set(projection, { run, untilMs: nowMs + REMEMBER_MS });
  run.catch(() => runs.delete(projection));
  return run;
}

/** Takes note of which run serves: whoever has seen one of its positions must not read another one's rows after that. */
export function noteServing(sql: Sql, projection: string, runId: number, schema: string): void {
  const runs = remembered.get(sql) ?? new Map();
  remembered.set(sql, runs);
  runs.set(projection, { run: Promise.resolve({ runId, schema }), untilMs: performance.now() + REMEMBER_MS });
}

async function findServingRun(sql: Sql, projection: string): Promise<ServingRun> {
  const [row] = await sql<{ id: number; schema_name: string }[]>`
    select id, schema_name from platform.projection_runs where projection = ${projection} and status = 'serving'`;
  if (row === undefined) throw new PostgresUnavailableError(`no run of ${projection} serves yet`);
  return { runId: row.id, schema: row.schema_name };
}

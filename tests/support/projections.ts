/** Projections on a real Postgres, fed from a store in memory. */

import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { EventStore } from '../../platform/event-store/store.ts';
import { Postgres } from '../../platform/postgres/connection.ts';
import { migrate } from '../../platform/postgres/migrations.ts';
import { createProjections } from '../../projections/create-projections.ts';
import { runProjections } from '../../projections/engine/engine.ts';
import type { Projection } from '../../projections/engine/projection.ts';
import { type ReadModels, ServingRuns } from '../../projections/engine/queries/serving-runs.ts';
import type { FleetHistory } from './fleet-history.ts';
import { freshDatabase } from './services.ts';
import { silentLog } from './silent-log.ts';

const MAX_CONNECTIONS = 10;

/** A migrated, empty database; the caller closes it. */
export async function freshPostgres(): Promise<Postgres> {
  const postgres = new Postgres({
    url: await freshDatabase(),
    applicationName: 'projections under test',
    maxConnections: MAX_CONNECTIONS,
  });
  await migrate(postgres, silentLog);
  return postgres;
}

/** Appends the next commits of a history to a store. */
export async function append(history: FleetHistory, store: MemoryEventStore, commits: number): Promise<void> {
  for (const commit of history.nextCommits(commits)) await store.append(commit);
}

/** A store whose recording time is the time in the history. */
export function storeOf(history: FleetHistory): MemoryEventStore {
  return new MemoryEventStore(() => history.nowMs);
}

export interface Filling {
  /** Resolves when what was in the store at the start is applied; rejects when the engine ends with an error. */
  readonly caughtUp: Promise<void>;
  /** Ends it. Rejects with what ended the engine, if it was not this. */
  stop(): Promise<void>;
  /** Settles when the engine has ended. */
  readonly ended: Promise<void>;
}

/** Starts an engine. */
export function fill(
  postgres: Postgres,
  store: EventStore,
  options: {
    readonly projections?: readonly Projection[];
    readonly lanes?: readonly number[];
    readonly clock?: () => number;
  } = {},
): Filling {
  const stop = new AbortController();
  const caughtUp = Promise.withResolvers<void>();
  const ended = runProjections({
    postgres,
    store,
    projections: options.projections ?? createProjections(),
    ...(options.lanes === undefined ? {} : { lanes: options.lanes }),
    clock: options.clock ?? (() => performance.now()),
    signal: stop.signal,
    log: silentLog,
    onCaughtUp: caughtUp.resolve,
  });
  ended.catch(caughtUp.reject);
  caughtUp.promise.catch(() => undefined);
  return {
    caughtUp: caughtUp.promise,
    ended,
    stop: async () => {
      stop.abort();
      await ended;
    },
  };
}

/** What queries need, with a lookup of the serving runs of its own: nothing is cached from an earlier call. */
export function readModelsOf({ sql }: Pick<Postgres, 'sql'>): ReadModels {
  return { sql, servingRuns: new ServingRuns(sql, () => performance.now()) };
}

/** Fills to the end of the store and stops. */
export async function fillToTheEnd(...args: Parameters<typeof fill>): Promise<void> {
  const filling = fill(...args);
  await filling.caughtUp;
  await filling.stop();
}

/** Every row of every table of the runs that serve, in a fixed order. */
export async function dump({ sql }: Postgres): Promise<Record<string, string[]>> {
  const tables = await sql<{ projection: string; schema: string; name: string }[]>`
    select r.projection, t.schemaname as schema, t.tablename as name
    from platform.projection_runs r join pg_tables t on t.schemaname = r.schema_name
    where r.status = 'serving' order by 1, 3`;
  const rows: Record<string, string[]> = {};
  for (const { projection, schema, name } of tables) {
    const found = await sql<{ row: string }[]>`select t::text as row from ${sql(`${schema}.${name}`)} t order by 1`;
    rows[`${projection}.${name}`] = found.map(({ row }) => row);
  }
  return rows;
}

/**
 * The peer of `projections`: the same history in the event store of `@event-driven-io/emmett-postgresql`, and the same read
 * models filled by its consumer. Takes a task as JSON on stdin, prints its findings as JSON.
 */

import {
  type PostgreSQLProcessor,
  postgreSQLEventStoreConsumer,
  postgreSQLProjector,
} from '@event-driven-io/emmett-postgresql';
import type { UnitState } from '../../domain/unit/unit.ts';
import { Postgres } from '../../platform/postgres/connection.ts';
import { ensureMonths } from '../../projections/event_log/months.ts';
import { eventLog } from '../../projections/event_log/projection.ts';
import { appendHistory, type HistoryTask, type Recorded } from './emmett-history.ts';
import {
  batchProcessor,
  eventLogIn,
  type RecordedProjection,
  unitDocuments,
  unitStatesIn,
} from './emmett-projections.ts';

/** Events a second, from the start of the consumer until its checkpoints are at the end. */
export interface EmmettRates {
  readonly eventLog: number;
  readonly units: number;
  /** Both by one consumer. */
  readonly both: number;
}

export interface EmmettFindings {
  readonly events: number;
  /** By emmett's projectors, which take one event at a time. */
  readonly projectors: EmmettRates;
  /** By processors of one's own, which take a batch at a time. */
  readonly batches: EmmettRates;
}

/** What the consumer reads at once. More makes projectors no faster; by default it is 100. */
const PROJECTOR_BATCH_EVENTS = 500;
const OWN_BATCH_EVENTS = 5_000;
const RUN_TIMEOUT_MS = 300_000;
const POLL_MS = 5;
const MS_PER_S = 1_000;
/** Each run fills tables of its own. */
const SCHEMAS = ['projector', 'projectors', 'batch', 'batches'] as const;

const task = (await Bun.stdin.json()) as HistoryTask;
const postgres = new Postgres({ url: task.databaseUrl, applicationName: 'bench', maxConnections: 2 });
const history = await appendHistory(task);
await prepare();
const findings: EmmettFindings = {
  events: history.events,
  projectors: {
    eventLog: await byProjectors(eventLogIn('projector')),
    units: await byProjectors(unitDocuments('units_projector')),
    both: await byProjectors(eventLogIn('projectors'), unitDocuments('units_projectors')),
  },
  batches: {
    eventLog: await byBatches(eventLogIn('batch')),
    units: await byBatches(unitStatesIn('batch')),
    both: await byBatches(eventLogIn('batches'), unitStatesIn('batches')),
  },
};
for (const schema of SCHEMAS) await checkEventLog(schema);
for (const schema of ['batch', 'batches']) await checkStates(`${schema}.unit_state`, 'unit', 'state');
for (const table of ['units_projector', 'units_projectors']) await checkStates(table, '_id', 'data');
await postgres.close();
console.log(JSON.stringify(findings));

async function prepare(): Promise<void> {
  for (const schema of SCHEMAS) {
    await postgres.transaction(async (tx) => {
      await tx`create schema ${tx(schema)}`;
      await eventLog.createTables(tx, schema);
      await ensureMonths(tx, schema, history.recordedAtMs);
      await tx`create table ${tx(`${schema}.unit_state`)} (unit text primary key, state json not null)`;
    });
  }
  await postgres.sql`vacuum analyze emt_messages`;
  await postgres.sql`checkpoint`;
}

/** As emmett's guide says. */
function byProjectors(...projections: readonly RecordedProjection[]): Promise<number> {
  const processors = projections.map((projection) => postgreSQLProjector<Recorded>({ projection }));
  return measure(processors, projections, PROJECTOR_BATCH_EVENTS);
}

function byBatches(...projections: readonly RecordedProjection[]): Promise<number> {
  return measure(projections.map(batchProcessor), projections, OWN_BATCH_EVENTS);
}

async function measure(
  processors: PostgreSQLProcessor<Recorded>[],
  projections: readonly RecordedProjection[],
  batchSize: number,
): Promise<number> {
  const consumer = postgreSQLEventStoreConsumer<Recorded>({
    connectionString: task.databaseUrl,
    processors,
    // By default it waits 50 ms between two batches.
    pulling: { batchSize, pullingFrequencyInMs: 0 },
    stopWhen: { noMessagesLeft: true },
  });
  const ids = processors.map(({ id }) => id);
  const ends = await Promise.all(projections.map(({ canHandle }) => lastOf(canHandle)));
  let isOver = false;
  const startedMs = performance.now();
  const run = consumer.start().finally(() => {
    isOver = true;
  });
  for (;;) {
    const wasOver = isOver;
    const positions = await checkpointsOf(ids);
    if (ids.every((id, index) => (positions.get(id) ?? 0) >= (ends[index] ?? 0))) break;
    // At an error it stops, and keeps it to itself.
    const isLate = performance.now() - startedMs > RUN_TIMEOUT_MS;
    if (wasOver || isLate)
      throw new Error(`emmett's consumer did not come to the end: ${JSON.stringify([...positions])} of ${ends}`);
    await Bun.sleep(POLL_MS);
  }
  const elapsedMs = performance.now() - startedMs;
  await run;
  await consumer.close();
  return (history.events / elapsedMs) * MS_PER_S;
}

/** The checkpoint of a projection does not move past what it does not handle. */
async function lastOf(types: readonly string[]): Promise<number> {
  const [row] = await postgres.sql<{ position: number }[]>`
    select max(global_position) as position from emt_messages where message_type = any(${types}::text[])`;
  return row?.position ?? 0;
}

async function checkpointsOf(processorIds: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const rows = await postgres.sql<{ id: string; position: number }[]>`
    select processor_id as id, last_processed_checkpoint::bigint as position
    from emt_processors where processor_id = any(${processorIds}::text[])`;
  return new Map(rows.map(({ id, position }) => [id, position]));
}

async function checkEventLog(schema: string): Promise<void> {
  const [row] = await postgres.sql<
    { events: number }[]
  >`select count(*) as events from ${postgres.sql(`${schema}.event`)}`;
  if (row?.events !== history.events) throw new Error(`${schema} has ${row?.events} of ${history.events} events`);
}

async function checkStates(table: string, id: string, document: string): Promise<void> {
  const { sql } = postgres;
  const rows = await sql<{ unit: string; state: UnitState }[]>`
    select ${sql(id)} as unit, ${sql(document)} as state from ${sql(table)}`;
  if (rows.length !== history.states.size)
    throw new Error(`${table} has ${rows.length} units of ${history.states.size}`);
  for (const { unit, state } of rows) {
    const expected = history.states.get(unit);
    for (const part of Object.keys(expected ?? {}) as (keyof UnitState)[]) {
      if (!Bun.deepEquals(state[part], expected?.[part]))
        throw new Error(`${table}: ${part} of ${unit} is not what was folded`);
    }
  }
}

/**
 * `./run projections verify NAME`: compares every row of a read model with a second fold of all events.
 *
 * How it works. One snapshot of the database gives the checkpoints of the run that serves and the hashes of its rows, so both
 * are of one moment, and the snapshot blocks no writer. The operation then fills a run that never serves from the first event:
 * each lane up to its checkpoint, and a parked unit up to the commit that could not be applied. The hashes of its rows must be
 * equal. The check finds lost, repeated and forged rows; it cannot find a mistake of the fold itself.
 */

import type { Postgres, Sql, Tx } from '../../platform/postgres/connection.ts';
import { readPositions } from '../engine/checkpoints/checkpoints.ts';
import { parseCommit } from '../engine/consume/parse-commit.ts';
import { ALL_LANES } from '../engine/lanes/lane-assignment.ts';
import { readParked } from '../engine/parking/parking.ts';
import type { Commit, Projection } from '../engine/projection.ts';
import { dropRun } from '../engine/runs/drop-runs.ts';
import { activeRuns, countEvents, createVerification, endRun, type Run } from '../engine/runs/runs.ts';
import { FAILED, INTERRUPTED, type OperationContext, SUCCEEDED, unknownProjection } from './operation.ts';
import { formatNumber, ProgressDisplay } from './progress-display.ts';
import { notServing } from './rebuild.ts';

/** Commits in one transaction. */
const MAX_BATCH_COMMITS = 2_000;
/** Differing rows that are printed of each table. */
const MAX_PRINTED_ROWS = 10;
/** Characters that are printed of a differing row. */
const MAX_PRINTED_LENGTH = 300;
/** Prefix of the tables with the hashes of the run that serves; they are in the schema of the verification. */
const HASH_TABLE_PREFIX = 'verify_';

/** The run that serves, as of one moment. */
interface ServingSnapshot {
  readonly positions: ReadonlyMap<number, number>;
  readonly parked: ReadonlyMap<string, number>;
  readonly tables: readonly string[];
}

/** @returns the exit status: 1 when rows differ, or nothing can be compared */
export async function verify(name: string, context: OperationContext): Promise<number> {
  const { postgres, output, clock, interrupted, projections } = context;
  const display = new ProgressDisplay(name, output, clock);
  const projection = projections.find((each) => each.name === name);
  const serving = (await activeRuns(postgres.sql, [name])).find(({ status }) => status === 'serving');
  if (projection === undefined || serving === undefined) {
    display.printLine(projection === undefined ? unknownProjection(name, projections) : notServing(name));
    return FAILED;
  }
  if (serving.version !== projection.version) {
    display.printLine(
      `${name}: version ${serving.version} serves, but this code has version ${projection.version}. ` +
        'Verify with the code that fills the read model.',
    );
    return FAILED;
  }
  const run = await createVerification(postgres, projection);
  try {
    const snapshot = await snapshotServing(postgres, serving, run);
    const events = await fillToSnapshot(projection, run, snapshot, context, display);
    if (interrupted.aborted) return INTERRUPTED;
    let differing = 0;
    for (const table of snapshot.tables) differing += await compare(postgres.sql, table, run, display);
    display.printLine(
      differing === 0
        ? `${name}: every row of ${snapshot.tables.length} tables equals the fold of ${formatNumber(events)} events.`
        : `${name}: ${formatNumber(differing)} rows differ from the fold of ${formatNumber(events)} events.`,
    );
    for (const unit of snapshot.parked.keys())
      display.printLine(
        `${name}: unit ${unit} is parked; its rows were compared up to the event that could not be applied.`,
      );
    return differing === 0 ? SUCCEEDED : FAILED;
  } finally {
    await endRun(postgres.sql, run.id, 'cancelled', 'the verification has ended');
    await dropRun(postgres, run);
  }
}

/** Reads the checkpoints of the run that serves and stores the hashes of its rows in the schema of the verification. */
function snapshotServing(postgres: Postgres, serving: Run, run: Run): Promise<ServingSnapshot> {
  return postgres.transaction(async (tx) => {
    await tx`set transaction isolation level repeatable read`;
    const positions = await readPositions(tx, serving.id, ALL_LANES);
    const parked = await readParked(tx, serving.id, ALL_LANES);
    const tables = await tablesOf(tx, serving.schema);
    for (const table of tables) {
      await tx`
        create unlogged table ${tx(`${run.schema}.${HASH_TABLE_PREFIX}${table}`)} as
        select md5(t::text)::uuid as hash, left(t::text, ${MAX_PRINTED_LENGTH}) as shown
        from ${tx(`${serving.schema}.${table}`)} t`;
    }
    return { positions, parked, tables };
  });
}

/** The tables of a schema, without partitions: the rows of a partition are those of its parent. */
async function tablesOf(tx: Tx, schema: string): Promise<string[]> {
  const rows = await tx<{ name: string }[]>`
    select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relkind in ('r', 'p') and not c.relispartition order by 1`;
  return rows.map(({ name }) => name);
}

/** @returns the number of applied events */
async function fillToSnapshot(
  projection: Projection,
  run: Run,
  { positions, parked }: ServingSnapshot,
  { store, postgres, interrupted }: OperationContext,
  display: ProgressDisplay,
): Promise<number> {
  const end = Math.max(...positions.values());
  let events = 0;
  let batch: Commit[] = [];
  const apply = async (position: number) => {
    const count = batch.reduce((sum, commit) => sum + commit.events.length, 0);
    await postgres.transaction(async (tx) => {
      if (batch.length > 0) await projection.apply(tx, run.schema, batch);
      await countEvents(tx, run.id, count);
    });
    events += count;
    batch = [];
    display.show({ share: end === 0 ? 1 : position / end, events });
  };
  const reading = new AbortController();
  const signal = AbortSignal.any([interrupted, reading.signal]);
  if (end > 0) {
    for await (const message of store.read({ after: 0, signal, onAlarm: () => undefined })) {
      const isApplied =
        message.sequence <= (positions.get(message.lane) ?? 0) &&
        message.sequence < (parked.get(message.unit) ?? Number.POSITIVE_INFINITY);
      const commit = isApplied ? parseCommit(message, () => undefined) : undefined;
      if (commit !== undefined) batch.push(commit);
      if (batch.length >= MAX_BATCH_COMMITS) await apply(message.sequence);
      if (message.sequence >= end) break;
    }
    reading.abort();
  }
  if (!interrupted.aborted) await apply(end);
  return events;
}

/** Prints the rows that are in one of both runs only. @returns their number */
async function compare(sql: Sql, table: string, run: Run, display: ProgressDisplay): Promise<number> {
  const differing = sql.part`
    from (select hash, shown, row_number() over (partition by hash) as n from ${sql(`${run.schema}.${HASH_TABLE_PREFIX}${table}`)}) old
    full join (
      select md5(t::text)::uuid as hash, left(t::text, ${MAX_PRINTED_LENGTH}) as shown,
        row_number() over (partition by md5(t::text)) as n
      from ${sql(`${run.schema}.${table}`)} t
    ) new using (hash, n)
    where old.hash is null or new.hash is null`;
  const rows = await sql<{ serves: string | null; rebuilt: string | null }[]>`
    select old.shown as serves, new.shown as rebuilt ${differing} order by coalesce(old.shown, new.shown), 1
    limit ${MAX_PRINTED_ROWS}`;
  if (rows.length === 0) return 0;
  const [counted] = await sql<{ count: number }[]>`select count(*) as count ${differing}`;
  for (const { serves, rebuilt } of rows)
    display.printLine(
      serves === null
        ? `  ${table}: only in the new fold: ${rebuilt}`
        : `  ${table}: only in the run that serves: ${serves}`,
    );
  const unprinted = (counted?.count ?? 0) - rows.length;
  if (unprinted > 0) display.printLine(`  ${table}: ${formatNumber(unprinted)} more rows differ`);
  return counted?.count ?? 0;
}

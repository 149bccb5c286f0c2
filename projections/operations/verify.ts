/**
 * `./run projections verify NAME`: proves that what serves is what the events say.
 *
 * How it works. In one snapshot of the database, the positions of the lanes of the run that serves are read and the rows of its
 * tables are hashed: both are of the same moment, and nobody is held up. Then a run that never serves is filled from the first
 * event on, every lane exactly as far, a parked unit exactly to where it is parked. Its rows must have the same hashes.
 */

import type { EventStore } from '../../platform/event-store/store.ts';
import type { Postgres, Sql, Tx } from '../../platform/postgres/connection.ts';
import { readPositions } from '../engine/checkpoints/checkpoints.ts';
import { parseCommit } from '../engine/consume/parse-commit.ts';
import { ALL_LANES } from '../engine/engine.ts';
import { readParked } from '../engine/parking/parking.ts';
import type { Commit, Projection } from '../engine/projection.ts';
import { dropRun } from '../engine/runs/drop-runs.ts';
import { activeRuns, countEvents, createVerification, endRun, type Run } from '../engine/runs/runs.ts';
import { formatNumber, ProgressDisplay } from './progress-display.ts';
import type { OperationContext } from './rebuild.ts';

/** Commits that one transaction applies. */
const MAX_BATCH_COMMITS = 2_000;
/** Rows that differ and are named, of each table. */
const MAX_NAMED_ROWS = 10;
/** Longest part of a row that is shown. */
const MAX_SHOWN_LETTERS = 300;
/** Prefix of the tables that keep the hashes of the run that serves. */
const HASHES = 'verify_';

const SAME = 0;
const DIFFERENT = 1;
const INTERRUPTED = 130;

export interface VerificationContext extends OperationContext {
  readonly store: EventStore;
  readonly projections: readonly Projection[];
}

interface Serving {
  readonly run: Run;
  readonly positions: ReadonlyMap<number, number>;
  readonly parked: ReadonlyMap<string, number>;
  readonly tables: readonly string[];
}

/** @returns the exit status: 1 when rows differ, or nothing can be compared */
export async function verify(name: string, verification: VerificationContext): Promise<number> {
  const { postgres, output, clock, interrupted, projections } = verification;
  const display = new ProgressDisplay(name, output, clock);
  const projection = projections.find((each) => each.name === name);
  const serving = (await activeRuns(postgres.sql, [name])).find(({ status }) => status === 'serving');
  if (projection === undefined || serving === undefined) {
    display.printLine(projection === undefined ? `there is no projection ${name}` : `no run of ${name} serves yet`);
    return DIFFERENT;
  }
  if (serving.version !== projection.version) {
    display.printLine(
      `version ${serving.version} of ${name} serves, this code has ${projection.version}: use the code that fills it`,
    );
    return DIFFERENT;
  }
  const run = await createVerification(postgres, projection);
  try {
    const known = await hashServing(postgres, serving, run);
    const events = await fillAsFar(projection, run, known, verification, display);
    if (interrupted.aborted) return INTERRUPTED;
    let differing = 0;
    for (const table of known.tables) differing += await compare(postgres.sql, table, run, display);
    display.printLine(
      differing === 0
        ? `${name} is what ${formatNumber(events)} events say, row for row, in ${known.tables.length} tables`
        : `${name} differs from what ${formatNumber(events)} events say: ${formatNumber(differing)} rows`,
    );
    for (const unit of known.parked.keys())
      display.printLine(`${unit} is parked: it was compared as far as it is applied`);
    return differing === 0 ? SAME : DIFFERENT;
  } finally {
    await endRun(postgres.sql, run.id, 'cancelled', 'it was verified');
    await dropRun(postgres, run);
  }
}

/** Positions and hashes of one moment. */
function hashServing(postgres: Postgres, serving: Run, run: Run): Promise<Serving> {
  return postgres.transaction(async (tx) => {
    await tx`set transaction isolation level repeatable read`;
    const positions = await readPositions(tx, serving.id, ALL_LANES);
    const parked = await readParked(tx, serving.id, ALL_LANES);
    const tables = await tablesOf(tx, serving.schema);
    for (const table of tables) {
      await tx`
        create unlogged table ${tx(`${run.schema}.${HASHES}${table}`)} as
        select md5(t::text)::uuid as hash, left(t::text, ${MAX_SHOWN_LETTERS}) as shown
        from ${tx(`${serving.schema}.${table}`)} t`;
    }
    return { run: serving, positions, parked, tables };
  });
}

/** Tables that hold rows; a partition's rows are those of its parent. */
async function tablesOf(tx: Tx, schema: string): Promise<string[]> {
  const rows = await tx<{ name: string }[]>`
    select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relkind in ('r', 'p') and not c.relispartition order by 1`;
  return rows.map(({ name }) => name);
}

async function fillAsFar(
  projection: Projection,
  run: Run,
  { positions, parked }: Serving,
  { store, postgres, interrupted }: VerificationContext,
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

/** Names rows that stand in one of both only. @returns how many there are */
async function compare(sql: Sql, table: string, run: Run, display: ProgressDisplay): Promise<number> {
  const differing = sql.part`
    from (select hash, shown, row_number() over (partition by hash) as n from ${sql(`${run.schema}.${HASHES}${table}`)}) old
    full join (
      select md5(t::text)::uuid as hash, left(t::text, ${MAX_SHOWN_LETTERS}) as shown,
        row_number() over (partition by md5(t::text)) as n
      from ${sql(`${run.schema}.${table}`)} t
    ) new using (hash, n)
    where old.hash is null or new.hash is null`;
  const rows = await sql<{ serves: string | null; rebuilt: string | null }[]>`
    select old.shown as serves, new.shown as rebuilt ${differing} order by coalesce(old.shown, new.shown), 1
    limit ${MAX_NAMED_ROWS}`;
  if (rows.length === 0) return 0;
  const [counted] = await sql<{ count: number }[]>`select count(*) as count ${differing}`;
  for (const { serves, rebuilt } of rows)
    display.printLine(serves === null ? `  ${table}: only rebuilt: ${rebuilt}` : `  ${table}: only serving: ${serves}`);
  const unnamed = (counted?.count ?? 0) - rows.length;
  if (unnamed > 0) display.printLine(`  ${table}: and ${formatNumber(unnamed)} more`);
  return counted?.count ?? 0;
}

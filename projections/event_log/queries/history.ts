/** The history of one unit: its commits in the order of the event store, to be folded again. */

import { aggregateOf } from '../../../domain/events/catalogue.ts';
import type { CloudEvent } from '../../../domain/events/cloud-event.ts';
import { laneOf } from '../../../domain/shard.ts';
import type { RecordedCommit } from '../../../domain/unit/late-event-filter.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import type { Sql } from '../../../platform/postgres/connection.ts';
import type { ReadModels } from '../../engine/queries/serving-runs.ts';
import { type EventRow, readPage } from '../pages.ts';

/** Events in one page. */
const HISTORY_PAGE_EVENTS = 1_000;
/** An index that is higher than that of any event in a commit. */
const AFTER_COMMIT = 32_767;

/** How far the event log holds the history of a unit. */
export interface HistoryEnd {
  /** The log holds every event of the unit up to this sequence. */
  readonly position: number;
  /** Position of the commit from which on the events of the unit are parked; undefined when it is not parked. */
  readonly parkedFrom: number | undefined;
}

export async function readHistoryEnd({ sql, servingRuns }: ReadModels, unit: string): Promise<HistoryEnd> {
  const { runId } = await servingRuns.find('event_log');
  const [row] = await sql<{ position: number; parked_from: number | null }[]>`
    select c.position, p.position as parked_from
    from platform.projection_checkpoints c
    left join platform.projection_parked p on p.run_id = c.run_id and p.unit = ${unit}
    where c.run_id = ${runId} and c.lane = ${laneOf(unit)}`;
  return { position: row?.position ?? 0, parkedFrom: row?.parked_from ?? undefined };
}

/** The position of a commit, and when the event store recorded it. */
export interface StoredCommit {
  readonly sequence: number;
  readonly recordedAtMs: number;
}

/** Reads the last commit of a unit that was recorded at or before a moment. @returns undefined when there is none */
export async function lastCommitRecordedBy(
  readModels: ReadModels,
  unit: string,
  atMs: number,
): Promise<StoredCommit | undefined> {
  return findCommit(
    readModels,
    readModels.sql.part`unit = ${unit} and recorded_at <= ${toInstant(atMs)}::timestamptz`,
    'desc',
  );
}

/** Reads the last commit of a unit up to a sequence. @returns undefined when there is none */
export async function lastCommitUpTo(
  readModels: ReadModels,
  unit: string,
  sequence: number,
): Promise<StoredCommit | undefined> {
  return findCommit(readModels, readModels.sql.part`unit = ${unit} and sequence <= ${sequence}::bigint`, 'desc');
}

/** Reads the first commit of a unit. @returns undefined when the log holds no event of the unit */
export async function firstCommit(readModels: ReadModels, unit: string): Promise<StoredCommit | undefined> {
  return findCommit(readModels, readModels.sql.part`unit = ${unit}`, 'asc');
}

async function findCommit(
  { sql, servingRuns }: ReadModels,
  condition: ReturnType<Sql['part']>,
  order: 'asc' | 'desc',
): Promise<StoredCommit | undefined> {
  const { schema } = await servingRuns.find('event_log');
  const by = order === 'asc' ? sql.part`sequence, index` : sql.part`sequence desc, index desc`;
  const [row] = await sql<{ sequence: number; recorded_at: Date }[]>`
    select sequence, recorded_at from ${sql(`${schema}.event`)} where ${condition} order by ${by} limit 1`;
  return row === undefined ? undefined : { sequence: row.sequence, recordedAtMs: row.recorded_at.getTime() };
}

/**
 * Reads the commits of a unit after one sequence and up to another, page by page. Each commit is complete, with all its events.
 * Every page is a query of its own, so only one page is in memory, and no transaction stays open.
 */
export async function* unitCommits(
  { sql, servingRuns }: ReadModels,
  unit: string,
  bounds: { readonly after: number; readonly upTo: number; readonly pageEvents?: number },
): AsyncGenerator<readonly RecordedCommit[]> {
  const { after, upTo, pageEvents = HISTORY_PAGE_EVENTS } = bounds;
  let place: { timeMs: number; sequence: number; index: number } | undefined = {
    timeMs: 0,
    sequence: after,
    index: AFTER_COMMIT,
  };
  let incomplete: EventRow[] = [];
  while (place !== undefined) {
    const { schema } = await servingRuns.find('event_log');
    const query = { filter: { unit }, sort: 'position', after: place, upTo, limit: pageEvents } as const;
    const page = await readPage(sql, schema, query);
    place = page.next;
    const rows = [...incomplete, ...page.rows];
    // The last commit may continue on the next page.
    const last = rows.at(-1)?.sequence;
    incomplete = place === undefined ? [] : rows.filter(({ sequence }) => sequence === last);
    yield commitsOf(incomplete.length === 0 ? rows : rows.slice(0, -incomplete.length));
  }
}

function commitsOf(rows: readonly EventRow[]): RecordedCommit[] {
  const bySequence = Map.groupBy(rows, ({ sequence }) => sequence);
  return [...bySequence].flatMap(([sequence, ofCommit]): RecordedCommit[] => {
    const events = ofCommit.map(({ event }) => JSON.parse(event) as CloudEvent);
    const aggregate = events.map(aggregateOf).find((one) => one !== undefined);
    const recordedAtMs = ofCommit[0]?.recorded_at.getTime();
    // A commit without an aggregate holds only events that the folds ignore.
    return aggregate === undefined || recordedAtMs === undefined ? [] : [{ aggregate, sequence, recordedAtMs, events }];
  });
}

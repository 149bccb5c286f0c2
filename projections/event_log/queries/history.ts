/** The history of one unit, for whoever folds it again: its commits in the order of the store. */

import { aggregateOf } from '../../../domain/events/catalogue.ts';
import type { CloudEvent } from '../../../domain/events/envelope.ts';
import { laneOf } from '../../../domain/shard.ts';
import type { RecordedCommit } from '../../../domain/unit/time-travel.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import type { Sql } from '../../../platform/postgres/connection.ts';
import type { ReadModels } from '../../engine/queries/serving-runs.ts';
import { type EventRow, readPage } from '../pages.ts';

/** Events that are read at a time. */
const HISTORY_PAGE_EVENTS = 1_000;
/** Behind every event of a commit. */
const BEHIND_COMMIT = 32_767;

/** How far the log has the history of a unit. */
export interface HistoryEnd {
  /** It has everything up to this sequence. */
  readonly position: number;
  /** The commit from which on the events of this unit are parked. */
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

/** A commit of a unit, and when the store took it. */
export interface StoredCommit {
  readonly sequence: number;
  readonly recordedAtMs: number;
}

/** The last commit of a unit that was recorded at or before a moment, `undefined` when there is none. */
export async function lastCommitRecordedBy(
  readModels: ReadModels,
  unit: string,
  atMs: number,
): Promise<StoredCommit | undefined> {
  return found(
    readModels,
    readModels.sql.part`unit = ${unit} and recorded_at <= ${toInstant(atMs)}::timestamptz`,
    'desc',
  );
}

/** The last commit of a unit up to a sequence, `undefined` when there is none. */
export async function lastCommitUpTo(
  readModels: ReadModels,
  unit: string,
  sequence: number,
): Promise<StoredCommit | undefined> {
  return found(readModels, readModels.sql.part`unit = ${unit} and sequence <= ${sequence}::bigint`, 'desc');
}

/** The first commit of a unit, `undefined` when nothing was ever recorded of it. */
export async function firstCommit(readModels: ReadModels, unit: string): Promise<StoredCommit | undefined> {
  return found(readModels, readModels.sql.part`unit = ${unit}`, 'asc');
}

async function found(
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
 * The commits of a unit behind one sequence and up to another, some at a time, each whole. Every page is a query of its own, so
 * that memory holds one, and no transaction lasts.
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
    index: BEHIND_COMMIT,
  };
  let begun: EventRow[] = [];
  while (place !== undefined) {
    const { schema } = await servingRuns.find('event_log');
    const query = { filter: { unit }, sort: 'position', after: place, upTo, limit: pageEvents } as const;
    const page = await readPage(sql, schema, query);
    place = page.next;
    const rows = [...begun, ...page.rows];
    // The last commit may go on in the next page.
    const last = rows.at(-1)?.sequence;
    begun = place === undefined ? [] : rows.filter(({ sequence }) => sequence === last);
    yield commitsOf(begun.length === 0 ? rows : rows.slice(0, -begun.length));
  }
}

function commitsOf(rows: readonly EventRow[]): RecordedCommit[] {
  const bySequence = Map.groupBy(rows, ({ sequence }) => sequence);
  return [...bySequence].flatMap(([sequence, ofCommit]): RecordedCommit[] => {
    const events = ofCommit.map(({ event }) => JSON.parse(event) as CloudEvent);
    const aggregate = events.map(aggregateOf).find((one) => one !== undefined);
    const recordedAtMs = ofCommit[0]?.recorded_at.getTime();
    // Only what the folds would pass over has no aggregate.
    return aggregate === undefined || recordedAtMs === undefined ? [] : [{ aggregate, sequence, recordedAtMs, events }];
  });
}

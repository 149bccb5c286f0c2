import { occurredAt } from '../../domain/clock.ts';
import type { CloudEvent } from '../../domain/envelope.ts';
import { Refusal } from '../../domain/refusal.ts';
import { toInstant, toMs } from '../../domain/vocabulary.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { decodeCursor, type Page, toPage } from '../../platform/postgres/cursor.ts';
import { servingRun } from '../engine/serving.ts';
import { EARLIEST_MS } from './projection.ts';

export interface EventFilter {
  readonly unit?: string;
  readonly locker?: string;
  readonly type?: string;
  /** RFC 3339: when it occurred, by the platform's clock, inclusive. */
  readonly from?: string;
  /** RFC 3339: when it occurred, by the platform's clock, exclusive. */
  readonly until?: string;
}

/** A CloudEvent as stored, with where and when it was recorded. */
export type RecordedEvent = CloudEvent & {
  readonly position: string;
  readonly recordedAt: string;
  /** RFC 3339: when it occurred, where the clock that told `time` is known to have been wrong. */
  readonly correctedTime?: string;
};

interface Row {
  readonly sequence: number;
  readonly index: number;
  readonly recorded_at: Date;
  readonly event: string;
}

/** A page of the log, the newest first. @throws CursorError, Refusal when `from` or `until` is no time */
export async function listEvents(
  sql: Sql,
  query: EventFilter & { readonly limit: number; readonly cursor?: string; readonly count?: boolean },
): Promise<Page<RecordedEvent>> {
  const { limit, cursor, count = false } = query;
  const { schema } = await servingRun(sql, 'event_log');
  const table = sql(`${schema}.event`);
  const where = condition(sql, query);
  const before = cursor === undefined ? sql.part`` : beforeCursor(sql, cursor);
  const rows = await sql<Row[]>`
    select sequence, index, recorded_at, event from ${table}
    where ${where} ${before}
    order by sequence desc, index desc
    limit ${limit + 1}`;
  const total = count ? await countOf(sql, query, schema) : undefined;
  return toPage(rows, limit, toEvent, (row) => [row.sequence, row.index], total);
}

async function countOf(sql: Sql, filter: EventFilter, schema: string): Promise<number> {
  const [row] = await sql<{ total: number }[]>`
    select count(*)::bigint as total from ${sql(`${schema}.event`)} where ${condition(sql, filter)}`;
  return row?.total ?? 0;
}

/** Only what is asked for stands in the statement, so that each combination gets the index that fits it. */
function condition(sql: Sql, { unit, locker, type, from, until }: EventFilter) {
  const none = sql.part``;
  return sql.part`true
    ${unit === undefined ? none : sql.part`and unit = ${unit}`}
    ${locker === undefined ? none : sql.part`and locker = ${locker}`}
    ${type === undefined ? none : sql.part`and type = ${type}`}
    ${from === undefined ? none : sql.part`and time >= ${momentOf('/from', from)}::timestamptz`}
    ${until === undefined ? none : sql.part`and time < ${momentOf('/until', until)}::timestamptz`}`;
}

/** A time that Postgres can compare with. @throws Refusal when it looks like a time and is none */
function momentOf(path: string, instant: string): string {
  const ms = toMs(instant);
  if (Number.isNaN(ms))
    throw new Refusal('validation', 'The period is not valid.', [{ path, message: 'is not a time' }]);
  return toInstant(Math.max(ms, EARLIEST_MS));
}

function beforeCursor(sql: Sql, cursor: string) {
  const [sequence, index] = decodeCursor(cursor, ['integer', 'integer']);
  return sql.part`and (sequence, index) < (${sequence}::bigint, ${index}::bigint)`;
}

function toEvent({ sequence, index, recorded_at, event }: Row): RecordedEvent {
  const stored = JSON.parse(event) as CloudEvent;
  return {
    position: `${sequence}.${index}`,
    recordedAt: recorded_at.toISOString(),
    ...stored,
    ...(stored.clockoffsetms === undefined ? {} : { correctedTime: occurredAt(stored) }),
  };
}

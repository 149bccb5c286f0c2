/**
 * Pages of the event log. The cost of a page is bounded, whatever its depth and however few events the filter matches.
 *
 * How it works. One part of the filter leads: an index holds the events that it matches in the order of the page, so a page
 * starts where the page before ended and reads on from there. The query checks the remaining filter row by row. Where it matches
 * few rows, a page ends after `MAX_EXAMINED_EVENTS`, short or empty, and the next page continues there.
 *
 * What holds. The pages of a list hold every event exactly once. A page sorts only the rows that it reads, and reads no rows of
 * earlier pages. It searches the index of each month once, and skips the months before a period.
 */

import { toInstant, toMs } from '../../domain/vocabulary.ts';
import type { Fragment, Sql } from '../../platform/postgres/connection.ts';
import { EARLIEST_STORABLE_MS } from '../engine/storable-time.ts';
import { MAX_AHEAD_MS } from './projection.ts';

/** Events that one page examines at most. */
export const MAX_EXAMINED_EVENTS = 20_000;
/** Events that a count examines at most. */
export const MAX_COUNTED_EVENTS = 1_000_000;

/** Times are RFC 3339: when an event occurred, corrected to the clock of the platform. */
export interface EventFilter {
  readonly unit?: string;
  readonly locker?: string;
  /** One type, or any of several. */
  readonly type?: string | readonly string[];
  readonly actor?: string;
  readonly correlation?: string;
  /** Inclusive. */
  readonly from?: string;
  /** Exclusive. */
  readonly until?: string;
}

/** By position in the event store, or by when the event occurred; `-` sorts the newest first. */
export type EventSort = 'position' | '-position' | 'time' | '-time';

/** The place of an event in both orders. */
export interface EventKey {
  readonly timeMs: number;
  readonly sequence: number;
  readonly index: number;
}

export interface EventRow {
  readonly sequence: number;
  readonly index: number;
  readonly time: Date;
  readonly recorded_at: Date;
  readonly event: string;
}

export interface PageQuery {
  readonly filter: EventFilter;
  readonly sort: EventSort;
  /** The page starts after this event. */
  readonly after?: EventKey | undefined;
  /** The page omits events after this sequence. */
  readonly upTo?: number | undefined;
  readonly limit: number;
  /** @default MAX_EXAMINED_EVENTS */
  readonly maxExamined?: number;
}

export interface EventRows {
  readonly rows: readonly EventRow[];
  /** The next page starts after this place; undefined when this page is the last. */
  readonly next: EventKey | undefined;
}

/** Reads up to `limit` events. A page with fewer events, or with none, may have a next page. */
export async function readPage(sql: Sql, schema: string, query: PageQuery): Promise<EventRows> {
  const { sort, limit } = query;
  const scan = planScan(sql, schema, query);
  const read = await sql<EventRow[]>`${scan.page}`;
  // One part is complete up to its last row. Of several parts, one may have reached its bound before another one.
  const mayLack = scan.isBounded && (scan.parts > 1 || read.length <= limit);
  const end = mayLack ? await earliestBound(sql, scan, sort) : undefined;
  const whole = end === undefined ? read : read.filter((row) => compare(keyOf(row), end, sort) <= 0);
  const rows = whole.slice(0, limit);
  const last = rows.at(-1);
  return { rows, next: whole.length > limit && last !== undefined ? keyOf(last) : end };
}

export function keyOf({ sequence, index, time }: Pick<EventRow, 'sequence' | 'index' | 'time'>): EventKey {
  return { timeMs: time.getTime(), sequence, index };
}

export interface Counted {
  readonly total: number;
  /** The count examined `MAX_COUNTED_EVENTS`, so the real total may be higher. */
  readonly isLowerBound: boolean;
}

/** Counts the events that a filter matches. */
export async function countEvents(sql: Sql, schema: string, filter: EventFilter): Promise<Counted> {
  const { conditions, rest } = splitFilter(sql, filter, '-time');
  const table = sql(`${schema}.event`);
  const branches = conditions.map((condition) => sql.part`select * from ${table} where ${condition}`);
  const [row] = await sql<{ total: number; examined: number }[]>`
    select count(*) filter (where ${rest}) as total, count(*) as examined
    from (${unionAll(sql, branches)} limit ${MAX_COUNTED_EVENTS}) as examined_events`;
  const { total = 0, examined = 0 } = row ?? {};
  return { total, isLowerBound: examined >= MAX_COUNTED_EVENTS };
}

interface Scan {
  /** Reads one event more than the page has. */
  readonly page: Fragment;
  /** Number of leading conditions; each selects one part of the events. */
  readonly parts: number;
  /** Whether a part may end at its bound before it has examined all its events. */
  readonly isBounded: boolean;
  /** Reads the places at which parts reached their bound. */
  readonly ends: Fragment;
}

/** Builds the statements of a page. */
export function planScan(sql: Sql, schema: string, query: PageQuery): Scan {
  const { filter, sort, after, upTo, limit, maxExamined = MAX_EXAMINED_EVENTS } = query;
  const { conditions, rest, hasRest } = splitFilter(sql, filter, sort);
  const order = orderBy(sql, sort);
  const budget = hasRest ? Math.max(limit + 1, Math.floor(maxExamined / conditions.length)) : limit + 1;
  const bounds = sql.part`
    ${after === undefined ? sql.part`` : sql.part`and ${isAfter(sql, after, sort)}`}
    ${upTo === undefined ? sql.part`` : sql.part`and sequence <= ${upTo}::bigint`}`;
  const from = (condition: Fragment) => sql.part`from ${sql(`${schema}.event`)} where ${condition} ${bounds}`;
  const parts = conditions.map((condition) => sql.part`select * ${from(condition)} order by ${order} limit ${budget}`);
  const ends = conditions.map(
    (condition) => sql.part`
      select sequence, index, time ${from(condition)} order by ${order} offset ${budget - 1} limit 1`,
  );
  return {
    page: sql.part`
      select sequence, index, time, recorded_at, event from (${unionAll(sql, parts)}) as examined_events
      where ${rest} order by ${order} limit ${limit + 1}`,
    parts: conditions.length,
    isBounded: hasRest,
    ends: unionAll(sql, ends),
  };
}

/** The first place in the order of the page at which a part reached its bound: events after it may be missing. */
async function earliestBound(sql: Sql, { ends }: Scan, sort: EventSort): Promise<EventKey | undefined> {
  const rows = await sql<Pick<EventRow, 'sequence' | 'index' | 'time'>[]>`${ends}`;
  return rows.map(keyOf).toSorted((a, b) => compare(a, b, sort))[0];
}

interface SplitFilter {
  /** The leading condition; for several types, one for each. */
  readonly conditions: readonly Fragment[];
  readonly rest: Fragment;
  readonly hasRest: boolean;
}

/** Splits a filter into the part that an index finds in this order, and the rest. The narrowest indexed filter leads. */
function splitFilter(sql: Sql, filter: EventFilter, sort: EventSort): SplitFilter {
  const { locker, actor, correlation } = filter;
  const types = filter.type === undefined ? undefined : [filter.type].flat();
  const unit = filter.unit ?? unitOfActor(actor);
  const none = sql.part``;
  const isByTime = sort.endsWith('time');
  const period = periodOf(sql, filter);
  const parts = {
    unit: unit === undefined ? none : sql.part`and unit = ${unit}`,
    locker: locker === undefined ? none : sql.part`and locker = ${locker}`,
    actor: actor === undefined ? none : sql.part`and actor = ${actor}`,
    type: types === undefined ? none : sql.part`and type = any(${types}::text[])`,
  };
  const known = { unit, locker, actor, type: types };
  const rest = (...names: readonly (keyof typeof known)[]) => ({
    rest: names.reduce((sum, name) => sql.part`${sum} ${parts[name]}`, sql.part`true ${isByTime ? none : period}`),
    hasRest: names.some((name) => known[name] !== undefined) || (!isByTime && hasPeriod(filter)),
  });
  const leading = (condition: Fragment) =>
    sql.part`${condition} ${recordedSince(sql, filter)} ${isByTime ? period : none}`;
  if (correlation !== undefined) {
    return {
      conditions: [leading(sql.part`correlation = ${correlation}`)],
      ...rest('unit', 'locker', 'actor', 'type'),
    };
  }
  if (unit !== undefined)
    return { conditions: [leading(sql.part`unit = ${unit}`)], ...rest('locker', 'actor', 'type') };
  if (actor !== undefined) {
    const condition = sql.part`actor = ${actor} and actor not like 'unit:%'`;
    return { conditions: [leading(condition)], ...rest('locker', 'type') };
  }
  if (types !== undefined) {
    return { conditions: [...new Set(types)].map((one) => leading(sql.part`type = ${one}`)), ...rest('locker') };
  }
  return { conditions: [leading(sql.part`true`)], ...rest('locker') };
}

/** The unit of an actor `unit:NAME`: the index of units finds the events that the unit itself caused. */
function unitOfActor(actor: string | undefined): string | undefined {
  return actor?.startsWith('unit:') ? actor.slice('unit:'.length) : undefined;
}

function hasPeriod({ from, until }: EventFilter): boolean {
  return from !== undefined || until !== undefined;
}

function periodOf(sql: Sql, { from, until }: EventFilter): Fragment {
  return sql.part`
    ${from === undefined ? sql.part`` : sql.part`and time >= ${from}::timestamptz`}
    ${until === undefined ? sql.part`` : sql.part`and time < ${until}::timestamptz`}`;
}

/** Skips months before a period: no event was recorded more than `MAX_AHEAD_MS` before its time. */
function recordedSince(sql: Sql, { from }: EventFilter): Fragment {
  if (from === undefined) return sql.part``;
  const recordedMs = Math.max(EARLIEST_STORABLE_MS, toMs(from) - MAX_AHEAD_MS);
  return sql.part`and recorded_at >= ${toInstant(recordedMs)}::timestamptz`;
}

function orderBy(sql: Sql, sort: EventSort): Fragment {
  switch (sort) {
    case 'position':
      return sql.part`sequence, index`;
    case '-position':
      return sql.part`sequence desc, index desc`;
    case 'time':
      return sql.part`time, sequence, index`;
    case '-time':
      return sql.part`time desc, sequence desc, index desc`;
  }
}

function isAfter(sql: Sql, { timeMs, sequence, index }: EventKey, sort: EventSort): Fragment {
  const place = sql.part`${sequence}::bigint, ${index}::smallint`;
  const timed = sql.part`${toInstant(timeMs)}::timestamptz, ${place}`;
  switch (sort) {
    case 'position':
      return sql.part`(sequence, index) > (${place})`;
    case '-position':
      return sql.part`(sequence, index) < (${place})`;
    case 'time':
      return sql.part`(time, sequence, index) > (${timed})`;
    case '-time':
      return sql.part`(time, sequence, index) < (${timed})`;
  }
}

/** Negative when the first comes before the second in this order. */
function compare(a: EventKey, b: EventKey, sort: EventSort): number {
  const byPosition = a.sequence - b.sequence || a.index - b.index;
  const ascending = sort.endsWith('time') ? a.timeMs - b.timeMs || byPosition : byPosition;
  return sort.startsWith('-') ? -ascending : ascending;
}

function unionAll(sql: Sql, parts: readonly Fragment[]): Fragment {
  return parts
    .slice(1)
    .reduce((sum, part) => sql.part`${sum} union all (${part})`, sql.part`(${parts[0] ?? sql.part``})`);
}

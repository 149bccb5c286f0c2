/**
 * Pages of the event log, each at a bounded cost however deep it lies and however little a filter matches.
 *
 * How it works. One part of the filter leads: an index has what it matches in the order of the page, so that a page begins
 * where the one before ended and reads on from there. The rest of the filter is checked row by row. Where the rest lets
 * little through, a page ends after `MAX_EXAMINED_EVENTS`, short or empty, and the next one goes on there.
 *
 * What holds. Pages join without loss or repeat. No page sorts more than it reads, or reads what it skips. In each month of
 * recording the index is entered once; months before a period are left out.
 */

import { toInstant, toMs } from '../../domain/vocabulary.ts';
import type { Fragment, Sql } from '../../platform/postgres/connection.ts';
import { EARLIEST_STORABLE_MS, MAX_AHEAD_MS } from './projection.ts';

/** Events that one page may look at. */
export const MAX_EXAMINED_EVENTS = 20_000;
/** Events that are looked at to count them. */
export const MAX_COUNTED_EVENTS = 1_000_000;

/** What to list. Times are RFC 3339 and mean when it occurred, by the platform's clock. */
export interface EventFilter {
  readonly unit?: string;
  readonly locker?: string;
  /** This one, or one of these. */
  readonly type?: string | readonly string[];
  readonly actor?: string;
  readonly correlation?: string;
  /** Inclusive. */
  readonly from?: string;
  /** Exclusive. */
  readonly until?: string;
}

/** By position or by when it occurred; `-` for the newest first. */
export type EventSort = 'position' | '-position' | 'time' | '-time';

/** Where an event stands in either order. */
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
  /** The page begins behind this event. */
  readonly after?: EventKey | undefined;
  /** Nothing that was recorded after this sequence. */
  readonly upTo?: number | undefined;
  readonly limit: number;
  /** @default MAX_EXAMINED_EVENTS */
  readonly maxExamined?: number;
}

export interface EventRows {
  readonly rows: readonly EventRow[];
  /** Where the next page begins; undefined when there is nothing more. */
  readonly next: EventKey | undefined;
}

/** Up to `limit` events; fewer, or none, do not mean that nothing follows. */
export async function readPage(sql: Sql, schema: string, query: PageQuery): Promise<EventRows> {
  const { sort, limit } = query;
  const scan = planScan(sql, schema, query);
  const found = await sql<EventRow[]>`${scan.page}`;
  // Of one part, what is found is all that there is up to there. Of several, one may have ended before another.
  const mayLack = scan.isBounded && (scan.parts > 1 || found.length <= limit);
  const end = mayLack ? await whereItStopped(sql, scan, sort) : undefined;
  const whole = end === undefined ? found : found.filter((row) => compare(keyOf(row), end, sort) <= 0);
  const rows = whole.slice(0, limit);
  const last = rows.at(-1);
  return { rows, next: whole.length > limit && last !== undefined ? keyOf(last) : end };
}

export function keyOf({ sequence, index, time }: Pick<EventRow, 'sequence' | 'index' | 'time'>): EventKey {
  return { timeMs: time.getTime(), sequence, index };
}

export interface Counted {
  readonly total: number;
  /** `MAX_COUNTED_EVENTS` were looked at, and there may be more: there are at least so many. */
  readonly isLowerBound: boolean;
}

/** How many events a filter matches. */
export async function countEvents(sql: Sql, schema: string, filter: EventFilter): Promise<Counted> {
  const { conditions, rest } = split(sql, filter, '-time');
  const table = sql(`${schema}.event`);
  const branches = conditions.map((condition) => sql.part`select * from ${table} where ${condition}`);
  const [row] = await sql<{ total: number; examined: number }[]>`
    select count(*) filter (where ${rest}) as total, count(*) as examined
    from (${joined(sql, branches)} limit ${MAX_COUNTED_EVENTS}) as led`;
  const { total = 0, examined = 0 } = row ?? {};
  return { total, isLowerBound: examined >= MAX_COUNTED_EVENTS };
}

interface Scan {
  /** One event more than the page has. */
  readonly page: Fragment;
  /** How many conditions lead, each to a part of what is found. */
  readonly parts: number;
  /** Whether a part may end before all that it leads to was looked at. */
  readonly isBounded: boolean;
  /** Where each part ended by its bound. */
  readonly ends: Fragment;
}

/** The statements of a page. */
export function planScan(sql: Sql, schema: string, query: PageQuery): Scan {
  const { filter, sort, after, upTo, limit, maxExamined = MAX_EXAMINED_EVENTS } = query;
  const { conditions, rest, hasRest } = split(sql, filter, sort);
  const order = orderBy(sql, sort);
  const budget = hasRest ? Math.max(limit + 1, Math.floor(maxExamined / conditions.length)) : limit + 1;
  const bounds = sql.part`
    ${after === undefined ? sql.part`` : sql.part`and ${isBehind(sql, after, sort)}`}
    ${upTo === undefined ? sql.part`` : sql.part`and sequence <= ${upTo}::bigint`}`;
  const from = (condition: Fragment) => sql.part`from ${sql(`${schema}.event`)} where ${condition} ${bounds}`;
  const parts = conditions.map((condition) => sql.part`select * ${from(condition)} order by ${order} limit ${budget}`);
  const ends = conditions.map(
    (condition) => sql.part`
      select sequence, index, time ${from(condition)} order by ${order} offset ${budget - 1} limit 1`,
  );
  return {
    page: sql.part`
      select sequence, index, time, recorded_at, event from (${joined(sql, parts)}) as led
      where ${rest} order by ${order} limit ${limit + 1}`,
    parts: conditions.length,
    isBounded: hasRest,
    ends: joined(sql, ends),
  };
}

/** The first place, in the order of the page, at which a part ended by its bound: what lies behind it may not be all. */
async function whereItStopped(sql: Sql, { ends }: Scan, sort: EventSort): Promise<EventKey | undefined> {
  const rows = await sql<Pick<EventRow, 'sequence' | 'index' | 'time'>[]>`${ends}`;
  return rows.map(keyOf).toSorted((a, b) => compare(a, b, sort))[0];
}

interface Split {
  /** What leads: one condition, or one for each type. */
  readonly conditions: readonly Fragment[];
  readonly rest: Fragment;
  readonly hasRest: boolean;
}

/** Parts the filter into what an index finds in this order, and the rest. Narrow filters lead before wide ones. */
function split(sql: Sql, filter: EventFilter, sort: EventSort): Split {
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
  const led = (condition: Fragment) => sql.part`${condition} ${recordedSince(sql, filter)} ${isByTime ? period : none}`;
  if (correlation !== undefined) {
    return { conditions: [led(sql.part`correlation = ${correlation}`)], ...rest('unit', 'locker', 'actor', 'type') };
  }
  if (unit !== undefined) return { conditions: [led(sql.part`unit = ${unit}`)], ...rest('locker', 'actor', 'type') };
  if (actor !== undefined) {
    const condition = sql.part`actor = ${actor} and actor not like 'unit:%'`;
    return { conditions: [led(condition)], ...rest('locker', 'type') };
  }
  if (types !== undefined) {
    return { conditions: [...new Set(types)].map((one) => led(sql.part`type = ${one}`)), ...rest('locker') };
  }
  return { conditions: [led(sql.part`true`)], ...rest('locker') };
}

/** What a unit does stands among its own events. */
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

/** Leaves months out: nothing was recorded longer than `MAX_AHEAD_MS` before the time that it is filed under. */
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

function isBehind(sql: Sql, { timeMs, sequence, index }: EventKey, sort: EventSort): Fragment {
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

function joined(sql: Sql, parts: readonly Fragment[]): Fragment {
  return parts
    .slice(1)
    .reduce((sum, part) => sql.part`${sum} union all (${part})`, sql.part`(${parts[0] ?? sql.part``})`);
}

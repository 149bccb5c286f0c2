import { occurredAt } from '../../../domain/device/unit-clock.ts';
import type { CloudEvent } from '../../../domain/events/cloud-event.ts';
import { Refusal } from '../../../domain/refusal.ts';
import { laneOf } from '../../../domain/shard.ts';
import { toInstant, toMs } from '../../../domain/vocabulary.ts';
import { CursorError, decodeCursor, encodeCursor, type Page } from '../../../platform/postgres/cursor.ts';
import type { ReadModels } from '../../engine/queries/serving-runs.ts';
import { EARLIEST_STORABLE_MS } from '../../engine/storable-time.ts';
import {
  countEvents,
  type EventFilter,
  type EventKey,
  type EventRow,
  type EventSort,
  keyOf,
  readPage,
} from '../pages.ts';

/**
 * Settings of the Postgres sessions that read pages. Postgres has no statistics of a month that was just filled, and then sorts
 * instead of following an index. Every page has an index in its order, so these sessions must not sort.
 */
export const PAGE_SETTINGS = { enable_sort: 'off', enable_bitmapscan: 'off', enable_seqscan: 'off' } as const;

/** A CloudEvent as stored, with its position in the event store and the time of its recording. */
export type RecordedEvent = CloudEvent & {
  readonly position: string;
  readonly recordedAt: string;
  /** RFC 3339: when the event occurred; present when the clock that gave `time` was known to be wrong. */
  readonly correctedTime?: string;
};

export interface EventQuery extends EventFilter {
  /** @default '-time' when the filter has a period; else '-position' */
  readonly sort?: EventSort;
  readonly cursor?: string;
}

/** A page with fewer items than `limit` may have a next page: see `pages.ts`. */
export interface EventPage extends Page<RecordedEvent> {
  /** Present when `total` is a lower bound: counting all events would take too long. */
  readonly totalIsLowerBound?: true;
}

/** Reads a page of the log. @throws CursorError; Refusal when `from` or `until` is no time */
export async function listEvents(
  { sql, servingRuns }: ReadModels,
  query: EventQuery & { readonly limit: number; readonly count?: boolean },
): Promise<EventPage> {
  const { limit, count = false } = query;
  const { filter, sort, place } = parseQuery(query);
  const { schema } = await servingRuns.find('event_log');
  const { rows, next } = await readPage(sql, schema, { filter, sort, ...place, limit });
  const counted = count ? await countEvents(sql, schema, filter) : undefined;
  return {
    items: rows.map(toEvent),
    nextCursor: next === undefined ? null : cursorOf(sort, next, place?.upTo),
    ...(counted === undefined ? {} : { total: counted.total }),
    ...(counted?.isLowerBound ? { totalIsLowerBound: true } : {}),
  };
}

/** An event of an export, and the cursor with which another export continues after it. */
export interface ExportedEvent {
  readonly event: RecordedEvent;
  readonly cursor: string;
}

export interface EventExport {
  /** The export holds every matching event up to this sequence, and none after it. */
  readonly upTo: number;
  /** The pages of the export; a page may be empty where the filter matches few events. */
  readonly pages: AsyncGenerator<readonly ExportedEvent[]>;
}

/** Events that an export reads in one query. */
const EXPORT_PAGE_EVENTS = 1_000;

/**
 * Exports all pages of the log up to the position that every lane has passed now. With a cursor, the export ends where the
 * export that gave the cursor would have ended. Each page is a query of its own, so an export of hours holds neither a
 * transaction nor a connection.
 *
 * @throws CursorError; Refusal when `from` or `until` is no time
 */
export async function exportEvents(readModels: ReadModels, query: EventQuery): Promise<EventExport> {
  const { filter, sort, place } = parseQuery(query);
  const upTo = place?.upTo ?? (await appliedTo(readModels, filter.unit));
  return { upTo, pages: exportPages(readModels, filter, sort, { after: place?.after, upTo }) };
}

async function* exportPages(
  { sql, servingRuns }: ReadModels,
  filter: EventFilter,
  sort: EventSort,
  { after, upTo }: { readonly after: EventKey | undefined; readonly upTo: number },
): AsyncGenerator<readonly ExportedEvent[]> {
  let next = after;
  do {
    // A rebuild may have promoted another run since the page before; its rows are equal.
    const { schema } = await servingRuns.find('event_log');
    const page = await readPage(sql, schema, { filter, sort, after: next, upTo, limit: EXPORT_PAGE_EVENTS });
    yield page.rows.map((row) => ({ event: toEvent(row), cursor: cursorOf(sort, keyOf(row), upTo) }));
    next = page.next;
  } while (next !== undefined);
}

/** The position up to which every event is applied: in the lane of a unit, or in every lane. */
async function appliedTo({ sql, servingRuns }: ReadModels, unit: string | undefined): Promise<number> {
  const { runId } = await servingRuns.find('event_log');
  const [row] = await sql<{ position: number | null }[]>`
    select min(position) as position from platform.projection_checkpoints
    where run_id = ${runId} ${unit === undefined ? sql.part`` : sql.part`and lane = ${laneOf(unit)}`}`;
  return row?.position ?? 0;
}

interface ParsedQuery {
  readonly filter: EventFilter;
  readonly sort: EventSort;
  readonly place: { readonly after: EventKey; readonly upTo: number | undefined } | undefined;
}

function parseQuery({ sort: requestedSort, cursor, from, until, ...filter }: EventQuery): ParsedQuery {
  const sort = requestedSort ?? (from === undefined && until === undefined ? '-position' : '-time');
  return {
    filter: {
      ...filter,
      ...(from === undefined ? {} : { from: storableInstant('/from', from) }),
      ...(until === undefined ? {} : { until: storableInstant('/until', until) }),
    },
    sort,
    place: cursor === undefined ? undefined : placeOf(cursor, sort),
  };
}

/** Converts a time to one that Postgres accepts. @throws Refusal when it has the form of a time but does not exist */
function storableInstant(path: string, instant: string): string {
  const ms = toMs(instant);
  if (Number.isNaN(ms))
    throw new Refusal('validation', 'The period is not valid.', [{ path, message: 'is not a time' }]);
  return toInstant(Math.max(ms, EARLIEST_STORABLE_MS));
}

/** Stands for `upTo` in the cursor of a list, which has no end. */
const NO_END = -1;

function cursorOf(sort: EventSort, { timeMs, sequence, index }: EventKey, upTo: number | undefined): string {
  return encodeCursor([sort, timeMs, sequence, index, upTo ?? NO_END]);
}

/** @throws CursorError also when the cursor belongs to a list in another order */
function placeOf(cursor: string, sort: EventSort): ParsedQuery['place'] {
  const kinds = ['text', 'integer', 'integer', 'integer', 'integer'] as const;
  const [cursorSort, timeMs, sequence, index, upTo] = decodeCursor(cursor, kinds);
  if (cursorSort !== sort || timeMs < EARLIEST_STORABLE_MS || timeMs > LATEST_MS || Math.abs(index) > MAX_INDEX) {
    throw new CursorError('The cursor is not one of this list.');
  }
  return { after: { timeMs, sequence, index }, upTo: upTo === NO_END ? undefined : upTo };
}

/** Bounds of the values in a cursor that Postgres accepts: a client may send any cursor. */
const LATEST_MS = Date.parse('9999-12-31T23:59:59.999Z');
const MAX_INDEX = 32_767;

function toEvent({ sequence, index, recorded_at, event }: EventRow): RecordedEvent {
  const stored = JSON.parse(event) as CloudEvent;
  return {
    position: `${sequence}.${index}`,
    recordedAt: recorded_at.toISOString(),
    ...stored,
    ...(stored.clockoffsetms === undefined ? {} : { correctedTime: occurredAt(stored) }),
  };
}

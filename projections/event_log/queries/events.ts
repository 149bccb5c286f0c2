import { occurredAt } from '../../../domain/device/unit-clock.ts';
import type { CloudEvent } from '../../../domain/events/envelope.ts';
import { Refusal } from '../../../domain/refusal.ts';
import { laneOf } from '../../../domain/shard.ts';
import { toInstant, toMs } from '../../../domain/vocabulary.ts';
import { CursorError, decodeCursor, encodeCursor, type Page } from '../../../platform/postgres/cursor.ts';
import type { ReadModels } from '../../engine/queries/serving-runs.ts';
import {
  countEvents,
  type EventFilter,
  type EventKey,
  type EventRow,
  type EventSort,
  keyOf,
  readPage,
} from '../pages.ts';
import { EARLIEST_STORABLE_MS } from '../projection.ts';

/**
 * Settings of the sessions that read pages. A month that was just filled has no statistics, and Postgres would rather sort
 * what it takes for a few rows than follow an index; here the index is always there, and always right.
 */
export const PAGE_SETTINGS = { enable_sort: 'off', enable_bitmapscan: 'off', enable_seqscan: 'off' } as const;

/** A CloudEvent as stored, with where and when it was recorded. */
export type RecordedEvent = CloudEvent & {
  readonly position: string;
  readonly recordedAt: string;
  /** RFC 3339: when it occurred, where the clock that told `time` is known to have been wrong. */
  readonly correctedTime?: string;
};

export interface EventQuery extends EventFilter {
  /** @default '-time' when there is a period, which asks when something happened; else '-position' */
  readonly sort?: EventSort;
  readonly cursor?: string;
}

/** A page of the log. It may have fewer items than `limit` and still not be the last: see `pages.ts`. */
export interface EventPage extends Page<RecordedEvent> {
  /** There are at least `total`; to count them all would take too long. */
  readonly totalIsLowerBound?: true;
}

/** A page of the log. @throws CursorError, Refusal when `from` or `until` is no time */
export async function listEvents(
  { sql, servingRuns }: ReadModels,
  query: EventQuery & { readonly limit: number; readonly count?: boolean },
): Promise<EventPage> {
  const { limit, count = false } = query;
  const { filter, sort, place } = understood(query);
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

/** An event of an export, and the cursor with which an export goes on behind it. */
export interface ExportedEvent {
  readonly event: RecordedEvent;
  readonly cursor: string;
}

export interface EventExport {
  /** It has everything up to this sequence, and nothing that was recorded later. */
  readonly upTo: number;
  /** What there is, some at a time; at times none, where a filter matches little. */
  readonly pages: AsyncGenerator<readonly ExportedEvent[]>;
}

/** Events that an export reads at a time. */
const EXPORT_PAGE_EVENTS = 1_000;

/**
 * All pages of the log up to what is applied in every lane now; with a cursor, up to what was when the export began that
 * gave it. Each page is a query of its own, so that an export of hours holds no transaction and no connection.
 *
 * @throws CursorError, Refusal when `from` or `until` is no time
 */
export async function exportEvents(readModels: ReadModels, query: EventQuery): Promise<EventExport> {
  const { filter, sort, place } = understood(query);
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
    // A rebuild may have put another schema in the place of the one that the page before came from: the rows are the same.
    const { schema } = await servingRuns.find('event_log');
    const page = await readPage(sql, schema, { filter, sort, after: next, upTo, limit: EXPORT_PAGE_EVENTS });
    yield page.rows.map((row) => ({ event: toEvent(row), cursor: cursorOf(sort, keyOf(row), upTo) }));
    next = page.next;
  } while (next !== undefined);
}

/** Everything up to here is applied: in the lane of a unit, or in every lane. */
async function appliedTo({ sql, servingRuns }: ReadModels, unit: string | undefined): Promise<number> {
  const { runId } = await servingRuns.find('event_log');
  const [row] = await sql<{ position: number | null }[]>`
    select min(position) as position from platform.projection_checkpoints
    where run_id = ${runId} ${unit === undefined ? sql.part`` : sql.part`and lane = ${laneOf(unit)}`}`;
  return row?.position ?? 0;
}

interface Understood {
  readonly filter: EventFilter;
  readonly sort: EventSort;
  readonly place: { readonly after: EventKey; readonly upTo: number | undefined } | undefined;
}

function understood({ sort: wanted, cursor, from, until, ...filter }: EventQuery): Understood {
  const sort = wanted ?? (from === undefined && until === undefined ? '-position' : '-time');
  return {
    filter: {
      ...filter,
      ...(from === undefined ? {} : { from: momentOf('/from', from) }),
      ...(until === undefined ? {} : { until: momentOf('/until', until) }),
    },
    sort,
    place: cursor === undefined ? undefined : placeOf(cursor, sort),
  };
}

/** A time that Postgres can compare with. @throws Refusal when it looks like a time and is none */
function momentOf(path: string, instant: string): string {
  const ms = toMs(instant);
  if (Number.isNaN(ms))
    throw new Refusal('validation', 'The period is not valid.', [{ path, message: 'is not a time' }]);
  return toInstant(Math.max(ms, EARLIEST_STORABLE_MS));
}

/** In the place of `upTo` in a cursor of pages, which have no end. */
const NO_END = -1;

function cursorOf(sort: EventSort, { timeMs, sequence, index }: EventKey, upTo: number | undefined): string {
  return encodeCursor([sort, timeMs, sequence, index, upTo ?? NO_END]);
}

/** @throws CursorError when it is of another order, too */
function placeOf(cursor: string, sort: EventSort): Understood['place'] {
  const kinds = ['text', 'integer', 'integer', 'integer', 'integer'] as const;
  const [itsSort, timeMs, sequence, index, upTo] = decodeCursor(cursor, kinds);
  if (itsSort !== sort || timeMs < EARLIEST_STORABLE_MS || timeMs > LATEST_MS || Math.abs(index) > MAX_INDEX) {
    throw new CursorError('The cursor is not one of this list.');
  }
  return { after: { timeMs, sequence, index }, upTo: upTo === NO_END ? undefined : upTo };
}

/** What Postgres can take for what stands in a cursor, which may come from anybody. */
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

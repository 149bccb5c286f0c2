/**
 * Stores the events and batches of units that the platform rejected, with their content: the table `platform.dead_letters`. Ingest
 * stores an event here before it appends `UnitEventRejected`, so that a crash in between loses nothing. Letters are never deleted.
 *
 *   open ──recover──▶ recovered
 *    └──dismiss──▶ dismissed ──recover──▶ recovered
 */

import { createHash } from 'node:crypto';
import type { Sql } from '../postgres/connection.ts';
import { CursorError, decodeCursor, type Page, toPage } from '../postgres/cursor.ts';
import type { RejectedEvent } from './batch.ts';

/** Open dead letters of one unit. Above it, the unit's batches wait until an operator recovers or dismisses letters. */
export const MAX_OPEN_DEAD_LETTERS_PER_UNIT = 10_000;
/** Letters that one call dismisses. Concurrent batches may exceed the limit of open letters by a few, which need another call. */
const MAX_DISMISSED_PER_CALL = MAX_OPEN_DEAD_LETTERS_PER_UNIT;
/** Hex digits of the content hash that distinguishes events with the same seq. */
const CONTENT_HASH_LETTERS = 16;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A unit has too many open dead letters. Retryable after an operator has recovered or dismissed some of them. */
export class DeadLetterLimitError extends Error {
  override readonly name = 'DeadLetterLimitError';
}

export interface RejectedEvents {
  readonly unit: string;
  readonly epoch: string;
  readonly receivedAtMs: number;
  readonly rejections: readonly RejectedEvent[];
  /** Milliseconds by which the unit's clock is ahead, if it is known to be wrong. */
  readonly clockOffsetMs?: number | undefined;
}

export interface UnreadableBatch {
  readonly unit: string;
  /** Id of the message that contained the batch. It is the same at each delivery. */
  readonly messageId: string;
  readonly receivedAtMs: number;
  readonly reason: string;
  readonly content: Uint8Array;
}

/** A letter without its content. Times are RFC 3339. */
export interface DeadLetter {
  readonly id: string;
  readonly kind: 'event' | 'batch';
  readonly unit: string;
  /** Position of an event in the unit's log. Null for a batch. */
  readonly epoch: string | null;
  readonly seq: number | null;
  readonly reason: string;
  readonly bytes: number;
  readonly status: 'open' | 'recovered' | 'dismissed';
  readonly receivedAt: string;
  readonly recoveredAt: string | null;
  /** When, by whom and why the letter was dismissed. Recovery keeps these values. */
  readonly dismissedAt: string | null;
  readonly dismissedBy: string | null;
  readonly dismissReason: string | null;
}

/** A letter with its content: the JSON of an event, or the bytes of a batch. */
export interface DeadLetterWithContent {
  readonly letter: DeadLetter;
  /** Whether another event of the same batch counts for the seq. */
  readonly hasDuplicateSeq: boolean;
  /** For an event: milliseconds by which the unit's clock was ahead on arrival, if it was known to be wrong. */
  readonly clockOffsetMs: number | undefined;
  readonly content: Uint8Array;
}

/** Who dismisses letters, when, and why. */
export interface Dismissal {
  readonly by: string;
  readonly atMs: number;
  readonly reason?: string | undefined;
}

export interface DeadLetterFilter {
  readonly unit?: string;
  readonly kind?: DeadLetter['kind'];
  readonly status?: DeadLetter['status'];
}

interface Row {
  readonly id: string;
  readonly kind: DeadLetter['kind'];
  readonly unit: string;
  readonly place: string;
  readonly epoch: string | null;
  readonly seq: number | null;
  readonly reason: string;
  readonly bytes: number;
  readonly received_at: Date;
  readonly received_us: number;
  readonly recovered_at: Date | null;
  readonly dismissed_at: Date | null;
  readonly dismissed_by: string | null;
  readonly dismiss_reason: string | null;
}

export interface DeadLetterOptions {
  /** @default MAX_OPEN_DEAD_LETTERS_PER_UNIT */
  readonly maxOpenPerUnit?: number;
  /** @default MAX_DISMISSED_PER_CALL */
  readonly maxDismissedPerCall?: number;
}

export class DeadLetterStore {
  readonly #sql: Sql;
  readonly #maxOpenPerUnit: number;
  readonly #maxDismissedPerCall: number;

  constructor(sql: Sql, options: DeadLetterOptions = {}) {
    this.#sql = sql;
    this.#maxOpenPerUnit = options.maxOpenPerUnit ?? MAX_OPEN_DEAD_LETTERS_PER_UNIT;
    this.#maxDismissedPerCall = options.maxDismissedPerCall ?? MAX_DISMISSED_PER_CALL;
  }

  /** Stores events. An event that is stored already does not change. @throws DeadLetterLimitError, PostgresUnavailableError */
  async insertRejectedEvents({ unit, epoch, receivedAtMs, rejections, clockOffsetMs }: RejectedEvents): Promise<void> {
    const places = rejections.map((rejection) => placeOf(epoch, rejection));
    await this.#requireFreeCapacity(unit, places);
    await this.#sql`
      insert into platform.dead_letters (kind, unit, place, epoch, seq, reason, content, received_at, clock_offset_ms)
      select 'event', ${unit}, place, ${epoch}, seq, reason, convert_to(content, 'UTF8'),
        ${new Date(receivedAtMs).toISOString()}::timestamptz, ${clockOffsetMs ?? null}::bigint
      from unnest(
        ${places}::text[],
        ${rejections.map(({ seq }) => seq)}::bigint[],
        ${rejections.map(({ reason }) => reason)}::text[],
        ${rejections.map(({ content }) => content)}::text[]
      ) as rejected (place, seq, reason, content)
      on conflict (unit, place) do nothing`;
  }

  /** Stores an unreadable batch. @returns whether it was not stored before @throws DeadLetterLimitError, PostgresUnavailableError */
  async insertUnreadableBatch({ unit, messageId, receivedAtMs, reason, content }: UnreadableBatch): Promise<boolean> {
    await this.#requireFreeCapacity(unit, [messageId]);
    const { count } = await this.#sql`
      insert into platform.dead_letters (kind, unit, place, reason, content, received_at)
      values ('batch', ${unit}, ${messageId}, ${reason}, decode(${Buffer.from(content).toString('base64')}, 'base64'),
        ${new Date(receivedAtMs).toISOString()}::timestamptz)
      on conflict (unit, place) do nothing`;
    return count > 0;
  }

  /** A page of letters without their content, the newest first. @throws CursorError */
  async list(
    query: DeadLetterFilter & { readonly limit: number; readonly cursor?: string; readonly count?: boolean },
  ): Promise<Page<DeadLetter>> {
    const { limit, cursor, count = false } = query;
    const where = this.#condition(query);
    const before = cursor === undefined ? this.#sql.part`` : this.#beforeCursor(cursor);
    const rows = await this.#sql<Row[]>`
      select ${this.#columns()} from platform.dead_letters
      where ${where} ${before}
      order by received_at desc, id desc
      limit ${limit + 1}`;
    const total = count ? await this.#countOf(query) : undefined;
    return toPage(rows, limit, toLetter, ({ received_us, id }) => [received_us, id], total);
  }

  async get(id: string): Promise<DeadLetterWithContent | undefined> {
    const [row] = await this.#sql<(Row & { content: Uint8Array; clock_offset_ms: number | null })[]>`
      select ${this.#columns()}, content, clock_offset_ms from platform.dead_letters where id = ${id}::uuid`;
    if (row === undefined) return undefined;
    const hasDuplicateSeq = row.kind === 'event' && row.place !== `${row.epoch}:${row.seq}`;
    return {
      letter: toLetter(row),
      hasDuplicateSeq,
      clockOffsetMs: row.clock_offset_ms ?? undefined,
      content: row.content,
    };
  }

  /** Marks a letter as recovered. A repeat keeps the first time. @returns the updated letter */
  async markRecovered(id: string, atMs: number): Promise<DeadLetter | undefined> {
    const [row] = await this.#sql<Row[]>`
      update platform.dead_letters
      set recovered_at = coalesce(recovered_at, ${new Date(atMs).toISOString()}::timestamptz)
      where id = ${id}::uuid returning ${this.#columns()}`;
    return row === undefined ? undefined : toLetter(row);
  }

  /**
   * Dismisses a letter. A repeat keeps the first dismissal. @returns the updated letter, or `undefined` when the letter does not
   * exist or is recovered
   */
  async dismiss(id: string, { by, atMs, reason }: Dismissal): Promise<DeadLetter | undefined> {
    const [row] = await this.#sql<Row[]>`
      update platform.dead_letters set
        dismissed_at = coalesce(dismissed_at, ${new Date(atMs).toISOString()}::timestamptz),
        dismissed_by = coalesce(dismissed_by, ${by}),
        dismiss_reason = case when dismissed_at is null then ${reason ?? null} else dismiss_reason end
      where id = ${id}::uuid and recovered_at is null returning ${this.#columns()}`;
    return row === undefined ? undefined : toLetter(row);
  }

  /** Dismisses open letters of a unit, oldest first. @returns their number; `maxDismissedPerCall` means that more may be open */
  async dismissOpen(
    { unit, kind }: { readonly unit: string; readonly kind?: DeadLetter['kind'] | undefined },
    { by, atMs, reason }: Dismissal,
  ): Promise<number> {
    const open = this.#condition({ unit, status: 'open', ...(kind === undefined ? {} : { kind }) });
    // The subquery locks rows in one order, so that concurrent calls wait for each other instead of deadlocking.
    const { count } = await this.#sql`
      update platform.dead_letters
      set dismissed_at = ${new Date(atMs).toISOString()}::timestamptz, dismissed_by = ${by}, dismiss_reason = ${reason ?? null}
      where id in (
        select id from platform.dead_letters where ${open}
        order by received_at, id limit ${this.#maxDismissedPerCall} for update
      )`;
    return count;
  }

  #columns() {
    return this.#sql.part`id, kind, unit, place, epoch, seq, reason, octet_length(content) as bytes,
      received_at, recovered_at, dismissed_at, dismissed_by, dismiss_reason, (extract(epoch from received_at) * 1000000)::bigint as received_us`;
  }

  async #countOf(filter: DeadLetterFilter): Promise<number> {
    const [row] = await this.#sql<{ total: number }[]>`
      select count(*)::bigint as total from platform.dead_letters where ${this.#condition(filter)}`;
    return row?.total ?? 0;
  }

  #condition({ unit, kind, status }: DeadLetterFilter) {
    const { part } = this.#sql;
    const none = part``;
    return part`true
      ${unit === undefined ? none : part`and unit = ${unit}`}
      ${kind === undefined ? none : part`and kind = ${kind}`}
      ${status === 'open' ? part`and recovered_at is null and dismissed_at is null` : none}
      ${status === 'recovered' ? part`and recovered_at is not null` : none}
      ${status === 'dismissed' ? part`and recovered_at is null and dismissed_at is not null` : none}`;
  }

  #beforeCursor(cursor: string) {
    const [receivedUs, id] = decodeCursor(cursor, ['integer', 'text']);
    if (!UUID.test(id)) throw new CursorError('The cursor is not one of this list.');
    return this.#sql.part`and (received_at, id) <
      (timestamptz 'epoch' + ${receivedUs}::bigint * interval '1 microsecond', ${id}::uuid)`;
  }

  /** Letters that are stored already do not count, so that a retry after a crash succeeds at the limit. */
  async #requireFreeCapacity(unit: string, places: readonly string[]): Promise<void> {
    const [row] = await this.#sql<{ full: boolean }[]>`
      select count(*) >= ${this.#maxOpenPerUnit} and exists (
        select 1 from unnest(${places}::text[]) as new_letter (place)
        where not exists (select 1 from platform.dead_letters stored where stored.unit = ${unit} and stored.place = new_letter.place)
      ) as full
      from (
        select 1 from platform.dead_letters where ${this.#condition({ unit, status: 'open' })}
        limit ${this.#maxOpenPerUnit}
      ) open`;
    if (row?.full === true) {
      throw new DeadLetterLimitError(
        `Unit ${unit} has ${this.#maxOpenPerUnit} open dead letters. Recover or dismiss some of them.`,
      );
    }
  }
}

/** Returns the key of an event's letter, unique within the unit and the same at each delivery. */
function placeOf(epoch: string, { seq, content, hasDuplicateSeq }: RejectedEvent): string {
  const place = `${epoch}:${seq}`;
  return hasDuplicateSeq
    ? `${place}:${createHash('sha256').update(content).digest('hex').slice(0, CONTENT_HASH_LETTERS)}`
    : place;
}

function toLetter(row: Row): DeadLetter {
  const { id, kind, unit, epoch, seq, reason, bytes } = row;
  return {
    id,
    kind,
    unit,
    epoch,
    seq,
    reason,
    bytes,
    status: statusOf(row),
    receivedAt: row.received_at.toISOString(),
    recoveredAt: row.recovered_at?.toISOString() ?? null,
    dismissedAt: row.dismissed_at?.toISOString() ?? null,
    dismissedBy: row.dismissed_by,
    dismissReason: row.dismiss_reason,
  };
}

function statusOf({ recovered_at, dismissed_at }: Row): DeadLetter['status'] {
  if (recovered_at !== null) return 'recovered';
  return dismissed_at === null ? 'open' : 'dismissed';
}

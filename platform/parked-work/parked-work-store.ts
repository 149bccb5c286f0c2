/** Stores parked work in the table `platform.parked_work`: one row for each queue, unit and job. */

import type { ClaimedWork, ParkedKey, ParkedWork, Postponement, WorkToPark } from '../nats/parked-work.ts';
import type { Source } from '../observability/metrics.ts';
import type { Sql } from '../postgres/connection.ts';
import { CursorError, decodeCursor, type Page, toPage } from '../postgres/cursor.ts';
import { WORK_QUEUES } from './queues.ts';

/** A process that was killed during a retry holds its claim for this long. */
const CLAIM_S = 60;
/** Longest reason and error that are stored, in characters. */
const MAX_TEXT_LENGTH = 2_000;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const FAMILIES = {
  parked_work: {
    type: 'gauge',
    help: 'Pieces of work that are parked for a unit; while it stays above 0, an operator should look at GET /v1/work',
    label: 'queue',
  },
  work_parked_total: {
    type: 'counter',
    help: 'Messages whose work this process has parked',
    label: 'queue',
    labelValues: WORK_QUEUES,
  },
  work_retries_total: {
    type: 'counter',
    help: 'Retries of work that failed, parked work included, by this process',
    label: 'queue',
    labelValues: WORK_QUEUES,
  },
} as const;

/** A parked piece of work. Times are RFC 3339. */
export interface ParkedItem {
  readonly id: string;
  readonly queue: string;
  readonly unit: string;
  readonly job: string;
  readonly subject: string;
  readonly firstSequence: number;
  readonly lastSequence: number;
  readonly reason: string;
  readonly error: string | null;
  readonly attempts: number;
  readonly parkedAt: string;
  readonly nextRetryAt: string;
}

export interface ParkedFilter {
  readonly unit?: string;
  readonly queue?: string;
}

interface ListedRow {
  readonly id: string;
  readonly queue: string;
  readonly unit: string;
  readonly job: string;
  readonly subject: string;
  readonly first_sequence: number;
  readonly last_sequence: number;
  readonly reason: string;
  readonly error: string | null;
  readonly attempts: number;
  readonly parked_at: Date;
  readonly parked_us: number;
  readonly next_retry_at: Date;
}

export class ParkedWorkStore implements ParkedWork {
  readonly #sql: Sql;
  readonly #parked: Record<string, number> = {};
  readonly #retries: Record<string, number> = {};

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  async park(work: WorkToPark): Promise<boolean> {
    const { queue, unit, job, stream, subject, sequence, attempts, retryInMs } = work;
    const [row] = await this.#sql<{ is_new: boolean }[]>`
      insert into platform.parked_work as parked
        (queue, unit, job, stream, subject, first_sequence, last_sequence, reason, error, attempts, next_retry_at)
      values (${queue}, ${unit}, ${job}, ${stream}, ${subject}, ${sequence}::bigint, ${sequence}::bigint,
        ${storable(work.reason)}, ${work.error === undefined ? null : storable(work.error)}, ${attempts}::integer, ${inMs(this.#sql, retryInMs)})
      on conflict (queue, unit, job) do update set
        first_sequence = least(parked.first_sequence, excluded.first_sequence),
        last_sequence = greatest(parked.last_sequence, excluded.last_sequence),
        -- A message that only lacked a place says nothing of why the work failed.
        reason = case when excluded.attempts = 0 then parked.reason else excluded.reason end,
        error = case when excluded.attempts = 0 then parked.error else excluded.error end,
        next_retry_at = least(parked.next_retry_at, excluded.next_retry_at),
        revision = parked.revision + 1
      returning xmax = 0 as is_new`;
    this.#parked[queue] = (this.#parked[queue] ?? 0) + 1;
    return row?.is_new === true;
  }

  async claimDue(queue: string, limit: number): Promise<readonly ClaimedWork[]> {
    const rows = await this.#sql<
      (Pick<ListedRow, ClaimedColumns> & { stream: ClaimedWork['stream']; revision: number })[]
    >`
      update platform.parked_work set claimed_until = now() + ${CLAIM_S}::integer * interval '1 second'
      where id in (
        select id from platform.parked_work
        where queue = ${queue} and next_retry_at <= now() and (claimed_until is null or claimed_until <= now())
        order by next_retry_at limit ${limit}::integer for update skip locked
      )
      returning id, queue, unit, job, stream, subject, first_sequence, last_sequence, attempts, revision`;
    return rows.map(({ first_sequence: firstSequence, last_sequence: lastSequence, ...row }) => {
      return { ...row, firstSequence, lastSequence };
    });
  }

  async complete({ id, lastSequence, revision }: ClaimedWork, through: number): Promise<void> {
    const { count } = await this.#sql`
      delete from platform.parked_work
      where id = ${id}::uuid and revision = ${revision}::bigint and ${through >= lastSequence}::boolean`;
    if (count > 0) return;
    // Messages with a lower sequence may have been parked during the retry. Those that were handled are handled again.
    await this.#sql`
      update platform.parked_work set
        first_sequence = case when revision = ${revision}::bigint then greatest(first_sequence, ${through + 1}::bigint) else first_sequence end,
        next_retry_at = now(), claimed_until = null
      where id = ${id}::uuid`;
  }

  async postpone({ id, revision }: ClaimedWork, { from, retryInMs, failure }: Postponement): Promise<void> {
    await this.#sql`
      update platform.parked_work set
        first_sequence = case when revision = ${revision}::bigint then greatest(first_sequence, ${from}::bigint) else first_sequence end,
        reason = coalesce(${failure === undefined ? null : storable(failure.reason)}, reason),
        error = case when ${failure === undefined}::boolean then error else ${failure?.error === undefined ? null : storable(failure.error)} end,
        attempts = attempts + ${failure === undefined ? 0 : 1}::integer,
        next_retry_at = ${inMs(this.#sql, retryInMs)},
        claimed_until = null
      where id = ${id}::uuid`;
  }

  async retrySoon({ queue, unit, job }: ParkedKey): Promise<void> {
    await this.#sql`
      update platform.parked_work set next_retry_at = least(next_retry_at, now())
      where queue = ${queue} and unit = ${unit} and job = ${job}`;
  }

  /** Makes a row due at once. @returns the row, or `undefined` when nothing is parked under the id */
  async retry(id: string): Promise<ParkedItem | undefined> {
    const [row] = await this.#sql<ListedRow[]>`
      update platform.parked_work set next_retry_at = least(next_retry_at, now()), revision = revision + 1
      where id = ${id}::uuid returning ${this.#columns()}`;
    return row === undefined ? undefined : toItem(row);
  }

  /** A page of parked work, the newest first. @throws CursorError */
  async list(
    query: ParkedFilter & { readonly limit: number; readonly cursor?: string; readonly count?: boolean },
  ): Promise<Page<ParkedItem>> {
    const { limit, cursor, count = false } = query;
    const before = cursor === undefined ? this.#sql.part`` : this.#beforeCursor(cursor);
    const rows = await this.#sql<ListedRow[]>`
      select ${this.#columns()} from platform.parked_work
      where ${this.#condition(query)} ${before}
      order by parked_at desc, id desc
      limit ${limit + 1}`;
    const total = count ? await this.#countOf(query) : undefined;
    return toPage(rows, limit, toItem, ({ parked_us, id }) => [parked_us, id], total);
  }

  countRetry(queue: string): void {
    this.#retries[queue] = (this.#retries[queue] ?? 0) + 1;
  }

  /** The gauge is equal in every process that shares the database; the counters are those of this process. */
  metrics(): Source<keyof typeof FAMILIES> {
    return {
      name: 'work',
      families: FAMILIES,
      read: async () => {
        const rows = await this.#sql<{ queue: string; parked: number }[]>`
          select queue, count(*)::bigint as parked from platform.parked_work group by queue`;
        const parked = rows.map((row): [string, number] => [row.queue, row.parked]);
        return {
          parked_work: Object.fromEntries([...WORK_QUEUES.map((queue): [string, number] => [queue, 0]), ...parked]),
          work_parked_total: this.#parked,
          work_retries_total: this.#retries,
        };
      },
    };
  }

  #columns() {
    return this.#sql
      .part`id, queue, unit, job, subject, first_sequence, last_sequence, reason, error, attempts, parked_at,
      (extract(epoch from parked_at) * 1000000)::bigint as parked_us, next_retry_at`;
  }

  async #countOf(filter: ParkedFilter): Promise<number> {
    const [row] = await this.#sql<{ total: number }[]>`
      select count(*)::bigint as total from platform.parked_work where ${this.#condition(filter)}`;
    return row?.total ?? 0;
  }

  #condition({ unit, queue }: ParkedFilter) {
    const { part } = this.#sql;
    return part`true
      ${unit === undefined ? part`` : part`and unit = ${unit}`}
      ${queue === undefined ? part`` : part`and queue = ${queue}`}`;
  }

  #beforeCursor(cursor: string) {
    const [parkedUs, id] = decodeCursor(cursor, ['integer', 'text']);
    if (!UUID.test(id)) throw new CursorError('The cursor is not one of this list.');
    return this.#sql.part`and (parked_at, id) <
      (timestamptz 'epoch' + ${parkedUs}::bigint * interval '1 microsecond', ${id}::uuid)`;
  }
}

type ClaimedColumns = 'id' | 'queue' | 'unit' | 'job' | 'subject' | 'first_sequence' | 'last_sequence' | 'attempts';

function inMs(sql: Sql, ms: number) {
  return sql.part`now() + ${Math.ceil(ms)}::bigint * interval '1 millisecond'`;
}

/** Postgres stores no text with a NUL. */
function storable(text: string): string {
  return text.replaceAll('\0', '\uFFFD').slice(0, MAX_TEXT_LENGTH);
}

function toItem(row: ListedRow): ParkedItem {
  const { id, queue, unit, job, subject, reason, error, attempts } = row;
  return {
    id,
    queue,
    unit,
    job,
    subject,
    firstSequence: row.first_sequence,
    lastSequence: row.last_sequence,
    reason,
    error,
    attempts,
    parkedAt: row.parked_at.toISOString(),
    nextRetryAt: row.next_retry_at.toISOString(),
  };
}

/**
 * Keeps what pings and heartbeats tell of units, in bulk: at most every half second, the newest of each unit and the sums of
 * its buckets. It is no projection: what is lost is not told again, and the next ping or heartbeat makes up for it.
 */

import { isClockWrong } from '../../domain/device/unit-clock.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { decodeStatus, type PingerStatus } from '../../platform/liveness/pinger-status.ts';
import { decodeTelemetry } from '../../platform/liveness/telemetry.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { CoverageAlarms, readPingerCoverage, savePingerStatus } from './pinger-coverage.ts';
import { ResponseTimePartitions } from './response-time-partitions.ts';
import {
  addResult,
  clockReadingOf,
  latestProofOf,
  mergeTelemetry,
  PING_CLOCK_PRECEDENCE_MS,
  type UnitTelemetry,
} from './unit-telemetry.ts';

const WRITE_INTERVAL_MS = 500;
/** Units whose news are kept in memory; results of further units are dropped until the next write. */
const MAX_BUFFERED_UNITS = 500_000;
/** Pingers whose status waits to be written. */
const MAX_PINGERS = 1_000;
/** Units in one statement. */
const MAX_ROWS_PER_WRITE = 5_000;
const MS_PER_S = 1_000;

export class TelemetryRecorder {
  readonly #sql: Sql;
  readonly #log: Log;
  #buffer = new Map<string, UnitTelemetry>();
  readonly #statuses = new Map<string, PingerStatus>();
  readonly #days = new ResponseTimePartitions();
  readonly #alarms: CoverageAlarms;
  readonly #onReported: (units: readonly string[]) => void;
  /** Whether a write failed: it may have been committed all the same, so the next write names all of its units as changed. */
  #hasUnknownWrite = false;
  #dropped = 0;
  #unreadable = 0;

  /** `onReported` is called with the units that reported another end of their log, or another configuration, than before. */
  constructor(sql: Sql, log: Log, onReported: (units: readonly string[]) => void = () => undefined) {
    this.#sql = sql;
    this.#log = log;
    this.#onReported = onReported;
    this.#alarms = new CoverageAlarms(log);
  }

  /** Takes a message of the stream TELEMETRY. */
  record(json: string): void {
    const message = decodeTelemetry(json);
    if (message === undefined) {
      this.#log.warn('a telemetry message cannot be read');
      return;
    }
    this.#unreadable += message.unreadable;
    for (const result of message.results) {
      const known = this.#buffer.get(result.unit);
      if (known === undefined && this.#buffer.size >= MAX_BUFFERED_UNITS) this.#dropped += 1;
      else this.#buffer.set(result.unit, addResult(known, result));
    }
  }

  /** Takes a message of a pinger about itself. */
  recordPingerStatus(json: string): void {
    const status = decodeStatus(json);
    if (status === undefined) this.#log.warn('the status of a pinger cannot be read');
    else if (this.#statuses.size < MAX_PINGERS || this.#statuses.has(status.pingerId)) {
      this.#statuses.set(status.pingerId, status);
    }
  }

  /** Writes every half second until the signal, and what is left then. */
  async run({ signal, sleep }: { readonly signal: AbortSignal; readonly sleep: (ms: number) => Promise<unknown> }) {
    while (!signal.aborted) {
      await sleep(WRITE_INTERVAL_MS);
      await this.flush();
    }
  }

  async #flushStatuses(): Promise<void> {
    const statuses = [...this.#statuses.values()];
    this.#statuses.clear();
    try {
      for (const status of statuses) await savePingerStatus(this.#sql, status);
      this.#alarms.update(await readPingerCoverage(this.#sql));
    } catch (error) {
      this.#log.warn('the status of the pingers could not be written', { error });
    }
  }

  /** Writes what there is; what could not be written stays for the next time, unless there is something newer. */
  async flush(): Promise<void> {
    this.#sayWhatWasLost();
    await this.#flushStatuses();
    const taken = this.#buffer;
    this.#buffer = new Map();
    const rows = [...taken.values()];
    try {
      if (rows.length > 0) await this.#days.maintain(this.#sql);
      for (let start = 0; start < rows.length; start += MAX_ROWS_PER_WRITE) {
        const chunk = rows.slice(start, start + MAX_ROWS_PER_WRITE);
        const changed = await writeNews(this.#sql, chunk);
        this.#onReported(this.#hasUnknownWrite ? chunk.map(({ unit }) => unit) : changed);
        for (const { unit } of chunk) taken.delete(unit);
      }
      this.#hasUnknownWrite = false;
    } catch (error) {
      this.#log.warn('telemetry could not be written', { error, units: taken.size });
      this.#hasUnknownWrite = true;
      this.#putBack(taken);
    }
  }

  #putBack(taken: ReadonlyMap<string, UnitTelemetry>): void {
    for (const [unit, older] of taken) {
      const newer = this.#buffer.get(unit);
      if (newer === undefined) this.#buffer.set(unit, older);
      else this.#buffer.set(unit, mergeTelemetry(newer, older));
    }
  }

  #sayWhatWasLost(): void {
    if (this.#dropped > 0) this.#log.warn('telemetry was dropped: too many units at once', { results: this.#dropped });
    if (this.#unreadable > 0) this.#log.warn('telemetry cannot be read', { results: this.#unreadable });
    this.#dropped = 0;
    this.#unreadable = 0;
  }
}

/**
 * Each part moves on by itself and only forward, so that it does not matter in which order results come and how they are
 * dealt to writes.
 */
async function writeNews(sql: Sql, news: readonly UnitTelemetry[]): Promise<readonly string[]> {
  const rows = news.map(toRow);
  const column = <T>(value: (row: Row) => T): T[] => rows.map(value);
  const moments = (value: (row: Row) => number | undefined) =>
    column((row) => {
      const ms = value(row);
      return ms === undefined ? null : toInstant(ms);
    });
  const buckets = news.flatMap(({ unit, buckets: of }) => [...of].map(([at, bucket]) => ({ unit, at, ...bucket })));
  const bucketColumn = <T>(value: (bucket: (typeof buckets)[number]) => T): T[] => buckets.map(value);
  const isLaterProof = sql.part`excluded.last_online_at >= coalesce(known.last_online_at, '-infinity')`;
  // As in `clockOf`: the newest ping tells the clock, unless a heartbeat is newer by the precedence of pings.
  const precedence = sql.part`make_interval(secs => ${PING_CLOCK_PRECEDENCE_MS / MS_PER_S}::double precision)`;
  const isBetterClock = sql.part`case when excluded.clock_pinged_at is not null
    then excluded.clock_pinged_at >= coalesce(known.clock_pinged_at, '-infinity')
      and coalesce(known.clock_at, '-infinity') <= excluded.clock_pinged_at + ${precedence}
    else excluded.clock_at >= coalesce(known.clock_at, '-infinity')
      and excluded.clock_at > coalesce(known.clock_pinged_at, '-infinity') + ${precedence} end`;
  // One statement: a summary that is written again would be counted twice.
  const changed = await sql<{ unit: string }[]>`
    with counted as (
      insert into platform.response_times as known (unit, bucket_at, sent, lost, min_ms, max_ms, sum_ms)
      select * from unnest(
        ${bucketColumn(({ unit }) => unit)}::text[],
        ${bucketColumn(({ at }) => toInstant(at))}::timestamptz[],
        ${bucketColumn(({ sent }) => sent)}::int[],
        ${bucketColumn(({ lost }) => lost)}::int[],
        ${bucketColumn(({ rttMs }) => rttMs?.min ?? null)}::double precision[],
        ${bucketColumn(({ rttMs }) => rttMs?.max ?? null)}::double precision[],
        ${bucketColumn(({ rttMs }) => rttMs?.sum ?? null)}::double precision[]
      )
      on conflict (unit, bucket_at) do update set
        sent = known.sent + excluded.sent, lost = known.lost + excluded.lost,
        min_ms = least(known.min_ms, excluded.min_ms), max_ms = greatest(known.max_ms, excluded.max_ms),
        sum_ms = case when known.sum_ms is null then excluded.sum_ms
          else known.sum_ms + coalesce(excluded.sum_ms, 0) end
    ), before as (
      select unit, epoch, last_seq, configuration_hash from platform.unit_telemetry
      where unit = any(${column(({ unit }) => unit)}::text[])
    ), written as (
    insert into platform.unit_telemetry as known
      (unit, at, pinged_at, answered_at, last_response_ms, last_online_at, epoch, last_seq, configuration_hash, configuration_hash_at,
        clock_at, clock_pinged_at, clock_offset_ms, clock_wrong, flapping)
    select * from unnest(
      ${column(({ unit }) => unit)}::text[],
      ${moments(({ atMs }) => atMs)}::timestamptz[],
      ${moments(({ pingedAtMs }) => pingedAtMs)}::timestamptz[],
      ${moments(({ answer }) => answer?.at)}::timestamptz[],
      ${column(({ answer }) => answer?.rttMs ?? null)}::double precision[],
      ${moments(({ proof }) => proof?.at)}::timestamptz[],
      ${column(({ proof }) => proof?.epoch ?? null)}::text[],
      ${column(({ proof }) => proof?.lastSeq ?? null)}::bigint[],
      ${column(({ proof }) => proof?.configurationHash ?? null)}::text[],
      ${moments(({ proof }) => (proof?.configurationHash === undefined ? undefined : proof.at))}::timestamptz[],
      ${moments(({ clock }) => clock?.atMs)}::timestamptz[],
      ${moments(({ clock }) => (clock?.isOfPing === true ? clock.atMs : undefined))}::timestamptz[],
      ${column(({ clock }) => clock?.offsetMs ?? null)}::bigint[],
      ${column(({ clock }) => clock !== undefined && isClockWrong(clock.offsetMs))}::boolean[],
      ${column(({ flapping }) => flapping)}::boolean[]
    )
    on conflict (unit) do update set
      at = greatest(known.at, excluded.at),
      pinged_at = greatest(known.pinged_at, excluded.pinged_at),
      answered_at = greatest(known.answered_at, excluded.answered_at),
      last_response_ms = case when excluded.answered_at >= coalesce(known.answered_at, '-infinity')
        then excluded.last_response_ms else known.last_response_ms end,
      last_online_at = greatest(known.last_online_at, excluded.last_online_at),
      epoch = case when ${isLaterProof} then coalesce(excluded.epoch, known.epoch) else known.epoch end,
      last_seq = case when ${isLaterProof} then coalesce(excluded.last_seq, known.last_seq) else known.last_seq end,
      configuration_hash = case when ${isLaterProof}
        then coalesce(excluded.configuration_hash, known.configuration_hash) else known.configuration_hash end,
      configuration_hash_at = case when ${isLaterProof}
        then coalesce(excluded.configuration_hash_at, known.configuration_hash_at) else known.configuration_hash_at end,
      clock_at = case when ${isBetterClock} then excluded.clock_at else known.clock_at end,
      clock_pinged_at = greatest(known.clock_pinged_at, excluded.clock_pinged_at),
      clock_offset_ms = case when ${isBetterClock} then excluded.clock_offset_ms else known.clock_offset_ms end,
      clock_wrong = case when ${isBetterClock} then excluded.clock_wrong else known.clock_wrong end,
      flapping = case when excluded.pinged_at >= coalesce(known.pinged_at, '-infinity')
        then excluded.flapping else known.flapping end
      returning unit, epoch, last_seq, configuration_hash
    )
    select w.unit from written w left join before b using (unit)
    where (w.epoch, w.last_seq, w.configuration_hash) is distinct from (b.epoch, b.last_seq, b.configuration_hash)`;
  return changed.map(({ unit }) => unit);
}

interface Row {
  readonly unit: string;
  readonly atMs: number;
  readonly pingedAtMs: number | undefined;
  readonly answer: UnitTelemetry['answer'];
  readonly proof: ReturnType<typeof latestProofOf>;
  readonly clock: ReturnType<typeof clockReadingOf>;
  readonly flapping: boolean;
}

function toRow(news: UnitTelemetry): Row {
  const { unit, answer, pinged } = news;
  const proof = latestProofOf(news);
  const pingedAtMs = pinged?.at;
  // News without any result are never made.
  const atMs = latest(pingedAtMs, proof?.at) ?? 0;
  return { unit, atMs, pingedAtMs, answer, proof, clock: clockReadingOf(news), flapping: pinged?.flapping ?? false };
}

function latest(...moments: readonly (number | undefined)[]): number | undefined {
  const known = moments.filter((moment) => moment !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}

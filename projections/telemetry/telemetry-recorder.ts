/**
 * Records what pings and heartbeats report of units. Every half second it writes the newest report of each unit and the sums of
 * its response times. Telemetry is no projection: it cannot be replayed. A lost message is replaced by the next ping or heartbeat.
 */

import { isClockWrong } from '../../domain/device/unit-clock.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { chunksOf } from '../../platform/batching/chunks-of.ts';
import { decodeStatus, type PingerStatus } from '../../platform/liveness/pinger-status.ts';
import { BUCKET_MS, decodeTelemetry, type TelemetryResult } from '../../platform/liveness/telemetry-message.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { CoverageAlarms, readPingerCoverage, savePingerStatus } from './pinger-coverage.ts';
import { ResponseTimePartitions } from './response-time-partitions.ts';
import { TelemetryLosses } from './telemetry-losses.ts';
import {
  addResult,
  clockReadingOf,
  latestProofOf,
  mergeTelemetry,
  PING_CLOCK_PRECEDENCE_MS,
  type UnitTelemetry,
  withinDays,
} from './unit-telemetry.ts';

const WRITE_INTERVAL_MS = 500;
/** Units whose telemetry waits in memory; results of further units are dropped until the next write. */
const MAX_BUFFERED_UNITS = 500_000;
/** Pingers whose status waits to be written; the status of further pingers is dropped. */
const MAX_PINGERS = 1_000;
/** Units that one statement writes. */
const MAX_ROWS_PER_WRITE = 5_000;
const MS_PER_S = 1_000;

/** Results that are dated later than this are refused: a later time hides newer results until it has passed. */
const MAX_AHEAD_MS = BUCKET_MS;

export interface TelemetryRecorderOptions {
  readonly log: Log;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  /**
   * Called with the units that reported another end of their log, or another configuration, than before.
   * @default the recorder tells no other part of the process
   */
  readonly onReported?: (units: readonly string[]) => void;
}

export class TelemetryRecorder {
  readonly #sql: Sql;
  readonly #options: TelemetryRecorderOptions;
  #waiting = new Map<string, UnitTelemetry>();
  readonly #statuses = new Map<string, PingerStatus>();
  readonly #partitions = new ResponseTimePartitions();
  readonly #alarms: CoverageAlarms;
  readonly #losses: TelemetryLosses;
  /** Whether a write failed: it may have been committed all the same, so the next write names all of its units as changed. */
  #hasUnknownWrite = false;

  constructor(sql: Sql, options: TelemetryRecorderOptions) {
    this.#sql = sql;
    this.#options = options;
    this.#alarms = new CoverageAlarms(options.log);
    this.#losses = new TelemetryLosses(options);
  }

  metrics(): ReturnType<TelemetryLosses['metrics']> {
    return this.#losses.metrics();
  }

  /** Records a message of the stream TELEMETRY. */
  record(json: string): void {
    const message = decodeTelemetry(json);
    if (message === undefined) {
      this.#losses.add('malformed', 1);
      return;
    }
    const { pingerId, results, unreadable } = message;
    this.#losses.add('malformed', unreadable, pingerId);
    const untilMs = this.#options.clock() + MAX_AHEAD_MS;
    for (const result of results) {
      const known = this.#waiting.get(result.unit);
      if (latestTimeOf(result) > untilMs) this.#losses.add('clock-ahead', 1, pingerId);
      else if (known === undefined && this.#waiting.size >= MAX_BUFFERED_UNITS)
        this.#losses.add('overflow', 1, pingerId);
      else this.#waiting.set(result.unit, addResult(known, result));
    }
  }

  /** Records the status that a pinger has published. */
  recordPingerStatus(json: string): void {
    const status = decodeStatus(json);
    if (status === undefined) this.#losses.add('malformed', 1);
    else if (this.#statuses.size < MAX_PINGERS || this.#statuses.has(status.pingerId)) {
      this.#statuses.set(status.pingerId, status);
    } else this.#losses.add('overflow', 1, status.pingerId);
  }

  /** Writes every half second until the signal aborts, and then the rest. */
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
      this.#options.log.warn('the status of the pingers could not be written; the next status follows within seconds', {
        error,
      });
    }
  }

  /** Writes all waiting telemetry. After an error, what was not written waits for the next write, merged with newer results. */
  async flush(): Promise<void> {
    await this.#flushStatuses();
    const batch = this.#waiting;
    this.#waiting = new Map();
    try {
      if (batch.size > 0) await this.#write(batch);
      this.#hasUnknownWrite = false;
    } catch (error) {
      const { log } = this.#options;
      log.warn('telemetry could not be written; it waits for the next write', { error, units: batch.size });
      this.#hasUnknownWrite = true;
      this.#waitAgain(batch);
    }
    this.#losses.log();
  }

  /** Writes a batch, and removes from it what is written. */
  async #write(batch: Map<string, UnitTelemetry>): Promise<void> {
    const kept = await this.#partitions.maintain(this.#sql);
    for (const [unit, telemetry] of batch) {
      const { refused, telemetry: accepted } = withinDays(telemetry, kept);
      this.#losses.add('outside-days', refused);
      batch.set(unit, accepted);
    }
    for (const chunk of chunksOf([...batch.values()], MAX_ROWS_PER_WRITE)) {
      const units = chunk.map(({ unit }) => unit);
      await deleteFutureTelemetry(this.#sql, units);
      const changed = await writeTelemetry(this.#sql, chunk);
      this.#options.onReported?.(this.#hasUnknownWrite ? units : changed);
      for (const unit of units) batch.delete(unit);
    }
  }

  #waitAgain(batch: ReadonlyMap<string, UnitTelemetry>): void {
    for (const [unit, older] of batch) {
      const newer = this.#waiting.get(unit);
      if (newer === undefined) this.#waiting.set(unit, older);
      else this.#waiting.set(unit, mergeTelemetry(newer, older));
    }
  }
}

/** The latest time that a result names. */
function latestTimeOf(result: TelemetryResult): number {
  if (result.heard === 'heartbeat') return result.at;
  return Math.max(result.at, result.bucketAt, result.last?.at ?? 0);
}

/**
 * Deletes rows of the future. They were written while the clock of a pinger and of this process were ahead, and would hide every newer
 * result until their time has passed.
 */
async function deleteFutureTelemetry(sql: Sql, units: readonly string[]): Promise<void> {
  await sql`
    delete from platform.unit_telemetry
    where unit = any(${units}::text[]) and at > now() + make_interval(secs => ${MAX_AHEAD_MS / MS_PER_S}::double precision)`;
}

/**
 * Writes telemetry. Each part of a row only moves forward in time, independently of the others, so neither the order of results
 * nor their distribution over writes changes the outcome.
 */
async function writeTelemetry(sql: Sql, telemetry: readonly UnitTelemetry[]): Promise<readonly string[]> {
  const rows = telemetry.map(toRow);
  const column = <T>(value: (row: Row) => T): T[] => rows.map(value);
  const moments = (value: (row: Row) => number | undefined) =>
    column((row) => {
      const ms = value(row);
      return ms === undefined ? null : toInstant(ms);
    });
  const buckets = telemetry.flatMap(({ unit, buckets: of }) =>
    [...of].map(([at, bucket]) => ({ unit, at, ...bucket })),
  );
  const bucketColumn = <T>(value: (bucket: (typeof buckets)[number]) => T): T[] => buckets.map(value);
  const isLaterProof = sql.part`excluded.last_online_at >= coalesce(known.last_online_at, '-infinity')`;
  // The rule of `clockReadingOf`: the newest ping gives the offset, unless a heartbeat is newer by the precedence of pings.
  const precedence = sql.part`make_interval(secs => ${PING_CLOCK_PRECEDENCE_MS / MS_PER_S}::double precision)`;
  const isBetterClock = sql.part`case when excluded.clock_pinged_at is not null
    then excluded.clock_pinged_at >= coalesce(known.clock_pinged_at, '-infinity')
      and coalesce(known.clock_at, '-infinity') <= excluded.clock_pinged_at + ${precedence}
    else excluded.clock_at >= coalesce(known.clock_at, '-infinity')
      and excluded.clock_at > coalesce(known.clock_pinged_at, '-infinity') + ${precedence} end`;
  // One statement, so that a retry after an error cannot add a summary of pings twice.
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
      ${moments(({ clock }) => (clock?.isFromPing === true ? clock.atMs : undefined))}::timestamptz[],
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

function toRow(telemetry: UnitTelemetry): Row {
  const { unit, answer, pinged } = telemetry;
  const proof = latestProofOf(telemetry);
  const pingedAtMs = pinged?.at;
  // Telemetry of a unit holds at least one ping or heartbeat.
  const atMs = latest(pingedAtMs, proof?.at) ?? 0;
  return {
    unit,
    atMs,
    pingedAtMs,
    answer,
    proof,
    clock: clockReadingOf(telemetry),
    flapping: pinged?.flapping ?? false,
  };
}

function latest(...moments: readonly (number | undefined)[]): number | undefined {
  const known = moments.filter((moment) => moment !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}

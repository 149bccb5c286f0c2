/**
 * Keeps what pings tell of units, in bulk: at most every half second, the newest of each unit. It is no projection: what is
 * lost is not told again, and the next ping makes up for it.
 */

import type { Log } from '../../platform/log.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { decodeTelemetry, type PingResult } from '../../platform/telemetry.ts';

const WRITE_INTERVAL_MS = 500;
/** Units whose newest result is kept in memory; results of further units are dropped until the next write. */
const MAX_BUFFERED_UNITS = 500_000;
/** Rows in one statement. */
const MAX_ROWS_PER_WRITE = 5_000;

/** What is to be written of a unit: its newest ping, its newest answer, and how many it missed since then. */
export interface UnitPings {
  readonly newest: PingResult;
  readonly answer: PingResult | undefined;
  readonly missed: number;
}

/** Takes a result in. Results of one unit may come in any order. */
export function withResult(pings: UnitPings | undefined, result: PingResult): UnitPings {
  const isAnswer = result.rttMs !== null;
  if (pings === undefined) {
    return { newest: result, answer: isAnswer ? result : undefined, missed: isAnswer ? 0 : 1 };
  }
  if (result.at < pings.newest.at) return pings;
  if (isAnswer) return { newest: result, answer: result, missed: 0 };
  return { ...pings, newest: result, missed: pings.missed + 1 };
}

export class TelemetryRecorder {
  readonly #sql: Sql;
  readonly #log: Log;
  #buffer = new Map<string, UnitPings>();
  #dropped = 0;

  constructor(sql: Sql, log: Log) {
    this.#sql = sql;
    this.#log = log;
  }

  /** Takes a message of the stream TELEMETRY. */
  take(json: string): void {
    const message = decodeTelemetry(json);
    if (message === undefined) {
      this.#log.warn('a telemetry message cannot be read');
      return;
    }
    for (const result of message.results) {
      const known = this.#buffer.get(result.unit);
      if (known === undefined && this.#buffer.size >= MAX_BUFFERED_UNITS) this.#dropped += 1;
      else this.#buffer.set(result.unit, withResult(known, result));
    }
  }

  /** Writes every half second until the signal, and what is left then. */
  async run({ signal, sleep }: { readonly signal: AbortSignal; readonly sleep: (ms: number) => Promise<unknown> }) {
    while (!signal.aborted) {
      await sleep(WRITE_INTERVAL_MS);
      await this.flush();
    }
  }

  /** Writes what there is; what could not be written stays for the next time, unless there is something newer. */
  async flush(): Promise<void> {
    if (this.#dropped > 0) this.#log.warn('telemetry was dropped: too many units at once', { results: this.#dropped });
    this.#dropped = 0;
    const taken = this.#buffer;
    this.#buffer = new Map();
    const rows = [...taken.values()];
    try {
      for (let start = 0; start < rows.length; start += MAX_ROWS_PER_WRITE) {
        const chunk = rows.slice(start, start + MAX_ROWS_PER_WRITE);
        await writePings(this.#sql, chunk);
        for (const { newest } of chunk) taken.delete(newest.unit);
      }
    } catch (error) {
      this.#log.warn('telemetry could not be written', { error, units: taken.size });
      this.#putBack(taken);
    }
  }

  #putBack(taken: ReadonlyMap<string, UnitPings>): void {
    for (const [unit, older] of taken) {
      const newer = this.#buffer.get(unit);
      if (newer === undefined) this.#buffer.set(unit, older);
      else if (newer.answer === undefined) {
        this.#buffer.set(unit, { ...newer, answer: older.answer, missed: older.missed + newer.missed });
      }
    }
  }
}

async function writePings(sql: Sql, rows: readonly UnitPings[]): Promise<void> {
  const column = <T>(value: (row: UnitPings) => T): T[] => rows.map(value);
  await sql`
    insert into platform.unit_telemetry as known
      (unit, at, last_response_ms, last_online_at, missed_in_a_row, epoch, last_seq, configuration_hash)
    select * from unnest(
      ${column(({ newest }) => newest.unit)}::text[],
      ${column(({ newest }) => new Date(newest.at).toISOString())}::timestamptz[],
      ${column(({ answer }) => answer?.rttMs ?? null)}::double precision[],
      ${column(({ answer }) => (answer === undefined ? null : new Date(answer.at).toISOString()))}::timestamptz[],
      ${column(({ missed }) => missed)}::int[],
      ${column(({ answer }) => answer?.epoch ?? null)}::text[],
      ${column(({ answer }) => answer?.lastSeq ?? null)}::bigint[],
      ${column(({ answer }) => answer?.configurationHash ?? null)}::text[]
    )
    on conflict (unit) do update set
      at = excluded.at,
      last_response_ms = coalesce(excluded.last_response_ms, known.last_response_ms),
      last_online_at = coalesce(excluded.last_online_at, known.last_online_at),
      missed_in_a_row = excluded.missed_in_a_row
        + case when excluded.last_online_at is null then known.missed_in_a_row else 0 end,
      epoch = coalesce(excluded.epoch, known.epoch),
      last_seq = coalesce(excluded.last_seq, known.last_seq),
      configuration_hash = coalesce(excluded.configuration_hash, known.configuration_hash)
    where excluded.at >= known.at`;
}

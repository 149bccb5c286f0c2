import type { PingerStatus } from '../../platform/liveness/pinger-status.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import type { ClockOffset } from '../../platform/unit-log/clock-offset-cache.ts';
import { readPingerCoverage } from './pinger-coverage.ts';

/** Units with a wrong clock that are read at most. With more of them, the clock of the platform is likelier to be wrong. */
const MAX_WRONG_CLOCKS = 100_000;

/** Reads the clock offsets of the units whose clock is wrong, by unit. */
export async function clockOffsets(sql: Sql): Promise<ReadonlyMap<string, ClockOffset>> {
  const rows = await sql<{ unit: string; clock_offset_ms: number; clock_at: Date }[]>`
    select unit, clock_offset_ms, clock_at from platform.unit_telemetry
    where clock_wrong order by unit limit ${MAX_WRONG_CLOCKS}`;
  return new Map(
    rows.map(({ unit, clock_offset_ms: offsetMs, clock_at }) => [unit, { offsetMs, measuredAtMs: clock_at.getTime() }]),
  );
}

/** Buckets of five minutes in a day. */
const MAX_BUCKETS = 288;

/** Reads the response times of a unit in the last 24 hours in buckets of five minutes, the oldest first. Milliseconds. */
export async function responseTimes(sql: Sql, unit: string) {
  const rows = await sql<ResponseTimeRow[]>`
    select bucket_at, sent, lost, min_ms, max_ms, sum_ms from platform.response_times
    where unit = ${unit} and bucket_at > now() - interval '24 hours' order by bucket_at desc limit ${MAX_BUCKETS}`;
  return rows.toReversed().map(({ bucket_at, sent, lost, min_ms, max_ms, sum_ms }) => ({
    from: bucket_at.toISOString(),
    sent,
    lost,
    minMs: min_ms,
    meanMs: sum_ms === null || sent === lost ? null : sum_ms / (sent - lost),
    maxMs: max_ms,
  }));
}

interface ResponseTimeRow {
  readonly bucket_at: Date;
  readonly sent: number;
  readonly lost: number;
  readonly min_ms: number | null;
  readonly max_ms: number | null;
  readonly sum_ms: number | null;
}

/** Reads the pingers whose status is current, and the shards whose units have an unknown state. */
export async function activePingers(sql: Sql) {
  const [owners, watching] = await Promise.all([
    sql<{ status: PingerStatus }[]>`
      select status from platform.pingers where watches_until >= now() order by pinger_id`,
    readPingerCoverage(sql),
  ]);
  return { owners: owners.map(({ status }) => status), ...watching };
}

/** What pingers tell, made by hand. */

import { BUCKET_MS, type TelemetryResultOf } from '../../platform/liveness/telemetry-message.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import type { TelemetryRecorderOptions } from '../../projections/telemetry/telemetry-recorder.ts';
import { silentLog } from './silent-log.ts';

/** Options of a recorder in a test, whose results have any time up to now. */
export function recording(changes: Partial<TelemetryRecorderOptions> = {}): TelemetryRecorderOptions {
  return { log: silentLog, clock: Date.now, monotonic: () => performance.now(), ...changes };
}

type Last = NonNullable<TelemetryResultOf<'pings'>['last']>;

/** The unit answered one ping, sent at `at`. */
export function answered({ unit, ...last }: Last & { readonly unit: string }): TelemetryResultOf<'pings'> {
  const { at, rttMs } = last;
  return {
    heard: 'pings',
    unit,
    at,
    ...bucketOf(at),
    sent: 1,
    lost: 0,
    last,
    rttMs: { min: rttMs, max: rttMs, sum: rttMs },
  };
}

/** The unit did not answer one ping, sent at `at`. */
export function missed({ unit, at }: { readonly unit: string; readonly at: number }): TelemetryResultOf<'pings'> {
  return { heard: 'pings', unit, at, ...bucketOf(at), sent: 1, lost: 1 };
}

function bucketOf(at: number) {
  return { bucketAt: Math.floor(at / BUCKET_MS) * BUCKET_MS };
}

/** Lets all shards be watched, for as long as a test may take. */
export async function watchAllShards(sql: Sql): Promise<void> {
  await sql`
    insert into platform.watched_shards (shard, watched_at, watched_until)
    select lpad(to_hex(shard), 2, '0'), now(), now() + interval '1 hour' from generate_series(0, 255) shard
    on conflict (shard) do update set watched_until = excluded.watched_until, outage_since = null`;
}

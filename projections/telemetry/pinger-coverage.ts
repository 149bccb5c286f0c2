/** Which shards are watched, as the pingers say. Times are those of the database, so that no two clocks are compared. */

import { shardsOfLength } from '../../domain/shard-prefixes.ts';
import { type PingerStatus, watchedForMs } from '../../platform/liveness/pinger-status.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { Sql } from '../../platform/postgres/connection.ts';

const MS_PER_S = 1_000;
/** A pinger that was not heard for so long is forgotten. */
const FORGET_PINGERS_AFTER = '1 day';

export async function savePingerStatus(sql: Sql, status: PingerStatus): Promise<void> {
  const { pingerId, periodMs, shards, outages } = status;
  const until = sql.part`now() + make_interval(secs => ${watchedForMs(periodMs) / MS_PER_S}::double precision)`;
  const sinceMs = new Map(outages.map(({ shard, since }) => [shard, since]));
  await sql`
    with spoken as (
      insert into platform.pingers (pinger_id, heard_at, watches_until, status)
      values (${pingerId}, now(), ${until}, ${JSON.stringify(status)}::text::jsonb)
      on conflict (pinger_id) do update set
        heard_at = excluded.heard_at, watches_until = excluded.watches_until, status = excluded.status
    ), forgotten as (
      delete from platform.pingers where heard_at < now() - ${FORGET_PINGERS_AFTER}::interval
    )
    insert into platform.watched_shards (shard, watched_at, watched_until, outage_since)
    select shard, now(), ${until}, to_timestamp(since_ms / 1000.0)
    from unnest(
      ${shards}::text[],
      ${shards.map((shard) => sinceMs.get(shard) ?? null)}::double precision[]
    ) as owned(shard, since_ms)
    on conflict (shard) do update set
      watched_at = excluded.watched_at, watched_until = excluded.watched_until, outage_since = excluded.outage_since`;
}

/** What is wrong with the watch now: by what, the shards. */
export interface PingerCoverage {
  readonly unwatched: readonly string[];
  readonly outages: readonly { readonly shard: string; readonly since: string }[];
}

export async function readPingerCoverage(sql: Sql): Promise<PingerCoverage> {
  const rows = await sql<{ shard: string; is_watched: boolean; outage_since: Date | null }[]>`
    select shard, watched_until >= now() as is_watched, outage_since from platform.watched_shards order by shard`;
  const watched = new Set(rows.flatMap(({ shard, is_watched }) => (is_watched ? [shard] : [])));
  return {
    unwatched: shardsOfLength(2).filter((shard) => !watched.has(shard)),
    outages: rows.flatMap(({ shard, outage_since }) =>
      outage_since === null || !watched.has(shard) ? [] : [{ shard, since: outage_since.toISOString() }],
    ),
  };
}

/** Says once that something is wrong with the watch, and once that it is over. */
export class CoverageAlarms {
  readonly #log: Log;
  #unwatched = 0;
  #outages = 0;
  #hasWatched = false;

  constructor(log: Log) {
    this.#log = log;
  }

  update({ unwatched, outages }: PingerCoverage): void {
    // Before the first pinger there is nobody to miss.
    this.#hasWatched ||= unwatched.length < shardsOfLength(2).length;
    if (!this.#hasWatched) return;
    if (unwatched.length > 0 && this.#unwatched === 0) {
      this.#log.error('nobody watches some shards: the state of their units is unknown', { shards: unwatched.length });
    }
    if (unwatched.length === 0 && this.#unwatched > 0) this.#log.info('all shards are watched again');
    if (outages.length > 0 && this.#outages === 0) {
      this.#log.error('too many units vanished at once for it to be them: their state is unknown', {
        shards: outages.map(({ shard }) => shard).join(),
      });
    }
    if (outages.length === 0 && this.#outages > 0) this.#log.info('the units that had vanished are known again');
    this.#unwatched = unwatched.length;
    this.#outages = outages.length;
  }
}

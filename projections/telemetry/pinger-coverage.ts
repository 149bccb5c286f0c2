/** The shards that pingers watch, from their published status. Times are those of the database, so no two clocks are compared. */

import { shardsOfLength } from '../../domain/shard-prefixes.ts';
import { type PingerStatus, watchedForMs } from '../../platform/liveness/pinger-status.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { Sql } from '../../platform/postgres/connection.ts';

const MS_PER_S = 1_000;
/** The status of a pinger that has published none for this long is deleted. */
const FORGET_PINGERS_AFTER = '1 day';

export async function savePingerStatus(sql: Sql, status: PingerStatus): Promise<void> {
  const { pingerId, periodMs, shards, outages } = status;
  const until = sql.part`now() + make_interval(secs => ${watchedForMs(periodMs) / MS_PER_S}::double precision)`;
  const sinceMs = new Map(outages.map(({ shard, since }) => [shard, since]));
  await sql`
    with saved as (
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

/** The shards whose units have an unknown state now. */
export interface PingerCoverage {
  /** Shards that no pinger watches. */
  readonly unwatched: readonly string[];
  /** Shards in which so many units vanished at once that a fault of the network is likelier. `since` is RFC 3339. */
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

/** Logs once when a part of the fleet is not covered by pings, and once when it is again. */
export class CoverageAlarms {
  readonly #log: Log;
  #unwatched = 0;
  #outages = 0;
  #hasBeenWatched = false;

  constructor(log: Log) {
    this.#log = log;
  }

  update({ unwatched, outages }: PingerCoverage): void {
    // Before the first pinger has started, missing coverage is expected.
    this.#hasBeenWatched ||= unwatched.length < shardsOfLength(2).length;
    if (!this.#hasBeenWatched) return;
    if (unwatched.length > 0 && this.#unwatched === 0) {
      this.#log.error(
        'no pinger watches some shards: the state of their units is unknown; check that pingers run and own these shards',
        { shards: unwatched.length },
      );
    }
    if (unwatched.length === 0 && this.#unwatched > 0) this.#log.info('pingers watch all shards again');
    if (outages.length > 0 && this.#outages === 0) {
      this.#log.error(
        'many units vanished at once: their state is unknown, because a fault of the network is likelier than a fault of each unit',
        {
          shards: outages.map(({ shard }) => shard).join(),
        },
      );
    }
    if (outages.length === 0 && this.#outages > 0) this.#log.info('the state of the vanished units is known again');
    this.#unwatched = unwatched.length;
    this.#outages = outages.length;
  }
}

/**
 * What the pinger, the fetch worker and the configuration worker read of units: all of them, a page at a time, or those that the
 * change feed names. A page is ordered by name and holds the units after `afterName`.
 */

import { SHORT_HASH_LENGTH } from '../../../domain/configuration/configuration-hash.ts';
import { REPORT_TOLERANCE_MS } from '../../../domain/configuration/delivery.ts';
import type { RegisteredUnit } from '../../../domain/registry/registry.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import type { UnitQuery } from '../../../platform/change-feed/follower.ts';
import type { Sql } from '../../../platform/postgres/connection.ts';
import type { ReadModels } from '../../engine/queries/serving-runs.ts';

/** A push unit that answered a ping within this time learns from pings how far its log is recorded. */
export const PINGED_WITHIN_MS = 600_000;
const MS_PER_S = 1_000;

/** The condition that selects what a query asks for, of a table `u` with a column `unit`. */
function selected(sql: Sql, query: UnitQuery) {
  return 'names' in query
    ? sql.part`u.unit = any(${query.names}::text[])`
    : sql.part`u.unit > ${query.afterName ?? ''}`;
}

function limited(sql: Sql, query: UnitQuery) {
  return 'names' in query ? sql.part`` : sql.part`limit ${query.limit}`;
}

function interval(sql: Sql, ms: number) {
  return sql.part`make_interval(secs => ${ms / MS_PER_S}::double precision)`;
}

/**
 * Reads how units are pinged. `inUse` is false for a retired unit and for one whose credentials are revoked; the pinger then stops
 * pinging it.
 */
export async function pingTargets({ sql, servingRuns }: ReadModels, query: UnitQuery) {
  const { schema } = await servingRuns.find('units');
  const rows = await sql<PingRow[]>`
    select u.unit, u.hash, u.address, u.probe, u.key_version, u.connectivity, u.recorded_epoch, u.recorded_seq,
      not u.retired and not u.credentials_revoked as in_use
    from ${sql(`${schema}.unit`)} u
    where ${selected(sql, query)} order by u.unit ${limited(sql, query)}`;
  return rows.map((row) => ({
    name: row.unit,
    hash: row.hash,
    address: row.address,
    probe: row.probe,
    keyVersion: row.key_version,
    connectivity: row.connectivity,
    inUse: row.in_use,
    ...(row.recorded_epoch === null ? {} : { recorded: { epoch: row.recorded_epoch, seq: row.recorded_seq } }),
  }));
}

interface PingRow {
  readonly unit: string;
  readonly hash: string;
  readonly address: string;
  readonly probe: RegisteredUnit['probe'];
  readonly key_version: number;
  readonly connectivity: UnitState['connectivity']['status'];
  readonly recorded_epoch: string | null;
  readonly recorded_seq: number;
  readonly in_use: boolean;
}

/**
 * Reads the units whose log the fetch worker may have to fetch. A page holds only units of `delivery: "fetch"`, units that answered
 * no ping within `PINGED_WITHIN_MS`, units that reported more events than are recorded, and units with a gap; a query by name
 * returns every unit in use.
 *
 * @returns for each unit `recorded`, the last place of its log that the platform stored, and `reported`, the last place that the
 *   unit named in a ping or heartbeat; each is undefined until there is one. `lastPingAnsweredAtMs`: milliseconds since 1970
 */
export async function fetchTargets({ sql, servingRuns }: ReadModels, query: UnitQuery) {
  const { schema } = await servingRuns.find('units');
  const mayBeDue = sql.part`(u.delivery = 'fetch' or u.has_gap
    or coalesce(t.answered_at <= now() - ${interval(sql, PINGED_WITHIN_MS)}, true)
    or t.epoch is distinct from u.recorded_epoch or t.last_seq > u.recorded_seq)`;
  const rows = await sql<FetchRow[]>`
    select u.unit, u.delivery, u.connectivity = 'online' as online, t.answered_at, u.has_gap,
      u.recorded_epoch, u.recorded_seq, t.epoch as reported_epoch, t.last_seq as reported_seq
    from ${sql(`${schema}.unit`)} u left join platform.unit_telemetry t on t.unit = u.unit
    where not u.retired and not u.credentials_revoked and ${selected(sql, query)}
      and ${'names' in query ? sql.part`true` : mayBeDue}
    order by u.unit ${limited(sql, query)}`;
  return rows.map((row) => ({
    name: row.unit,
    delivery: row.delivery,
    online: row.online,
    lastPingAnsweredAtMs: row.answered_at?.getTime(),
    hasGap: row.has_gap,
    recorded: row.recorded_epoch === null ? undefined : { epoch: row.recorded_epoch, seq: row.recorded_seq },
    reported: row.reported_epoch === null ? undefined : { epoch: row.reported_epoch, seq: row.reported_seq ?? 0 },
  }));
}

interface FetchRow {
  readonly unit: string;
  readonly delivery: RegisteredUnit['delivery'];
  readonly online: boolean;
  readonly answered_at: Date | null;
  readonly has_gap: boolean;
  readonly recorded_epoch: string | null;
  readonly recorded_seq: number;
  readonly reported_epoch: string | null;
  readonly reported_seq: number | null;
}

/**
 * Reads the units that report another configuration than is recorded of them. A unit reports the hash of its configuration in pings
 * and heartbeats. Either it reports another hash than the desired one, which is recorded as applied or is pending, or it reports
 * the desired hash, which is not recorded as applied.
 *
 * @returns for each unit the reported hash, when the unit reported it (`atMs`, milliseconds since 1970), and whether the report is
 *   recent enough to count (`isConclusive`): a report that may have been sent before the last proof or before the change says nothing
 */
export async function configurationReports({ sql, servingRuns }: ReadModels, query: UnitQuery) {
  const { schema } = await servingRuns.find('units');
  const isDesired = sql.part`left(t.configuration_hash, ${SHORT_HASH_LENGTH}) = left(u.wanted_hash, ${SHORT_HASH_LENGTH})`;
  const sinceProof = sql.part`coalesce(u.reported_at + ${interval(sql, REPORT_TOLERANCE_MS)}, '-infinity')`;
  const rows = await sql<ReportRow[]>`
    select u.unit, t.configuration_hash, t.configuration_hash_at,
      t.configuration_hash_at > case when ${isDesired} then u.wanted_at else ${sinceProof} end as is_conclusive
    from ${sql(`${schema}.unit`)} u join platform.unit_telemetry t on t.unit = u.unit
    where not u.retired and t.configuration_hash is not null and ${selected(sql, query)}
      and case when ${isDesired} then u.config_status <> 'applied' else u.config_status in ('applied', 'pending') end
    order by u.unit ${limited(sql, query)}`;
  return rows.map((row) => ({
    name: row.unit,
    hash: row.configuration_hash,
    atMs: row.configuration_hash_at.getTime(),
    isConclusive: row.is_conclusive,
  }));
}

interface ReportRow {
  readonly unit: string;
  readonly configuration_hash: string;
  readonly configuration_hash_at: Date;
  readonly is_conclusive: boolean;
}

import { REPORT_TOLERANCE_MS } from '../../domain/configuration/delivery.ts';
import type { ConfigurationStatus } from '../../domain/configuration/state.ts';
import { SHORT_HASH_LENGTH } from '../../domain/configuration-values.ts';
import type { RegisteredUnit } from '../../domain/registry/registry.ts';
import { detailsOf } from '../../domain/unit/details.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { decodeCursor, type Page, toPage } from '../../platform/postgres/cursor.ts';
import type { ReadModels } from '../engine/queries/serving-runs.ts';
import { type StateRow, stateOf } from '../unit-states/unit-states.ts';

/** A unit that answered a ping within this time learns from pings how far its log is recorded. */
const PING_ACKNOWLEDGEMENT_VALIDITY = '10 minutes';
const MS_PER_S = 1_000;

export type ShownState = 'never-seen' | 'online' | 'syncing' | 'offline' | 'unknown';
export type UnitSort = 'name' | 'state' | 'lastOnlineAt' | 'lastResponseTimeMs';

/** A row of the grid of units. Times are RFC 3339. */
export interface GridRow {
  readonly name: string;
  readonly displayName: string;
  /** Number of lockers. */
  readonly lockers: number;
  readonly state: ShownState;
  /**
   * Since when the state is unknown: no pinger watches the shard of the unit, or so many units vanished at once that a fault of
   * the network is likelier than a fault of each unit.
   */
  readonly unknownSince: string | null;
  /** Whether the unit went offline and came back so often that the pinger waits longer before it reports the next change. */
  readonly flapping: boolean;
  readonly lastResponseTimeMs: number | null;
  readonly lastOnlineAt: string | null;
  readonly lastConfigPushedAt: string | null;
  readonly configStatus: ConfigurationStatus;
  /** Events in the unit's log that the platform has not recorded yet. */
  readonly backlog: number;
  /** By how much the unit's clock is ahead of the platform's; null until a ping or a heartbeat has measured it. */
  readonly clockOffsetMs: number | null;
  /** Whether the offset exceeds the tolerance; ingest then stamps the unit's events with the offset. */
  readonly clockWrong: boolean;
}

export interface UnitFilter {
  /** Part of the name or of the display name; upper and lower case are equal. */
  readonly q?: string;
  readonly state?: ShownState;
  /** Prefix of the hash of the unit's name. */
  readonly shard?: string;
}

interface Row {
  readonly unit: string;
  readonly display_name: string;
  readonly lockers: number;
  readonly shown_state: ShownState;
  readonly unknown_since: Date | null;
  readonly flapping: boolean;
  readonly last_response_ms: number | null;
  readonly last_online_at: Date | null;
  readonly config_status: ConfigurationStatus;
  readonly pushed_at: Date | null;
  readonly backlog: number;
  readonly clock_offset_ms: number | null;
  readonly clock_wrong: boolean;
}

/** Reads a page of the grid, without retired units. @throws CursorError when the cursor belongs to another list */
export async function listUnits(
  { sql, servingRuns }: ReadModels,
  query: UnitFilter & {
    readonly sort?: UnitSort;
    readonly limit: number;
    readonly cursor?: string;
    readonly count?: boolean;
  },
): Promise<Page<GridRow>> {
  const { limit, cursor, sort = 'name', count = false } = query;
  const { schema } = await servingRuns.find('units');
  const rows = grid(sql, schema);
  const where = condition(sql, query);
  const after = cursor === undefined ? sql.part`` : afterCursor(sql, sort, cursor);
  const page = await sql<(Row & { readonly key: string | number | null })[]>`
    select *, ${sortKey(sql, sort)} as key from (${rows}) grid
    where ${where} ${after}
    order by ${sort === 'name' ? sql.part`unit` : sql.part`${sortKey(sql, sort)}, unit`}
    limit ${limit + 1}`;
  const total = count ? await countOf(sql, rows, where) : undefined;
  return toPage(page, limit, toGridRow, ({ key, unit }) => (sort === 'name' ? [unit] : [key, unit]), total);
}

export interface UnitSelection extends Pick<UnitFilter, 'state' | 'shard'> {
  readonly names?: readonly string[];
  /** A selected unit has every one of these tags. */
  readonly tags?: readonly string[];
}

/**
 * Reads the names of the units in use that match the whole selection, at most `limit`. Where the selection names units, they
 * keep that order. Otherwise units are ordered by the hash of their name, which spreads units with similar names.
 */
export async function selectUnits(
  { sql, servingRuns }: ReadModels,
  selection: UnitSelection,
  limit: number,
): Promise<string[]> {
  const { names, tags, state, shard } = selection;
  const { schema } = await servingRuns.find('units');
  const filter = { ...(state === undefined ? {} : { state }), ...(shard === undefined ? {} : { shard }) };
  const named = sql.part`array_position(${names ?? []}::text[], unit)`;
  const rows = await sql<{ unit: string }[]>`
    select unit from (${grid(sql, schema)}) grid
    where ${condition(sql, filter)}
      and ${names === undefined ? sql.part`true` : sql.part`unit = any(${names}::text[])`}
      and ${
        tags === undefined
          ? sql.part`true`
          : sql.part`exists (
              select from ${sql(`${schema}.unit_state`)} s
              where s.unit = grid.unit and (s.registry -> 'tags')::jsonb ?& ${tags}::text[])`
      }
    order by ${names === undefined ? sql.part`hash` : named} limit ${limit}`;
  return rows.map(({ unit }) => unit);
}

/** Reads one unit with its lockers, retired or not. @returns undefined when no unit has this name */
export async function getUnit({ sql, servingRuns }: ReadModels, name: string) {
  const { schema } = await servingRuns.find('units');
  const [row] = await sql<(Row & StateRow)[]>`
    select grid.*, s.registry, s.configuration, s.connectivity, s.booking, s.device, s.log, s.sequences
    from (${grid(sql, schema, name)}) grid join ${sql(`${schema}.unit_state`)} s using (unit)`;
  if (row === undefined) return undefined;
  const state = stateOf(row.unit, row);
  return state.registry.status === 'unregistered'
    ? undefined
    : { ...toGridRow(row), ...detailsOf(state, state.registry) };
}

/**
 * Reads a page of the units that changed after the position `since`, ordered by name.
 *
 * @returns `targets`: each changed unit; `inUse` is false for a retired unit and for one whose credentials are revoked, and
 *   the pinger then stops pinging it. `completeTo`: the read model shows every change up to this position.
 */
export async function pingTargets(
  { sql, servingRuns }: ReadModels,
  {
    since,
    afterName,
    limit,
  }: { readonly since: number; readonly afterName: string | undefined; readonly limit: number },
) {
  const { runId, schema } = await servingRuns.find('units');
  // The checkpoints are read before the rows: a change that the projection applies in between is then read again next time.
  const [lanes] = await sql<{ complete_to: number | null }[]>`
    select min(position) as complete_to from platform.projection_checkpoints where run_id = ${runId}`;
  const rows = await sql<PingRow[]>`
    select u.unit, u.hash, u.address, u.probe, u.key_version, u.connectivity, u.recorded_epoch, u.recorded_seq,
      not u.retired and not u.credentials_revoked as in_use
    from ${sql(`${schema}.unit`)} u join ${sql(`${schema}.unit_state`)} s using (unit)
    where s.position > ${since} and u.unit > ${afterName ?? ''} order by u.unit limit ${limit}`;
  const targets = rows.map((row) => ({
    name: row.unit,
    hash: row.hash,
    address: row.address,
    probe: row.probe,
    keyVersion: row.key_version,
    connectivity: row.connectivity,
    inUse: row.in_use,
    ...(row.recorded_epoch === null ? {} : { recorded: { epoch: row.recorded_epoch, seq: row.recorded_seq } }),
  }));
  return { targets, completeTo: lanes?.complete_to ?? 0 };
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
 * Reads a page of the units whose log the fetch worker may have to fetch, ordered by name: units of `delivery: "fetch"`, units
 * that answered no ping lately, units that reported more events than are recorded, and units with a gap.
 *
 * @returns for each unit `recorded`, the last place of its log that the platform stored, and `reported`, the last place that
 *   the unit named in a ping or heartbeat; each is undefined until there is one.
 */
export async function fetchTargets(
  { sql, servingRuns }: ReadModels,
  { afterName, limit }: { readonly afterName: string | undefined; readonly limit: number },
) {
  const { schema } = await servingRuns.find('units');
  const rows = await sql<FetchRow[]>`
    select u.unit, u.delivery, u.connectivity = 'online' as online, coalesce(t.answered_at > now() - ${PING_ACKNOWLEDGEMENT_VALIDITY}::interval, false) as pinged, u.has_gap,
      u.recorded_epoch, u.recorded_seq, t.epoch as reported_epoch, t.last_seq as reported_seq
    from ${sql(`${schema}.unit`)} u left join platform.unit_telemetry t on t.unit = u.unit
    where not u.retired and not u.credentials_revoked and u.unit > ${afterName ?? ''}
      and (u.delivery = 'fetch' or coalesce(t.answered_at <= now() - ${PING_ACKNOWLEDGEMENT_VALIDITY}::interval, true) or u.has_gap
        or t.epoch is distinct from u.recorded_epoch or t.last_seq > u.recorded_seq)
    order by u.unit limit ${limit}`;
  return rows.map(
    ({ unit, delivery, online, pinged, has_gap, recorded_epoch, recorded_seq, reported_epoch, reported_seq }) => ({
      name: unit,
      delivery,
      online,
      pinged,
      hasGap: has_gap,
      recorded: recorded_epoch === null ? undefined : { epoch: recorded_epoch, seq: recorded_seq },
      reported: reported_epoch === null ? undefined : { epoch: reported_epoch, seq: reported_seq ?? 0 },
    }),
  );
}

interface FetchRow {
  readonly unit: string;
  readonly delivery: RegisteredUnit['delivery'];
  readonly online: boolean;
  readonly pinged: boolean;
  readonly has_gap: boolean;
  readonly recorded_epoch: string | null;
  readonly recorded_seq: number;
  readonly reported_epoch: string | null;
  readonly reported_seq: number | null;
}

/**
 * Reads a page of the units whose reported configuration contradicts the recorded one, ordered by name. A unit reports the
 * hash of its configuration in pings and heartbeats. Either it reports another hash than the desired one, which was recorded
 * as applied or is pending, or it reports the desired hash, which is not recorded as applied.
 *
 * @returns for each unit the reported hash, and when the unit reported it (milliseconds since 1970)
 */
export async function configurationReports(
  { sql, servingRuns }: ReadModels,
  { afterName, limit }: { readonly afterName: string | undefined; readonly limit: number },
) {
  const { schema } = await servingRuns.find('units');
  const tolerance = sql.part`make_interval(secs => ${REPORT_TOLERANCE_MS / MS_PER_S}::double precision)`;
  const rows = await sql<{ unit: string; configuration_hash: string; configuration_hash_at: Date }[]>`
    select u.unit, t.configuration_hash, t.configuration_hash_at
    from ${sql(`${schema}.unit`)} u join platform.unit_telemetry t on t.unit = u.unit
    where not u.retired and u.unit > ${afterName ?? ''}
      and case when left(t.configuration_hash, ${SHORT_HASH_LENGTH}) = left(u.wanted_hash, ${SHORT_HASH_LENGTH})
        then u.config_status <> 'applied' and t.configuration_hash_at > u.wanted_at
        else u.config_status in ('applied', 'pending')
          and t.configuration_hash_at > coalesce(u.reported_at + ${tolerance}, '-infinity') end
    order by u.unit limit ${limit}`;
  return rows.map(({ unit, configuration_hash, configuration_hash_at }) => ({
    unit,
    hash: configuration_hash,
    atMs: configuration_hash_at.getTime(),
  }));
}

/**
 * Reads the desired configuration of a unit and how far it is delivered.
 *
 * @returns `report`: the hash that the unit reported last in a ping or heartbeat; undefined when no unit has this name
 */
export async function unitConfiguration({ sql, servingRuns }: ReadModels, unit: string) {
  const { schema } = await servingRuns.find('units');
  const [row] = await sql<
    (StateRow & { readonly configuration_hash: string | null; readonly configuration_hash_at: Date | null })[]
  >`
    select s.registry, s.configuration, s.connectivity, s.booking, s.device, s.log, s.sequences,
      t.configuration_hash, t.configuration_hash_at
    from ${sql(`${schema}.unit_state`)} s left join platform.unit_telemetry t on t.unit = s.unit
    where s.unit = ${unit}`;
  if (row === undefined) return undefined;
  const { configuration_hash: hash, configuration_hash_at: at } = row;
  return {
    state: stateOf(unit, row),
    report: hash === null || at === null ? undefined : { hash, at: at.toISOString() },
  };
}

/** Counts the units in use by state. */
export async function stateCounts({ sql, servingRuns }: ReadModels): Promise<Record<string, number>> {
  const { schema } = await servingRuns.find('units');
  const rows = await sql<{ shown_state: ShownState; units: number }[]>`
    select shown_state, count(*)::bigint as units from (${grid(sql, schema)}) grid group by shown_state`;
  return Object.fromEntries(rows.map(({ shown_state, units }) => [shown_state, units]));
}

/**
 * SQL that joins events and telemetry to what the grid shows of a unit. A unit in a shard that no pinger watches is shown as
 * `unknown`, because its recorded connectivity may be out of date.
 */
function grid(sql: Sql, schema: string, unit?: string) {
  const isUnwatched = sql.part`(w.watched_until is null or w.watched_until < now())`;
  const isInOutage = sql.part`(u.connectivity = 'online' and w.outage_since is not null
    and coalesce(t.last_online_at, '-infinity') < w.outage_since)`;
  return sql.part`
    select u.unit, u.hash, u.display_name, u.lockers, u.retired, u.config_status, u.pushed_at,
      t.last_response_ms, t.last_online_at, t.clock_offset_ms,
      coalesce(t.clock_wrong, false) as clock_wrong, coalesce(t.flapping, false) as flapping, b.backlog,
      case
        when u.connectivity = 'never-seen' then u.connectivity
        when ${isUnwatched} or ${isInOutage} then 'unknown'
        when u.connectivity = 'offline' then u.connectivity
        when b.backlog > 0 then 'syncing'
        else 'online'
      end as shown_state,
      case
        when u.connectivity = 'never-seen' then null
        when ${isUnwatched} then coalesce(w.watched_at, u.connectivity_since)
        when ${isInOutage} then w.outage_since
      end as unknown_since
    from ${sql(`${schema}.unit`)} u
    left join platform.unit_telemetry t on t.unit = u.unit
    left join platform.watched_shards w on w.shard = left(u.hash, 2)
    cross join lateral (
      select greatest(0, coalesce(t.last_seq, 0)
        - case when t.epoch = u.recorded_epoch then u.recorded_seq else 0 end)::bigint as backlog
    ) b
    where ${unit === undefined ? sql.part`not u.retired` : sql.part`u.unit = ${unit}`}`;
}

function condition(sql: Sql, { q, state, shard }: UnitFilter) {
  const none = sql.part``;
  return sql.part`true
    ${state === undefined ? none : sql.part`and shown_state = ${state}`}
    ${shard === undefined ? none : sql.part`and hash like ${`${shard}%`}`}
    ${q === undefined ? none : sql.part`and (strpos(lower(unit), lower(${q})) > 0 or strpos(lower(display_name), lower(${q})) > 0)`}`;
}

/**
 * The SQL expression that sorts a list before the name. It is never null, so that a cursor can name any row; unknown values
 * sort last.
 */
function sortKey(sql: Sql, sort: UnitSort) {
  switch (sort) {
    case 'name':
      return sql.part`unit`;
    case 'state':
      return sql.part`shown_state`;
    case 'lastOnlineAt':
      return sql.part`coalesce(-extract(epoch from last_online_at)::double precision, 'infinity')`;
    case 'lastResponseTimeMs':
      return sql.part`coalesce(last_response_ms, 'infinity')::double precision`;
  }
}

function afterCursor(sql: Sql, sort: UnitSort, cursor: string) {
  switch (sort) {
    case 'name': {
      const [unit] = decodeCursor(cursor, ['text']);
      return sql.part`and unit > ${unit}`;
    }
    case 'state': {
      const [state, unit] = decodeCursor(cursor, ['text', 'text']);
      return sql.part`and (shown_state, unit) > (${state}, ${unit})`;
    }
    default: {
      // The cursor is JSON, which has no infinity: the cursor carries null in its place.
      const [key, unit] = decodeCursor(cursor, ['number', 'text']);
      return sql.part`and (${sortKey(sql, sort)}, unit) > (${key ?? 'infinity'}::double precision, ${unit})`;
    }
  }
}

async function countOf(sql: Sql, rows: ReturnType<Sql['part']>, where: ReturnType<Sql['part']>): Promise<number> {
  const [row] = await sql<{ total: number }[]>`select count(*)::bigint as total from (${rows}) grid where ${where}`;
  return row?.total ?? 0;
}

function toGridRow(row: Row): GridRow {
  return {
    name: row.unit,
    displayName: row.display_name,
    lockers: row.lockers,
    state: row.shown_state,
    unknownSince: row.unknown_since?.toISOString() ?? null,
    flapping: row.flapping,
    lastResponseTimeMs: row.last_response_ms,
    lastOnlineAt: row.last_online_at?.toISOString() ?? null,
    lastConfigPushedAt: row.pushed_at?.toISOString() ?? null,
    configStatus: row.config_status,
    backlog: row.backlog,
    clockOffsetMs: row.clock_offset_ms,
    clockWrong: row.clock_wrong,
  };
}

import type { ConfigurationStatus } from '../../../domain/configuration/configuration.ts';
import type { Sql } from '../../../platform/postgres/connection.ts';
import { decodeCursor, type Page, toPage } from '../../../platform/postgres/cursor.ts';
import type { ReadModels } from '../../engine/queries/serving-runs.ts';
import { type StateRow, stateOf } from '../../unit-states/state-table.ts';
import { unitDetails } from '../details.ts';

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

/** Reads one unit with its lockers as they are at `nowMs`, retired or not. @returns undefined when no unit has this name */
export async function getUnit({ sql, servingRuns }: ReadModels, name: string, nowMs: number) {
  const { schema } = await servingRuns.find('units');
  const [row] = await sql<(Row & StateRow)[]>`
    select grid.*, s.registry, s.configuration, s.connectivity, s.booking, s.device, s.log, s.sequences
    from (${grid(sql, schema, name)}) grid join ${sql(`${schema}.unit_state`)} s using (unit)`;
  if (row === undefined) return undefined;
  const state = stateOf(row.unit, row);
  return state.registry.status === 'unregistered'
    ? undefined
    : { ...toGridRow(row), ...unitDetails(state, state.registry, nowMs) };
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
    -- The telemetry of a unit that was never seen is that of a former unit with its name.
    left join platform.unit_telemetry t on t.unit = u.unit and u.connectivity <> 'never-seen'
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

import { REPORT_TOLERANCE_MS } from '../../domain/configuration/delivery.ts';
import type { ConfigurationStatus } from '../../domain/configuration/state.ts';
import { SHORT_HASH_LETTERS } from '../../domain/configuration-values.ts';
import type { RegisteredUnit } from '../../domain/registry/registry.ts';
import { detailsOf } from '../../domain/unit/details.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { decodeCursor, type Page, toPage } from '../../platform/postgres/cursor.ts';
import { servingRun } from '../engine/serving.ts';
import { type StateRow, stateOf } from '../unit-states.ts';

/** A unit that answered a ping so lately is told by pings what is recorded. */
const PINGS_COUNT_FOR = '10 minutes';
const MS_PER_S = 1_000;

export type ShownState = 'never-seen' | 'online' | 'syncing' | 'offline' | 'unknown';
export type UnitSort = 'name' | 'state' | 'lastOnlineAt' | 'lastResponseTimeMs';

/** A row of the grid. Times are RFC 3339. */
export interface GridRow {
  readonly name: string;
  readonly displayName: string;
  /** How many. */
  readonly lockers: number;
  readonly state: ShownState;
  /** Since when nobody knows: nobody looks, or too many vanish at once for it to be them. */
  readonly unknownSince: string | null;
  /** Whether it goes offline and comes back too often to be believed at once. */
  readonly flapping: boolean;
  readonly lastResponseTimeMs: number | null;
  readonly lastOnlineAt: string | null;
  readonly lastConfigPushedAt: string | null;
  readonly configStatus: ConfigurationStatus;
  /** Events at the unit that are not recorded yet. */
  readonly backlog: number;
  /** By how much the unit's clock is ahead, null when nobody has heard it. */
  readonly clockOffsetMs: number | null;
  /** Whether that is more than is tolerated: its events then carry the offset. */
  readonly clockWrong: boolean;
}

export interface UnitFilter {
  /** Part of the name or of the display name, in any case. */
  readonly q?: string;
  readonly state?: ShownState;
  /** Prefix of the hash of the name. */
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

/** A page of the grid; retired units are not in it. @throws CursorError */
export async function listUnits(
  sql: Sql,
  query: UnitFilter & {
    readonly sort?: UnitSort;
    readonly limit: number;
    readonly cursor?: string;
    readonly count?: boolean;
  },
): Promise<Page<GridRow>> {
  const { limit, cursor, sort = 'name', count = false } = query;
  const { schema } = await servingRun(sql, 'units');
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
  /** All of them. */
  readonly tags?: readonly string[];
}

/**
 * Names of the units in use for which all of this holds, `limit` at most: those that are named in their order, others in that of
 * their hashes, so that neighbours by name do not stand together.
 */
export async function selectUnits(sql: Sql, selection: UnitSelection, limit: number): Promise<string[]> {
  const { names, tags, state, shard } = selection;
  const { schema } = await servingRun(sql, 'units');
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

/** One unit with its lockers, retired or not; `undefined` when there is none. */
export async function getUnit(sql: Sql, name: string) {
  const { schema } = await servingRun(sql, 'units');
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
 * Units that changed after the position `since`, in the order of their names, and whether they are to be pinged: neither
 * retired ones nor those whose credentials are revoked. `completeTo`: every change up to that position can be seen.
 */
export async function pingTargets(
  sql: Sql,
  {
    since,
    afterName,
    limit,
  }: { readonly since: number; readonly afterName: string | undefined; readonly limit: number },
) {
  const { runId, schema } = await servingRun(sql, 'units');
  // First: what is applied while the rows are read is read again the next time.
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
 * Units that may have to be asked for their log, in the order of their names: those that wait to be asked, those that are not
 * pinged, and those that push and say more than is recorded, or of which something is missing.
 */
export async function fetchTargets(
  sql: Sql,
  { afterName, limit }: { readonly afterName: string | undefined; readonly limit: number },
) {
  const { schema } = await servingRun(sql, 'units');
  const rows = await sql<FetchRow[]>`
    select u.unit, u.delivery, u.connectivity = 'online' as online, coalesce(t.answered_at > now() - ${PINGS_COUNT_FOR}::interval, false) as pinged, u.has_gap,
      u.recorded_epoch, u.recorded_seq, t.epoch as reported_epoch, t.last_seq as reported_seq
    from ${sql(`${schema}.unit`)} u left join platform.unit_telemetry t on t.unit = u.unit
    where not u.retired and not u.credentials_revoked and u.unit > ${afterName ?? ''}
      and (u.delivery = 'fetch' or coalesce(t.answered_at <= now() - ${PINGS_COUNT_FOR}::interval, true) or u.has_gap
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
 * Units in use that say in pings or heartbeats that they run something else than is believed of them, in the order of their
 * names: another configuration than the wanted one though it was applied, or the wanted one though nobody knows yet.
 */
export async function configurationReports(
  sql: Sql,
  { afterName, limit }: { readonly afterName: string | undefined; readonly limit: number },
) {
  const { schema } = await servingRun(sql, 'units');
  const tolerance = sql.part`make_interval(secs => ${REPORT_TOLERANCE_MS / MS_PER_S}::double precision)`;
  const rows = await sql<{ unit: string; configuration_hash: string; configuration_hash_at: Date }[]>`
    select u.unit, t.configuration_hash, t.configuration_hash_at
    from ${sql(`${schema}.unit`)} u join platform.unit_telemetry t on t.unit = u.unit
    where not u.retired and u.unit > ${afterName ?? ''}
      and case when left(t.configuration_hash, ${SHORT_HASH_LETTERS}) = left(u.wanted_hash, ${SHORT_HASH_LETTERS})
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

/** What is wanted on a unit and how far it is there; `undefined` when there is no such unit. */
export async function unitConfiguration(sql: Sql, unit: string) {
  const { schema } = await servingRun(sql, 'units');
  const [row] = await sql<
    (StateRow & { readonly configuration_hash: string | null; readonly configuration_hash_at: Date | null })[]
  >`
    select s.registry, s.configuration, s.connectivity, s.booking, s.device, s.log, s.sequences,
      t.configuration_hash, t.configuration_hash_at
    from ${sql(`${schema}.unit_state`)} s left join platform.unit_telemetry t on t.unit = s.unit
    where s.unit = ${unit}`;
  if (row === undefined) return undefined;
  const { configuration_hash: hash, configuration_hash_at: at } = row;
  return { state: stateOf(unit, row), told: hash === null || at === null ? undefined : { hash, at: at.toISOString() } };
}

/** How many units in use are in each state. */
export async function stateCounts(sql: Sql): Promise<Record<string, number>> {
  const { schema } = await servingRun(sql, 'units');
  const rows = await sql<{ shown_state: ShownState; units: number }[]>`
    select shown_state, count(*)::bigint as units from (${grid(sql, schema)}) grid group by shown_state`;
  return Object.fromEntries(rows.map(({ shown_state, units }) => [shown_state, units]));
}

/** What is shown of a unit, as a table: events and telemetry together, as far as somebody watches its shard. */
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

/** What a list is sorted by before the name. Never null, so that a cursor can stand anywhere; unknown values come last. */
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
      // JSON has no infinity: it travels as null.
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

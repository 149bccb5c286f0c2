import type { ChangeMode, ConfigurationStatus } from '../../domain/configuration/configuration.ts';
import { type ConfigurationDifference, configurationDiff } from '../../domain/configuration/diff.ts';
import type { RolloutUnitStatus } from '../../domain/configuration/rollout.ts';
import type { ConfigurationValues } from '../../domain/configuration-values.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { decodeCursor, type Page, toPage } from '../../platform/postgres/cursor.ts';
import type { ReadModels } from '../engine/queries/serving-runs.ts';

/** A version of the configuration that was desired on a unit. Times are RFC 3339. */
export interface ConfigurationVersion {
  readonly version: number;
  readonly hash: string;
  /** Null for the version with which the unit was registered. */
  readonly mode: ChangeMode | null;
  readonly rolloutId: string | null;
  readonly wantedAt: string;
  readonly wantedBy: string;
  /** `replaced`: a newer version is desired, and the unit never proved that it runs this one. */
  readonly status: ConfigurationStatus | 'replaced';
  readonly reason: string | null;
  /** When the unit first proved that it runs this version. */
  readonly appliedAt: string | null;
  /** Differences to the version before; empty for the first version. */
  readonly changes: readonly ConfigurationDifference[];
}

interface VersionRow {
  readonly version: number;
  readonly hash: string;
  readonly values: ConfigurationValues;
  readonly mode: ChangeMode | null;
  readonly rollout: string | null;
  readonly wanted_at: Date;
  readonly wanted_by: string;
  readonly status: ConfigurationStatus;
  readonly reason: string | null;
  readonly applied_at: Date | null;
  readonly is_last: boolean;
  readonly former: ConfigurationValues | null;
}

/** Reads a page of the versions of a unit since its registration, the newest first. @throws CursorError */
export async function configurationVersions(
  { sql, servingRuns }: ReadModels,
  { unit, limit, cursor, count = false }: VersionQuery,
): Promise<Page<ConfigurationVersion>> {
  const { schema } = await servingRuns.find('configuration');
  const [before] = cursor === undefined ? [] : decodeCursor(cursor, ['int4']);
  const rows = await sql<VersionRow[]>`
    ${versionsOf(sql, schema, unit)}
    and ${before === undefined ? sql.part`true` : sql.part`v.version < ${before}`}
    order by v.version desc limit ${limit + 1}`;
  const [counted] = count
    ? await sql<{ total: number }[]>`
        select count(*)::bigint as total from ${sql(`${schema}.version`)}
        where unit = ${unit} and version >= ${firstVersion(sql, schema, unit)}`
    : [];
  return toPage(rows, limit, toVersion, ({ version }) => [version], counted?.total);
}

interface VersionQuery {
  readonly unit: string;
  readonly limit: number;
  readonly cursor?: string;
  readonly count?: boolean;
}

/** Reads one version with its values. @returns undefined when the unit, or a version since its registration, does not exist */
export async function configurationVersion(
  { sql, servingRuns }: ReadModels,
  unit: string,
  version: number,
): Promise<(ConfigurationVersion & { readonly values: ConfigurationValues }) | undefined> {
  const { schema } = await servingRuns.find('configuration');
  const [row] = await sql<VersionRow[]>`${versionsOf(sql, schema, unit)} and v.version = ${version}`;
  return row === undefined ? undefined : { ...toVersion(row), values: row.values };
}

/** Whether a unit was ever registered. */
export async function isConfigured({ sql, servingRuns }: ReadModels, unit: string): Promise<boolean> {
  const { schema } = await servingRuns.find('configuration');
  return (await sql`select from ${sql(`${schema}.version`)} where unit = ${unit} limit 1`).length > 0;
}

/**
 * SQL for the version with which the unit was registered, which has no mode. Earlier versions are those of a retired unit that had the
 * name; versions go on, so that each has one number.
 */
function firstVersion(sql: Sql, schema: string, unit: string) {
  return sql.part`(
    select max(r.version) from ${sql(`${schema}.version`)} r where r.unit = ${unit} and r.mode is null)`;
}

function versionsOf(sql: Sql, schema: string, unit: string) {
  const table = sql(`${schema}.version`);
  const first = firstVersion(sql, schema, unit);
  return sql.part`
    select v.version, v.hash, v.values, v.mode, v.rollout, v.wanted_at, v.wanted_by, v.status, v.reason, v.applied_at,
      not exists (select from ${table} n where n.unit = v.unit and n.version > v.version) as is_last, f.values as former
    from ${table} v left join ${table} f on f.unit = v.unit and f.version = v.version - 1 and v.mode is not null
    where v.unit = ${unit} and v.version >= ${first}`;
}

function toVersion(row: VersionRow): ConfigurationVersion {
  const isReplaced = !row.is_last && row.status !== 'applied' && row.status !== 'rejected' && row.applied_at === null;
  return {
    version: row.version,
    hash: row.hash,
    mode: row.mode,
    rolloutId: row.rollout,
    wantedAt: row.wanted_at.toISOString(),
    wantedBy: row.wanted_by,
    status: isReplaced ? 'replaced' : row.status,
    reason: row.reason,
    appliedAt: row.applied_at?.toISOString() ?? null,
    changes: row.former === null ? [] : configurationDiff(row.former, row.values),
  };
}

/** What became of a push, or what a report of the unit proved. */
export type PushOutcome = 'applied' | 'reported' | 'drifted' | 'rejected' | 'failed';

interface AttemptRow {
  readonly sequence: number;
  readonly ordinal: number;
  readonly version: number;
  readonly outcome: PushOutcome;
  readonly at: Date;
  readonly attempt: number | null;
  readonly reason: string | null;
  readonly reported_hash: string | null;
  readonly next_attempt_at: Date | null;
}

/** Reads a page of the outcomes of deliveries to a unit since its registration, the newest first. @throws CursorError */
export async function configurationAttempts(
  { sql, servingRuns }: ReadModels,
  { unit, limit, cursor }: { readonly unit: string; readonly limit: number; readonly cursor?: string },
) {
  const { schema } = await servingRuns.find('configuration');
  const [sequence, ordinal] = cursor === undefined ? [] : decodeCursor(cursor, ['integer', 'int4']);
  const after =
    sequence === undefined
      ? sql.part``
      : sql.part`and (sequence, ordinal) < (${sequence}::bigint, ${ordinal ?? 0}::int)`;
  const rows = await sql<AttemptRow[]>`
    select sequence, ordinal, version, outcome, at, attempt, reason, reported_hash, next_attempt_at
    from ${sql(`${schema}.outcome`)}
    where unit = ${unit} and version >= ${firstVersion(sql, schema, unit)} ${after}
    order by sequence desc, ordinal desc limit ${limit + 1}`;
  return toPage(rows, limit, toAttempt, (row) => [row.sequence, row.ordinal]);
}

function toAttempt({ at, version, outcome, attempt, reason, reported_hash, next_attempt_at }: AttemptRow) {
  return {
    at: at.toISOString(),
    version,
    outcome,
    attempt,
    reason,
    reportedHash: reported_hash,
    nextAttemptAt: next_attempt_at?.toISOString() ?? null,
  };
}

/** Counts the units of a rollout by status; a status without units is missing. */
export async function rolloutCounts(
  { sql, servingRuns }: ReadModels,
  id: string,
): Promise<Partial<Record<RolloutUnitStatus, number>>> {
  const { schema } = await servingRuns.find('configuration');
  const rows = await sql<{ status: RolloutUnitStatus; units: number }[]>`
    select status, count(*)::bigint as units from (${rolloutTable(sql, schema, id)}) u group by status`;
  return Object.fromEntries(rows.map(({ status, units }) => [status, units]));
}

interface RolloutUnitRow {
  readonly ordinal: number;
  readonly unit: string;
  readonly version: number | null;
  readonly status: RolloutUnitStatus;
  readonly reason: string | null;
  readonly attempts: number | null;
  readonly started_at: Date | null;
  readonly next_attempt_at: Date | null;
  readonly applied_at: Date | null;
}

/** Reads a page of the units of a rollout, in the order in which the rollout starts them. @throws CursorError */
export async function rolloutUnits(
  { sql, servingRuns }: ReadModels,
  query: { readonly id: string; readonly status?: RolloutUnitStatus; readonly limit: number; readonly cursor?: string },
) {
  const { id, status, limit, cursor } = query;
  const { schema } = await servingRuns.find('configuration');
  const [after = 0] = cursor === undefined ? [] : decodeCursor(cursor, ['int4']);
  const rows = await sql<RolloutUnitRow[]>`
    select * from (${rolloutTable(sql, schema, id)}) u
    where ordinal > ${after} and ${status === undefined ? sql.part`true` : sql.part`status = ${status}`}
    order by ordinal limit ${limit + 1}`;
  return toPage(rows, limit, toRolloutUnit, ({ ordinal }) => [ordinal]);
}

function toRolloutUnit({
  unit,
  version,
  status,
  reason,
  attempts,
  started_at,
  next_attempt_at,
  applied_at,
}: RolloutUnitRow) {
  return {
    unit,
    version,
    status,
    reason,
    attempts: attempts ?? 0,
    startedAt: started_at?.toISOString() ?? null,
    nextAttemptAt: next_attempt_at?.toISOString() ?? null,
    appliedAt: applied_at?.toISOString() ?? null,
  };
}

/**
 * Reads the units on which the version of a rollout is desired and not proved, in the order of the rollout.
 *
 * @returns for each unit `former`, the values that were desired before
 */
export async function unprovedRolloutUnits({ sql, servingRuns }: ReadModels, id: string, limit: number) {
  const { schema } = await servingRuns.find('configuration');
  return sql<{ ordinal: number; unit: string; version: number; former: ConfigurationValues }[]>`
    select u.ordinal, u.unit, u.version, f.values as former
    from (${rolloutTable(sql, schema, id)}) u
    join ${sql(`${schema}.version`)} f on f.unit = u.unit and f.version = u.version - 1
    where u.status in ('pending', 'queued', 'failed', 'rejected') order by u.ordinal limit ${limit}`;
}

/** SQL for the units of a rollout with the status of each. */
function rolloutTable(sql: Sql, schema: string, id: string) {
  const versions = sql(`${schema}.version`);
  return sql.part`
    select u.ordinal, u.unit, u.version, u.started_at, coalesce(u.skipped, v.reason) as reason, v.attempts, v.next_attempt_at,
      v.applied_at,
      case
        when u.skipped is not null then 'skipped'
        when u.version is null then 'waiting'
        when u.withdrawn_by is not null then 'withdrawn'
        when v.status is null then 'queued'
        when v.applied_at is null and exists (
          select from ${versions} n where n.unit = u.unit and n.version > u.version) then 'replaced'
        -- A unit that is slow or away is not one that failed: the push is repeated.
        when v.status = 'failed' and v.unanswered then 'pending'
        else v.status
      end as status
    from platform.config_rollout_units u
    left join ${versions} v on v.unit = u.unit and v.version = u.version
    where u.rollout_id = ${id}`;
}

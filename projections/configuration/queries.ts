import type { ConfigurationValues } from '../../domain/configuration.ts';
import { type ConfigurationDifference, configurationDiff } from '../../domain/configuration-diff.ts';
import type { ChangeMode, ConfigurationStatus } from '../../domain/configuration-state.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import { decodeCursor, type Page, toPage } from '../../platform/postgres/cursor.ts';
import { servingRun } from '../engine/serving.ts';

/** A version as it was wanted on a unit. Times are RFC 3339. */
export interface ConfigurationVersion {
  readonly version: number;
  readonly hash: string;
  /** Null: the unit was registered with it. */
  readonly mode: ChangeMode | null;
  readonly rolloutId: string | null;
  readonly wantedAt: string;
  readonly wantedBy: string;
  /** `replaced`: a newer one is wanted, and the unit never proved this one. */
  readonly status: ConfigurationStatus | 'replaced';
  readonly reason: string | null;
  /** When the unit first proved that it runs it. */
  readonly appliedAt: string | null;
  /** What it changed of the version before; empty for the first. */
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

/** The versions of a unit, the newest first. @throws CursorError */
export async function configurationVersions(
  sql: Sql,
  { unit, limit, cursor, count = false }: VersionQuery,
): Promise<Page<ConfigurationVersion>> {
  const { schema } = await servingRun(sql, 'configuration');
  const [before] = cursor === undefined ? [] : decodeCursor(cursor, ['integer']);
  const rows = await sql<VersionRow[]>`
    ${versionsOf(sql, schema, unit)}
    and ${before === undefined ? sql.part`true` : sql.part`v.version < ${before}`}
    order by v.version desc limit ${limit + 1}`;
  const [counted] = count
    ? await sql<{ total: number }[]>`
        select count(*)::bigint as total from ${sql(`${schema}.version`)} where unit = ${unit}`
    : [];
  return toPage(rows, limit, toVersion, ({ version }) => [version], counted?.total);
}

interface VersionQuery {
  readonly unit: string;
  readonly limit: number;
  readonly cursor?: string;
  readonly count?: boolean;
}

/** One version with its values; `undefined` when the unit has none of that number. */
export async function configurationVersion(
  sql: Sql,
  unit: string,
  version: number,
): Promise<(ConfigurationVersion & { readonly values: ConfigurationValues }) | undefined> {
  const { schema } = await servingRun(sql, 'configuration');
  const [row] = await sql<VersionRow[]>`${versionsOf(sql, schema, unit)} and v.version = ${version}`;
  return row === undefined ? undefined : { ...toVersion(row), values: row.values };
}

function versionsOf(sql: Sql, schema: string, unit: string) {
  const table = sql(`${schema}.version`);
  return sql.part`
    select v.version, v.hash, v.values, v.mode, v.rollout, v.wanted_at, v.wanted_by, v.status, v.reason, v.applied_at,
      not exists (select from ${table} n where n.unit = v.unit and n.version > v.version) as is_last, f.values as former
    from ${table} v left join ${table} f on f.unit = v.unit and f.version = v.version - 1
    where v.unit = ${unit}`;
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

interface AttemptRow {
  readonly sequence: number;
  readonly ordinal: number;
  readonly version: number;
  readonly outcome: string;
  readonly at: Date;
  readonly attempt: number | null;
  readonly reason: string | null;
  readonly reported_hash: string | null;
  readonly next_attempt_at: Date | null;
}

/** What came of bringing configurations to a unit, the newest first. @throws CursorError */
export async function configurationAttempts(
  sql: Sql,
  { unit, limit, cursor }: { readonly unit: string; readonly limit: number; readonly cursor?: string },
) {
  const { schema } = await servingRun(sql, 'configuration');
  const [sequence, ordinal] = cursor === undefined ? [] : decodeCursor(cursor, ['integer', 'integer']);
  const after = sequence === undefined ? sql.part`` : sql.part`and (sequence, ordinal) < (${sequence}::bigint, ${ordinal ?? 0}::int)`;
  const rows = await sql<AttemptRow[]>`
    select sequence, ordinal, version, outcome, at, attempt, reason, reported_hash, next_attempt_at
    from ${sql(`${schema}.outcome`)} where unit = ${unit} ${after}
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

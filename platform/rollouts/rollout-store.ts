/**
 * Stores rollouts and their progress: the tables `platform.config_rollouts` and `platform.config_rollout_units`. The outcome at each
 * unit is in the events of the unit and in the read model.
 */

import type { AbortThreshold, Pace, RolloutChanges, RolloutStatus } from '../../domain/configuration/rollout.ts';
import type { Sql, Tx } from '../postgres/connection.ts';
import { decodeCursor, type Page, toPage } from '../postgres/cursor.ts';

/** Units that are written in one statement. */
const MAX_ROWS_PER_WRITE = 10_000;

/** A rollout without the outcomes at its units. Times are RFC 3339. */
export interface Rollout {
  readonly id: string;
  readonly createdAt: string;
  readonly createdBy: string;
  readonly selection: object;
  readonly changes: RolloutChanges;
  readonly pace: Pace;
  readonly abortThreshold: AbortThreshold;
  readonly status: RolloutStatus;
  /** When, by whom and why the status was set. */
  readonly statusAt: string;
  readonly statusBy: string;
  readonly statusReason: string | null;
  /** Running time without pauses. */
  readonly ranMs: number;
}

interface Row {
  readonly id: string;
  readonly created_at: Date;
  readonly created_us: number;
  readonly created_by: string;
  readonly selection: object;
  readonly changes: RolloutChanges;
  readonly pace: Pace;
  readonly abort_threshold: AbortThreshold;
  readonly status: RolloutStatus;
  readonly status_at: Date;
  readonly status_by: string;
  readonly status_reason: string | null;
  readonly ran_ms: number;
}

export type NewRollout = Pick<Rollout, 'id' | 'createdBy' | 'selection' | 'changes' | 'pace' | 'abortThreshold'>;

/** Stores a rollout and its units, in the order in which it changes them. A rollout that is stored already stays unchanged. */
export async function createRollout(tx: Tx, rollout: NewRollout, units: readonly string[]): Promise<void> {
  const { id, createdBy, selection, changes, pace, abortThreshold } = rollout;
  const { count } = await tx`
    insert into platform.config_rollouts
      (id, created_by, selection, changes, pace, abort_threshold, status, status_by)
    values (${id}, ${createdBy}, ${tx.json(selection)}, ${tx.json(changes)}, ${tx.json(pace)}, ${tx.json(abortThreshold)},
      'running', ${createdBy})
    on conflict (id) do nothing`;
  if (count === 0) return;
  for (let first = 0; first < units.length; first += MAX_ROWS_PER_WRITE) {
    const page = units.slice(first, first + MAX_ROWS_PER_WRITE);
    await tx`
      insert into platform.config_rollout_units (rollout_id, ordinal, unit)
      select ${id}, ${first}::int + ordinality, unit from unnest(${page}::text[]) with ordinality as page(unit, ordinality)`;
  }
}

export async function getRollout(sql: Sql, id: string): Promise<Rollout | undefined> {
  const [row] = await sql<Row[]>`${rollouts(sql)} where id = ${id}`;
  return row === undefined ? undefined : toRollout(row);
}

/** All rollouts, the newest first. @throws CursorError */
export async function listRollouts(
  sql: Sql,
  { limit, cursor }: { readonly limit: number; readonly cursor?: string },
): Promise<Page<Rollout>> {
  const [createdUs, id] = cursor === undefined ? [] : decodeCursor(cursor, ['integer', 'uuid']);
  const after =
    createdUs === undefined || id === undefined
      ? sql.part`true`
      : sql.part`(created_at, id) < ('epoch'::timestamptz + ${createdUs}::bigint * interval '1 microsecond', ${id}::uuid)`;
  const rows = await sql<Row[]>`${rollouts(sql)} where ${after} order by created_at desc, id desc limit ${limit + 1}`;
  return toPage(rows, limit, toRollout, (row) => [row.created_us, row.id]);
}

/** Lists the ids of running and aborting rollouts. */
export async function listUnfinishedRolloutIds(sql: Sql): Promise<readonly string[]> {
  const rows = await sql<{ id: string }[]>`
    select id from platform.config_rollouts where status in ('running', 'aborting') order by id`;
  return rows.map(({ id }) => id);
}

/**
 * Locks an unfinished rollout until the transaction ends, and adds the time since the last claim to its running time, at most `maxMs`.
 * @returns undefined when another transaction holds the lock, or when the rollout is neither running nor aborting
 */
export async function claimRollout(tx: Tx, id: string, maxMs: number): Promise<Rollout | undefined> {
  const [row] = await tx<Row[]>`${rollouts(tx)}
    where id = ${id} and status in ('running', 'aborting') for update skip locked`;
  if (row === undefined) return undefined;
  const [ran] = await tx<{ ran_ms: number }[]>`
    update platform.config_rollouts set looked_at = clock_timestamp(),
      ran_ms = ran_ms + least(${maxMs}, extract(epoch from clock_timestamp() - looked_at) * 1000)::bigint
    where id = ${id} returning ran_ms`;
  return { ...toRollout(row), ranMs: ran?.ran_ms ?? row.ran_ms };
}

/** Locks a rollout until the transaction ends. */
export async function lockRollout(tx: Tx, id: string): Promise<Rollout | undefined> {
  const [row] = await tx<Row[]>`${rollouts(tx)} where id = ${id} for update`;
  return row === undefined ? undefined : toRollout(row);
}

export async function updateRolloutStatus(
  tx: Tx,
  id: string,
  { status, by, reason }: { readonly status: RolloutStatus; readonly by: string; readonly reason?: string | undefined },
): Promise<void> {
  await tx`
    update platform.config_rollouts
    set status = ${status}, status_at = clock_timestamp(), status_by = ${by}, status_reason = ${reason ?? null},
      -- The running time does not include a pause.
      looked_at = clock_timestamp()
    where id = ${id}`;
}

export interface RolloutUnit {
  readonly ordinal: number;
  readonly unit: string;
}

/** Lists the next units that the rollout has neither started nor skipped. */
export async function listUnstartedUnits(tx: Tx, id: string, limit: number): Promise<readonly RolloutUnit[]> {
  return tx<RolloutUnit[]>`
    select ordinal, unit from platform.config_rollout_units
    where rollout_id = ${id} and started_at is null and skipped is null order by ordinal limit ${limit}`;
}

/** The outcome at a unit: the configuration version that the rollout created, or why it skipped the unit. */
export type StartedUnit = { readonly ordinal: number } & ({ readonly version: number } | { readonly skipped: string });

export async function markUnitsStarted(tx: Tx, id: string, started: readonly StartedUnit[]): Promise<void> {
  if (started.length === 0) return;
  await tx`
    update platform.config_rollout_units u
    set version = s.version, skipped = s.skipped, started_at = clock_timestamp()
    from unnest(
      ${started.map(({ ordinal }) => ordinal)}::int[],
      ${started.map((unit) => ('version' in unit ? unit.version : null))}::int[],
      ${started.map((unit) => ('skipped' in unit ? unit.skipped : null))}::text[]
    ) as s(ordinal, version, skipped)
    where u.rollout_id = ${id} and u.ordinal = s.ordinal`;
}

/** Stores which configuration version replaced that of an aborted rollout at each unit. */
export async function markUnitsWithdrawn(
  tx: Tx,
  id: string,
  withdrawn: readonly { readonly ordinal: number; readonly version: number }[],
): Promise<void> {
  if (withdrawn.length === 0) return;
  await tx`
    update platform.config_rollout_units u set withdrawn_by = w.version
    from unnest(
      ${withdrawn.map(({ ordinal }) => ordinal)}::int[],
      ${withdrawn.map(({ version }) => version)}::int[]
    ) as w(ordinal, version)
    where u.rollout_id = ${id} and u.ordinal = w.ordinal`;
}

function rollouts(sql: Sql) {
  return sql.part`
    select id, created_at, (extract(epoch from created_at) * 1000000)::bigint as created_us, created_by, selection, changes,
      pace, abort_threshold, status, status_at, status_by, status_reason, ran_ms
    from platform.config_rollouts`;
}

function toRollout(row: Row): Rollout {
  return {
    id: row.id,
    createdAt: row.created_at.toISOString(),
    createdBy: row.created_by,
    selection: row.selection,
    changes: row.changes,
    pace: row.pace,
    abortThreshold: row.abort_threshold,
    status: row.status,
    statusAt: row.status_at.toISOString(),
    statusBy: row.status_by,
    statusReason: row.status_reason,
    ranMs: row.ran_ms,
  };
}

/** `configuration`: every version that was desired on a unit, and the outcome of each attempt to deliver it. */

import type { ChangeMode, ConfigurationStatus } from '../../domain/configuration/configuration.ts';
import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import { type KnownEvent, upcast } from '../../domain/events/catalogue.ts';
import type { Aggregate } from '../../domain/events/cloud-event.ts';
import type { Tx } from '../../platform/postgres/connection.ts';
import type { Commit, Projection } from '../engine/projection.ts';
import type { PushOutcome } from './queries.ts';

const FOLLOWED: ReadonlySet<Aggregate> = new Set(['registry', 'config']);

export const configuration: Projection = {
  name: 'configuration',
  version: 2,
  async createTables(tx, schema) {
    await createVersionTable(tx, `${schema}.version`);
    await createOutcomeTable(tx, `${schema}.outcome`);
  },
  async apply(tx, schema, commits) {
    const events = commits.filter(({ aggregate }) => FOLLOWED.has(aggregate)).flatMap(placedEvents);
    if (events.length === 0) return;
    await saveVersions(tx, `${schema}.version`, events);
    await saveOutcomes(tx, `${schema}.outcome`, events);
  },
};

async function createVersionTable(tx: Tx, name: string): Promise<void> {
  const table = tx(name);
  await tx`
    create table ${table} (
      unit text not null,
      version int not null,
      hash text not null,
      values json not null,
      -- Null for the version with which the unit was registered.
      mode text,
      -- Id of the rollout that created the version.
      rollout text,
      wanted_at timestamptz not null,
      wanted_by text not null,
      status text not null,
      attempts int not null,
      reason text,
      -- Whether the last push failed because the unit did not answer.
      unanswered boolean not null,
      next_attempt_at timestamptz,
      -- When the unit first proved that it runs this version.
      applied_at timestamptz,
      primary key (unit, version)
    ) with (fillfactor = 80)`;
}

async function createOutcomeTable(tx: Tx, name: string): Promise<void> {
  await tx`
    create table ${tx(name)} (
      unit text not null,
      sequence bigint not null,
      ordinal int not null,
      version int not null,
      outcome text not null,
      at timestamptz not null,
      attempt int,
      reason text,
      reported_hash text,
      next_attempt_at timestamptz,
      primary key (unit, sequence, ordinal)
    )`;
}

/** An event with its place in the event store. */
interface PlacedEvent {
  readonly unit: string;
  readonly sequence: number;
  readonly ordinal: number;
  readonly event: KnownEvent;
}

function placedEvents({ unit, sequence, events }: Commit): PlacedEvent[] {
  return events.flatMap((stored, ordinal) => {
    const event = upcast(stored);
    return event === undefined ? [] : [{ unit, sequence, ordinal, event }];
  });
}

interface VersionRow {
  readonly unit: string;
  readonly version: number;
  /** Present when the batch holds the event that desired the version. */
  readonly desired?: {
    readonly configuration: VersionedConfiguration;
    readonly mode: ChangeMode | null;
    readonly rollout: string | null;
    readonly at: string;
    readonly by: string;
  };
  readonly status: ConfigurationStatus;
  readonly attempts: number;
  readonly reason: string | null;
  readonly unanswered: boolean;
  readonly nextAttemptAt: string | null;
  readonly appliedAt: string | null;
}

/** Applies the events of a batch to the rows of their versions. Columns that no event of the batch concerns keep their value. */
async function saveVersions(tx: Tx, table: string, events: readonly PlacedEvent[]): Promise<void> {
  const rows = new Map<string, VersionRow>();
  for (const { unit, event } of events) {
    const version = versionOf(event);
    if (version === undefined) continue;
    const key = `${unit} ${version}`;
    const row = withEvent(rows.get(key) ?? { ...NEW_ROW, unit, version }, event);
    rows.set(key, row);
  }
  const all = [...rows.values()];
  await insertVersions(
    tx,
    table,
    all.filter(({ desired }) => desired !== undefined),
  );
  await updateVersions(
    tx,
    table,
    all.filter(({ desired }) => desired === undefined),
  );
}

const NEW_ROW = {
  status: 'pending',
  attempts: 0,
  reason: null,
  unanswered: false,
  nextAttemptAt: null,
  appliedAt: null,
} as const;

function versionOf(event: KnownEvent): number | undefined {
  switch (event.type) {
    case 'UnitRegistered':
      return event.data.configuration.version;
    case 'ConfigurationChanged':
    case 'ConfigurationApplied':
    case 'ConfigurationRejected':
    case 'ConfigurationPushFailed':
    case 'ConfigurationDrifted':
      return event.data.version;
    default:
      return undefined;
  }
}

function withEvent(row: VersionRow, event: KnownEvent): VersionRow {
  const ended = { ...row, attempts: 0, reason: null, unanswered: false, nextAttemptAt: null };
  switch (event.type) {
    case 'UnitRegistered':
      return { ...row, desired: desiredBy(event, event.data.configuration, null) };
    case 'ConfigurationChanged': {
      const { mode } = event.data;
      const status = mode === 'live' ? 'pending' : 'queued';
      return { ...row, status, desired: desiredBy(event, event.data, mode) };
    }
    case 'ConfigurationApplied':
      return { ...ended, status: 'applied', appliedAt: row.appliedAt ?? event.time };
    case 'ConfigurationRejected':
      return { ...ended, status: 'rejected', reason: event.data.reason };
    case 'ConfigurationDrifted':
      return { ...ended, status: 'drifted' };
    case 'ConfigurationPushFailed': {
      const { attempt, reason, unanswered = false, nextAttemptAt = null } = event.data;
      return { ...row, status: 'failed', attempts: attempt, reason, unanswered, nextAttemptAt };
    }
    default:
      return row;
  }
}

function desiredBy(
  { time, actor = '', correlationid }: KnownEvent,
  { version, hash, values }: VersionedConfiguration,
  mode: ChangeMode | null,
): NonNullable<VersionRow['desired']> {
  return { configuration: { version, hash, values }, mode, rollout: correlationid ?? null, at: time, by: actor };
}

async function insertVersions(tx: Tx, table: string, rows: readonly VersionRow[]): Promise<void> {
  if (rows.length === 0) return;
  const column = <T>(value: (row: VersionRow) => T): T[] => rows.map(value);
  await tx`
    insert into ${tx(table)} (unit, version, hash, values, mode, rollout, wanted_at, wanted_by, status, attempts, reason,
      unanswered, next_attempt_at, applied_at)
    select unit, version, hash, values::json, mode, rollout, wanted_at, wanted_by, status, attempts, reason,
      unanswered, next_attempt_at, applied_at
    from unnest(
      ${column(({ unit }) => unit)}::text[],
      ${column(({ version }) => version)}::int[],
      ${column(({ desired }) => desired?.configuration.hash ?? null)}::text[],
      ${column(({ desired }) => JSON.stringify(desired?.configuration.values))}::text[],
      ${column(({ desired }) => desired?.mode ?? null)}::text[],
      ${column(({ desired }) => desired?.rollout ?? null)}::text[],
      ${column(({ desired }) => desired?.at ?? null)}::timestamptz[],
      ${column(({ desired }) => desired?.by ?? null)}::text[],
      ${column(({ status }) => status)}::text[],
      ${column(({ attempts }) => attempts)}::int[],
      ${column(({ reason }) => reason)}::text[],
      ${column(({ unanswered }) => unanswered)}::boolean[],
      ${column(({ nextAttemptAt }) => nextAttemptAt)}::timestamptz[],
      ${column(({ appliedAt }) => appliedAt)}::timestamptz[]
    ) as batch (unit, version, hash, values, mode, rollout, wanted_at, wanted_by, status, attempts, reason,
      unanswered, next_attempt_at, applied_at)`;
}

async function updateVersions(tx: Tx, table: string, rows: readonly VersionRow[]): Promise<void> {
  if (rows.length === 0) return;
  const column = <T>(value: (row: VersionRow) => T): T[] => rows.map(value);
  await tx`
    update ${tx(table)} known set status = batch.status, attempts = batch.attempts, reason = batch.reason,
      unanswered = batch.unanswered, next_attempt_at = batch.next_attempt_at, applied_at = coalesce(known.applied_at, batch.applied_at)
    from unnest(
      ${column(({ unit }) => unit)}::text[],
      ${column(({ version }) => version)}::int[],
      ${column(({ status }) => status)}::text[],
      ${column(({ attempts }) => attempts)}::int[],
      ${column(({ reason }) => reason)}::text[],
      ${column(({ unanswered }) => unanswered)}::boolean[],
      ${column(({ nextAttemptAt }) => nextAttemptAt)}::timestamptz[],
      ${column(({ appliedAt }) => appliedAt)}::timestamptz[]
    ) as batch (unit, version, status, attempts, reason, unanswered, next_attempt_at, applied_at)
    where known.unit = batch.unit and known.version = batch.version`;
}

interface Outcome {
  readonly outcome: PushOutcome;
  readonly version: number;
  readonly attempt?: number;
  readonly reason?: string;
  readonly reportedHash?: string;
  readonly nextAttemptAt?: string | undefined;
}

function outcomeOf({ type, data }: KnownEvent): Outcome | undefined {
  switch (type) {
    case 'ConfigurationApplied':
      return { outcome: data.evidence === 'answer' ? 'applied' : 'reported', version: data.version };
    case 'ConfigurationDrifted':
      return { outcome: 'drifted', version: data.version, reportedHash: data.reportedHash };
    case 'ConfigurationRejected':
      return { outcome: 'rejected', version: data.version, reason: data.reason };
    case 'ConfigurationPushFailed': {
      const { version, attempt, reason, nextAttemptAt } = data;
      return { outcome: 'failed', version, attempt, reason, nextAttemptAt };
    }
    default:
      return undefined;
  }
}

async function saveOutcomes(tx: Tx, table: string, events: readonly PlacedEvent[]): Promise<void> {
  const rows = events.flatMap((placed) => {
    const outcome = outcomeOf(placed.event);
    return outcome === undefined ? [] : [{ ...placed, ...outcome }];
  });
  if (rows.length === 0) return;
  const column = <T>(value: (row: (typeof rows)[number]) => T): T[] => rows.map(value);
  await tx`
    insert into ${tx(table)} (unit, sequence, ordinal, version, outcome, at, attempt, reason, reported_hash, next_attempt_at)
    select * from unnest(
      ${column(({ unit }) => unit)}::text[],
      ${column(({ sequence }) => sequence)}::bigint[],
      ${column(({ ordinal }) => ordinal)}::int[],
      ${column(({ version }) => version)}::int[],
      ${column(({ outcome }) => outcome)}::text[],
      ${column(({ event }) => event.time)}::timestamptz[],
      ${column(({ attempt }) => attempt ?? null)}::int[],
      ${column(({ reason }) => reason ?? null)}::text[],
      ${column(({ reportedHash }) => reportedHash ?? null)}::text[],
      ${column(({ nextAttemptAt }) => nextAttemptAt ?? null)}::timestamptz[]
    )`;
}

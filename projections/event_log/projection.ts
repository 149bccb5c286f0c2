/** `event_log`: every event as stored, for the event grid and for exports. */

import { type ClockStamp, occurredAtMs } from '../../domain/device/unit-clock.ts';
import { type CloudEvent, lockerOfSubject } from '../../domain/events/cloud-event.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { chunksOf } from '../../platform/batching/chunks-of.ts';
import type { Tx } from '../../platform/postgres/connection.ts';
import type { Commit, Projection } from '../engine/projection.ts';
import { EARLIEST_STORABLE_MS } from '../engine/storable-time.ts';
import { ensureMonths } from './months.ts';

/**
 * An event whose time is later than this after its recording gets the time of its recording. So an event with a time from a
 * given moment on is always in the partition of that moment or in a later one, or at most this much before it.
 */
export const MAX_AHEAD_MS = 24 * 60 * 60_000;
/** Characters of actors and correlations that are indexed: an index entry is limited. */
const MAX_INDEXED_LENGTH = 500;
/** Events that one statement writes. */
const MAX_ROWS_PER_INSERT = 1_000;

export const eventLog: Projection = {
  name: 'event_log',
  version: 3,

  async createTables(tx, schema) {
    const table = tx(`${schema}.event`);
    await tx`
      create table ${table} (
        sequence bigint not null,
        index smallint not null,
        unit text not null,
        locker text,
        type text not null,
        actor text,
        correlation text,
        -- When it occurred, corrected by the clock offset of the unit.
        time timestamptz not null,
        recorded_at timestamptz not null,
        event text not null,
        primary key (sequence, index, recorded_at)
      ) partition by range (recorded_at)`;
    await createIndexes(tx, schema);
  },

  async apply(tx, schema, commits) {
    await ensureMonths(
      tx,
      schema,
      commits.map(({ recordedAtMs }) => recordedAtMs),
    );
    const rows: Row[] = commits.flatMap((commit) => commit.events.map((event, index) => ({ commit, event, index })));
    for (const chunk of chunksOf(rows, MAX_ROWS_PER_INSERT)) await insert(tx, `${schema}.event`, chunk);
  },
};

interface Row {
  readonly commit: Commit;
  readonly event: CloudEvent;
  /** Index of the event in its commit. */
  readonly index: number;
}

async function insert(tx: Tx, table: string, rows: readonly Row[]): Promise<void> {
  await tx`
    insert into ${tx(table)}
      (sequence, index, unit, locker, type, actor, correlation, time, recorded_at, event)
    select * from unnest(
      ${rows.map(({ commit }) => commit.sequence)}::bigint[],
      ${rows.map(({ index }) => index)}::smallint[],
      ${rows.map(({ commit }) => commit.unit)}::text[],
      ${rows.map(({ event }) => lockerOfSubject(event.subject) ?? null)}::text[],
      ${rows.map(({ event }) => event.type)}::text[],
      ${rows.map(({ event }) => textOf(event.actor))}::text[],
      ${rows.map(({ event }) => textOf(event.correlationid))}::text[],
      ${rows.map(({ event, commit }) => indexedTime(event, commit.recordedAtMs))}::timestamptz[],
      ${rows.map(({ commit }) => toInstant(commit.recordedAtMs))}::timestamptz[],
      ${rows.map(({ event }) => JSON.stringify(event))}::text[]
    )`;
}

/**
 * Creates an index for each filter that can lead a query, in each order; `pages.ts` chooses between them. The indexes of actors
 * omit the events that units themselves caused, which the index of units finds, and those of correlations omit events without one.
 * These are most events.
 */
async function createIndexes(tx: Tx, schema: string): Promise<void> {
  const table = tx(`${schema}.event`);
  await tx`create index on ${table} (time, sequence, index)`;
  await tx`create index on ${table} (unit, sequence, index)`;
  await tx`create index on ${table} (unit, time, sequence, index)`;
  await tx`create index on ${table} (type, sequence, index)`;
  await tx`create index on ${table} (type, time, sequence, index)`;
  await tx`create index on ${table} (actor, sequence, index) where actor not like 'unit:%'`;
  await tx`create index on ${table} (actor, time, sequence, index) where actor not like 'unit:%'`;
  await tx`create index on ${table} (correlation, sequence, index) where correlation is not null`;
  await tx`create index on ${table} (correlation, time, sequence, index) where correlation is not null`;
}

/** Ingest checks the form of a CloudEvent and not its extensions, so an extension may have any type. */
function textOf(extension: unknown): string | null {
  return typeof extension === 'string' ? extension.slice(0, MAX_INDEXED_LENGTH) : null;
}

/** @returns when the event occurred, or the time of its recording when the clock of the unit is implausible */
function indexedTime(event: ClockStamp, recordedAtMs: number): string {
  const ms = occurredAtMs(event);
  const isPlausible = ms >= EARLIEST_STORABLE_MS && ms <= recordedAtMs + MAX_AHEAD_MS;
  return toInstant(isPlausible ? ms : recordedAtMs);
}

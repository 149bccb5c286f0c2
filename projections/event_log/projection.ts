/** `event_log`: every event as it is stored, for the event grid and for exports. */

import { occurredAtMs, type Stamped } from '../../domain/clock.ts';
import { lockerOfSubject } from '../../domain/envelope.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import type { Projection } from '../engine/projection.ts';

/** The first moment that both JavaScript and Postgres can write as a year. */
export const EARLIEST_MS = Date.parse('0001-01-01T00:00:00.000Z');

export const eventLog: Projection = {
  name: 'event_log',
  version: 2,

  async createTables(tx, schema) {
    const table = tx(`${schema}.event`);
    await tx`
      create table ${table} (
        sequence bigint not null,
        index smallint not null,
        unit text not null,
        locker text,
        type text not null,
        -- When it occurred: without the offset of a clock that is wrong.
        time timestamptz not null,
        recorded_at timestamptz not null,
        event text not null,
        primary key (sequence, index)
      )`;
    await tx`create index on ${table} (unit, sequence desc, index desc)`;
    await tx`create index on ${table} (type, sequence desc, index desc)`;
    await tx`create index on ${table} using brin (time)`;
  },

  async apply(tx, schema, commits) {
    const rows = commits.flatMap((commit) => commit.events.map((event, index) => ({ commit, event, index })));
    await tx`
      insert into ${tx(`${schema}.event`)} (sequence, index, unit, locker, type, time, recorded_at, event)
      select * from unnest(
        ${rows.map(({ commit }) => commit.sequence)}::bigint[],
        ${rows.map(({ index }) => index)}::smallint[],
        ${rows.map(({ commit }) => commit.unit)}::text[],
        ${rows.map(({ event }) => lockerOfSubject(event.subject) ?? null)}::text[],
        ${rows.map(({ event }) => event.type)}::text[],
        ${rows.map(({ event, commit }) => filedUnder(event, commit.recordedAtMs))}::timestamptz[],
        ${rows.map(({ commit }) => new Date(commit.recordedAtMs).toISOString())}::timestamptz[],
        ${rows.map(({ event }) => JSON.stringify(event))}::text[]
      )`;
  },
};

/** A unit's clock may say anything. What is no time that Postgres keeps is filed under the time of its recording. */
function filedUnder(event: Stamped, recordedAtMs: number): string {
  const ms = occurredAtMs(event);
  return toInstant(ms >= EARLIEST_MS ? ms : recordedAtMs);
}

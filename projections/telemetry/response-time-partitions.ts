/** Partitions of the table of response times: one for each UTC day, so that an old day is dropped as a whole. */

import type { Sql } from '../../platform/postgres/connection.ts';

/** Complete days that are kept, besides the current day. */
export const RETENTION_DAYS = 2;
/** A pinger whose clock is ahead may report a ping of the next day. */
const DAYS_AHEAD = 1;

/** The time that has partitions, milliseconds since 1970. */
export interface KeptTime {
  readonly fromMs: number;
  /** Exclusive. */
  readonly untilMs: number;
}

export class ResponseTimePartitions {
  /** The day on which the partitions were last created. */
  #createdOn: string | undefined;

  /** Creates the partitions of the kept days and drops older ones, once a day, by the clock of Postgres. @returns the kept days */
  async maintain(sql: Sql): Promise<KeptTime> {
    const [row] = await sql<{ day: string }[]>`select to_char(now() at time zone 'UTC', 'YYYY-MM-DD') as day`;
    if (row === undefined) throw new Error('Postgres answered no row for its date');
    const { day } = row;
    if (day !== this.#createdOn) {
      for (let offset = -RETENTION_DAYS; offset <= DAYS_AHEAD; offset += 1) await createPartition(sql, day, offset);
      await dropOld(sql, day);
      this.#createdOn = day;
    }
    return { fromMs: midnightMs(dayOf(day, -RETENTION_DAYS)), untilMs: midnightMs(dayOf(day, DAYS_AHEAD + 1)) };
  }
}

async function createPartition(sql: Sql, today: string, offset: number): Promise<void> {
  const [from, to] = [dayOf(today, offset), dayOf(today, offset + 1)];
  // The lock serialises processes that create the partition at the same time.
  await sql.script(`
    select pg_advisory_xact_lock(hashtext('platform.response_times'));
    create table if not exists platform.${nameOf(from)} partition of platform.response_times
      for values from ('${from}T00:00:00Z') to ('${to}T00:00:00Z') with (fillfactor = 70);`);
}

async function dropOld(sql: Sql, today: string): Promise<void> {
  const oldest = nameOf(dayOf(today, -RETENTION_DAYS));
  const old = await sql<{ name: string }[]>`
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'platform.response_times'::regclass and c.relname < ${oldest}`;
  for (const { name } of old) await sql`drop table if exists ${sql(`platform.${name}`)}`;
}

function nameOf(day: string): string {
  return `response_times_${day.replaceAll('-', '')}`;
}

function midnightMs(day: string): number {
  return Date.parse(`${day}T00:00:00Z`);
}

function dayOf(today: string, offset: number): string {
  const day = new Date(`${today}T00:00:00Z`);
  day.setUTCDate(day.getUTCDate() + offset);
  return day.toISOString().slice(0, 10);
}

/** Partitions of the table of response times: one for each UTC day, so that an old day is dropped as a whole. */

import type { Sql } from '../../platform/postgres/connection.ts';

/** Complete days that are kept, besides the current day. */
export const RETENTION_DAYS = 2;
/** A pinger whose clock is ahead may report a ping of the next day. */
const DAYS_AHEAD = 1;

export class ResponseTimePartitions {
  /** The day on which the partitions were last created. */
  #createdOn: string | undefined;

  /** Creates the partitions of the kept days and drops older ones, once a day. */
  async maintain(sql: Sql): Promise<void> {
    const [today] = await sql<{ day: string }[]>`select to_char(now() at time zone 'UTC', 'YYYY-MM-DD') as day`;
    if (today === undefined || today.day === this.#createdOn) return;
    for (let offset = -RETENTION_DAYS; offset <= DAYS_AHEAD; offset += 1)
      await this.#createPartition(sql, today.day, offset);
    await this.#dropOld(sql, today.day);
    this.#createdOn = today.day;
  }

  async #createPartition(sql: Sql, today: string, offset: number): Promise<void> {
    const [from, to] = [dayOf(today, offset), dayOf(today, offset + 1)];
    // The lock serialises processes that create the partition at the same time. Rows that a wrong clock has dated on this day before
    // it came are in the default partition, and would make the creation fail on each attempt until the day is over.
    await sql.script(`
      select pg_advisory_xact_lock(hashtext('platform.response_times'));
      delete from platform.${DEFAULT} where bucket_at >= '${from}T00:00:00Z' and bucket_at < '${to}T00:00:00Z';
      create table if not exists platform.${nameOf(from)} partition of platform.response_times
        for values from ('${from}T00:00:00Z') to ('${to}T00:00:00Z') with (fillfactor = 70);`);
  }

  async #dropOld(sql: Sql, today: string): Promise<void> {
    const oldest = nameOf(dayOf(today, -RETENTION_DAYS));
    const old = await sql<{ name: string }[]>`
      select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = 'platform.response_times'::regclass and c.relname < ${oldest} and c.relname <> ${DEFAULT}`;
    for (const { name } of old) await sql`drop table if exists ${sql(`platform.${name}`)}`;
    await sql`delete from ${sql(`platform.${DEFAULT}`)}`;
  }
}

/** Holds response times of every other day: a clock is wrong. It is emptied once a day. */
const DEFAULT = 'response_times_default';

function nameOf(day: string): string {
  return `response_times_${day.replaceAll('-', '')}`;
}

function dayOf(today: string, offset: number): string {
  const day = new Date(`${today}T00:00:00Z`);
  day.setUTCDate(day.getUTCDate() + offset);
  return day.toISOString().slice(0, 10);
}

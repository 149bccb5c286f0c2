/** The table of response times has a partition for each day: a day that is over is dropped as a whole. */

import type { Sql } from '../../platform/postgres/connection.ts';

/** Days that are kept whole, besides today's. */
export const RETENTION_DAYS = 2;
/** A ping of tomorrow may come from a clock that is ahead a little; more than a day ahead it has no place. */
const DAYS_AHEAD = 1;

export class ResponseTimePartitions {
  #madeOn: string | undefined;

  /** Makes the partitions of these days and drops those of days long gone, once a day. */
  async maintain(sql: Sql): Promise<void> {
    const [today] = await sql<{ day: string }[]>`select to_char(now() at time zone 'UTC', 'YYYY-MM-DD') as day`;
    if (today === undefined || today.day === this.#madeOn) return;
    for (let offset = -RETENTION_DAYS; offset <= DAYS_AHEAD; offset += 1) await this.#make(sql, today.day, offset);
    await this.#dropOld(sql, today.day);
    this.#madeOn = today.day;
  }

  async #make(sql: Sql, today: string, offset: number): Promise<void> {
    const [from, to] = [dayOf(today, offset), dayOf(today, offset + 1)];
    // Several processes may do this at once.
    await sql.script(`
      select pg_advisory_xact_lock(hashtext('platform.response_times'));
      create table if not exists platform.${nameOf(from)} partition of platform.response_times
        for values from ('${from}T00:00:00Z') to ('${to}T00:00:00Z') with (fillfactor = 70);`);
  }

  async #dropOld(sql: Sql, today: string): Promise<void> {
    const oldest = nameOf(dayOf(today, -RETENTION_DAYS));
    const old = await sql<{ name: string }[]>`
      select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = 'platform.response_times'::regclass and c.relname < ${oldest} and c.relname <> ${DEFAULT}`;
    for (const { name } of old) await sql`drop table if exists ${sql(`platform.${name}`)}`;
  }
}

/** What has a time that is no day of these. */
const DEFAULT = 'response_times_default';

function nameOf(day: string): string {
  return `response_times_${day.replaceAll('-', '')}`;
}

function dayOf(today: string, offset: number): string {
  const day = new Date(`${today}T00:00:00Z`);
  day.setUTCDate(day.getUTCDate() + offset);
  return day.toISOString().slice(0, 10);
}

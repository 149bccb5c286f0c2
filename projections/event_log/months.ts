/**
 * Partitions of the table of events: one for each month of recording, in UTC. The first batch that needs a partition creates it,
 * so the partitions follow from the events alone.
 */

import type { Tx } from '../../platform/postgres/connection.ts';

/**
 * Years whose months have partitions. All earlier events share one partition, and all later events another one: a wrong clock of
 * the platform cannot create any number of partitions.
 */
const FIRST_YEAR = 2020;
const LAST_YEAR = 2099;

/** A partition for events recorded from `from` (inclusive) until `to` (exclusive). The bounds are SQL. */
export interface Month {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

/** The partition of an event by when it was recorded, milliseconds since 1970. */
export function monthOf(recordedAtMs: number): Month {
  const at = new Date(recordedAtMs);
  const year = at.getUTCFullYear();
  if (year < FIRST_YEAR) return { name: 'event_early', from: 'minvalue', to: startOf(FIRST_YEAR, 0) };
  if (year > LAST_YEAR) return { name: 'event_late', from: startOf(LAST_YEAR + 1, 0), to: 'maxvalue' };
  const month = at.getUTCMonth();
  const name = `event_${year}_${String(month + 1).padStart(2, '0')}`;
  return { name, from: startOf(year, month), to: startOf(year, month + 1) };
}

function startOf(year: number, month: number): string {
  return `'${new Date(Date.UTC(year, month)).toISOString()}'`;
}

/**
 * Creates missing partitions in the transaction that fills them. It reads the existing partitions each time, because a cache
 * would be wrong after a rollback.
 */
export async function ensureMonths(tx: Tx, schema: string, recordedAtMs: Iterable<number>): Promise<void> {
  const needed = new Map<string, Month>();
  for (const ms of recordedAtMs) {
    const month = monthOf(ms);
    needed.set(month.name, month);
  }
  if ((await missingMonths(tx, schema, needed)).length === 0) return;
  // Another process may be creating the same partitions: the lock waits until it has committed.
  await tx`select pg_advisory_xact_lock(hashtextextended(${`months of ${schema}`}, 0))`;
  for (const { name, from, to } of await missingMonths(tx, schema, needed)) {
    // Attaching a table does not block readers and writers of the other months; creating a partition would.
    await tx.script(`
      create table "${schema}"."${name}" (like "${schema}".event including constraints including indexes);
      alter table "${schema}".event attach partition "${schema}"."${name}" for values from (${from}) to (${to});`);
  }
}

async function missingMonths(tx: Tx, schema: string, needed: ReadonlyMap<string, Month>): Promise<Month[]> {
  const existing = await tx<{ name: string }[]>`
    select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relname = any(${[...needed.keys()]}::text[])`;
  const names = new Set(existing.map(({ name }) => name));
  return [...needed.values()].filter(({ name }) => !names.has(name));
}

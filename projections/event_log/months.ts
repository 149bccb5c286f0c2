/**
 * The table of events has a partition for each month of recording, in UTC. It is made by the first batch that needs it, so
 * that which partitions there are follows from the events alone.
 */

import type { Tx } from '../../platform/postgres/connection.ts';

/**
 * Years that have partitions of their own. What a clock beyond reason says to have recorded before or after shares one with
 * all of its kind, so that no clock makes more than twelve partitions a year.
 */
const FIRST_YEAR = 2020;
const LAST_YEAR = 2099;

/** A partition holds what was recorded from `from`, inclusive, until `to`, exclusive: bounds as they stand in SQL. */
export interface Month {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

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
 * Makes the partitions that are missing, in the transaction that fills them. It asks each time which there are: what a
 * process remembered would be wrong after a transaction that was rolled back.
 */
export async function ensureMonths(tx: Tx, schema: string, recordedAtMs: Iterable<number>): Promise<void> {
  const needed = new Map<string, Month>();
  for (const ms of recordedAtMs) {
    const month = monthOf(ms);
    needed.set(month.name, month);
  }
  if ((await missing(tx, schema, needed)).length === 0) return;
  // Another process may be about to make the same ones: it has committed when this returns.
  await tx`select pg_advisory_xact_lock(hashtextextended(${`months of ${schema}`}, 0))`;
  for (const { name, from, to } of await missing(tx, schema, needed)) {
    // Attaching lets readers and writers of the other months go on, where creating it as a partition would hold them up.
    await tx.script(`
      create table "${schema}"."${name}" (like "${schema}".event including constraints including indexes);
      alter table "${schema}".event attach partition "${schema}"."${name}" for values from (${from}) to (${to});`);
  }
}

async function missing(tx: Tx, schema: string, needed: ReadonlyMap<string, Month>): Promise<Month[]> {
  const there = await tx<{ name: string }[]>`
    select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relname = any(${[...needed.keys()]}::text[])`;
  const names = new Set(there.map(({ name }) => name));
  return [...needed.values()].filter(({ name }) => !names.has(name));
}

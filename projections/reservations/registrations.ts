/** Where the present registration of each unit stands in the event store: earlier reservations are those of a retired unit of the same name. */

import type { Tx } from '../../platform/postgres/connection.ts';
import type { CommitBatch } from '../engine/projection.ts';

/** Positions of the registrations by unit. */
export type Registrations = ReadonlyMap<string, number>;

export async function createRegistrationTable(tx: Tx, name: string): Promise<void> {
  await tx`create table ${tx(name)} (unit text primary key, position bigint not null)`;
}

/** The last registration of each unit in a batch. */
export function registrationsIn(commits: CommitBatch): Registrations {
  const registering = commits.filter(
    ({ aggregate, events }) => aggregate === 'registry' && events.some(({ type }) => type === 'UnitRegistered'),
  );
  return new Map(registering.map(({ unit, sequence }) => [unit, sequence]));
}

export async function saveRegistrations(tx: Tx, table: string, registrations: Registrations): Promise<void> {
  if (registrations.size === 0) return;
  await tx`
    insert into ${tx(table)} (unit, position)
    select * from unnest(${[...registrations.keys()]}::text[], ${[...registrations.values()]}::bigint[])
    on conflict (unit) do update set position = excluded.position`;
}

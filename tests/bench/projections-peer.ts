/** The peer of `projections`: what `@event-driven-io/emmett-postgresql` makes of the same history on the same Postgres. */

import type { Postgres } from '../../platform/postgres/connection.ts';
import type { HistoryTask } from './emmett-history.ts';
import { startMeasuring } from './measuring-process.ts';
import type { EmmettFindings, EmmettRates } from './projections-emmett.ts';
import type { Figure } from './report.ts';

const DATABASE = 'emmett';

/** Into a new database of the same server, by a process of its own. @param url of any database of the server */
export async function measureEmmett(
  postgres: Postgres,
  url: string,
  task: Omit<HistoryTask, 'databaseUrl'>,
): Promise<EmmettFindings> {
  await postgres.sql`create database ${postgres.sql(DATABASE)}`;
  const databaseUrl = Object.assign(new URL(url), { pathname: `/${DATABASE}` }).toString();
  return startMeasuring<EmmettFindings>('projections-emmett.ts', { ...task, databaseUrl }).findings;
}

/** @param ours what our own process does, in events a second; its `both` fills all read models that there are */
export function besideEmmett(ours: EmmettRates, { projectors, batches }: EmmettFindings): Figure[] {
  return [
    { name: "emmett's projectors", theirs: projectors },
    { name: "emmett's consumer with batch processors of one's own", theirs: batches },
  ].flatMap(({ name, theirs }): Figure[] => [
    beside(name, 'rebuild of event_log', ours.eventLog, theirs.eventLog),
    beside(name, 'rebuild of units', ours.units, theirs.units),
    {
      ...beside(name, 'live, into all read models', ours.both, theirs.both),
      note: 'not the same work: the peer fills an event log and the states of units, and nothing else',
    },
  ]);
}

function beside(peer: string, work: string, value: number, theirs: number): Figure {
  return { name: `${work}, beside emmett`, value, unit: 'events/s', against: { name: peer, value: theirs } };
}

export function conditionsOfEmmett({ events }: EmmettFindings): string[] {
  return [
    `the peer: emmett-postgresql 0.42.0 under Bun, on the same Postgres, the first ${events} events of the history, appended one by one`,
    "emmett's projectors take one event at a time, and its states are Pongo documents; batch processors of one's own have only its reading and its checkpoints",
  ];
}

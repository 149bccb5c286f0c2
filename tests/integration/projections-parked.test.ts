import { expect, test } from 'bun:test';
import type { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import type { Projection } from '../../projections/engine/projection.ts';
import { parkedUnit, parkedUnits, requestRetry } from '../../projections/engine/queries/parked.ts';
import { eventually } from '../support/eventually.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { append, fill, freshPostgres, storeOf } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';

/** Notes every commit of a unit, and refuses the one at `poison`. */
function journal(poison: number | undefined): Projection {
  return {
    name: 'journal',
    version: 1,
    async createTables(tx, schema) {
      await tx`create table ${tx(`${schema}.entry`)} (n bigint generated always as identity, unit text, sequence bigint)`;
    },
    async apply(tx, schema, batch) {
      if (batch.some(({ sequence }) => sequence === poison)) throw new TypeError('cannot read this');
      await tx`
        insert into ${tx(`${schema}.entry`)} (unit, sequence)
        select * from unnest(${batch.map(({ unit }) => unit)}::text[], ${batch.map(({ sequence }) => sequence)}::bigint[])`;
    },
  };
}

async function entries({ sql }: Postgres, unit?: string): Promise<number[]> {
  const [run] = await sql<
    { schema_name: string }[]
  >`select schema_name from platform.projection_runs where status = 'serving'`;
  const rows = await sql<{ sequence: number }[]>`
    select sequence from ${sql(`${run?.schema_name}.entry`)} where ${unit ?? null}::text is null or unit = ${unit ?? null}
    order by n`;
  return rows.map(({ sequence }) => sequence);
}

async function messagesOf(store: MemoryEventStore, unit: string): Promise<number[]> {
  return (await store.tail(unit, 0)).map(({ sequence }) => sequence);
}

test('a parked unit is listed, and resumed in order when an operator asks, while the others continue', async () => {
  const history = new FleetHistory(seededRandom(), { units: 4, lockers: 5 });
  const store = storeOf(history);
  const postgres = await freshPostgres();
  const unit = 'PL-1001';
  let poison: number | undefined;
  const healing: Projection = {
    ...journal(undefined),
    apply: (tx, schema, batch) => journal(poison).apply(tx, schema, batch),
  };
  const filling = fill(postgres, store, { projections: [healing] });
  await filling.caughtUp;
  await append(history, store, 60);
  // The commit at which it stops is known before it is appended.
  const coming = history.nextCommits(40);
  const index = coming.findIndex((commit) => commit.unit === unit);
  poison = 60 + index + 1;
  await eventually(async () => (await entries(postgres)).length === 60);
  for (const commit of coming) await store.append(commit);
  await eventually(async () => (await parkedUnits(postgres.sql, 'journal', { limit: 5 })).items.length === 1);
  expect(await parkedUnits(postgres.sql, 'journal', { limit: 5, count: true })).toMatchObject({
    items: [{ unit, position: poison, reason: 'TypeError: cannot read this', retryRequestedAt: null }],
    total: 1,
  });
  // A requested retry while nothing is better leaves it parked. The process may have retried it by itself before.
  expect(await requestRetry(postgres.sql, 'journal', unit)).toBe(true);
  await eventually(async () => {
    const parked = await parkedUnit(postgres.sql, 'journal', unit);
    return parked !== undefined && parked.retries >= 1 && parked.retryRequestedAt === null;
  });
  poison = undefined;
  expect(await requestRetry(postgres.sql, 'journal', unit)).toBe(true);
  const traffic = (async () => {
    for (let round = 0; round < 10; round++) await append(history, store, 10);
  })();
  await eventually(async () => (await parkedUnit(postgres.sql, 'journal', unit)) === undefined);
  await traffic;
  await eventually(async () => (await entries(postgres)).length === (await store.lastSequence()));
  expect(await entries(postgres, unit)).toEqual(await messagesOf(store, unit));
  expect(await requestRetry(postgres.sql, 'journal', unit)).toBe(false);
  await filling.stop();
  await postgres.close(1);
}, 120_000);

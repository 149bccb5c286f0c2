/** Read models of another version than the code needs: after an upgrade, until the new version is built. */

import { expect, test } from 'bun:test';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { PostgresUnavailableError } from '../../platform/postgres/connection.ts';
import { snapshotReader } from '../../projections/bookings/queries.ts';
import { createProjections } from '../../projections/create-projections.ts';
import { unservedReadModels } from '../../projections/queries.ts';
import { fillToTheEnd, freshPostgres, readModelsOf } from '../support/projections.ts';

test('they do not serve: the server is not ready, and no decision reads the store from its beginning', async () => {
  const postgres = await freshPostgres();
  const names = createProjections().map(({ name }) => name);
  const unserved = async () => (await unservedReadModels(postgres)).map(({ name }) => name);
  expect(await unserved()).toEqual(names);
  await fillToTheEnd(postgres, new MemoryEventStore(() => 0));
  expect(await unserved()).toEqual([]);
  expect((await snapshotReader(readModelsOf(postgres))('PL-1000')).completeTo).toBe(0);

  await postgres.sql`update platform.projection_runs set version = version - 1 where projection = 'bookings'`;
  expect(await unserved()).toEqual(['bookings']);
  await expect(snapshotReader(readModelsOf(postgres))('PL-1000')).rejects.toBeInstanceOf(PostgresUnavailableError);
  await postgres.close(1);
});

test('the reason names the read model, both versions, and what became of the run of the version that the code reads', async () => {
  const postgres = await freshPostgres();
  const { sql } = postgres;
  const bookings = createProjections().find(({ name }) => name === 'bookings');
  if (bookings === undefined) throw new Error('there is no read model bookings');
  const { version } = bookings;
  const reason = async () => (await unservedReadModels(postgres)).find(({ name }) => name === 'bookings')?.reason;
  let schemas = 0;
  const insert = async (status: string, of: number) => {
    schemas += 1;
    const [row] = await sql<{ id: number }[]>`
      insert into platform.projection_runs (projection, version, schema_name, status)
      values ('bookings', ${of}, ${`reason_${schemas}`}, ${status}) returning id`;
    return row?.id;
  };

  const none = `The read model bookings has no run that serves, and this code reads version ${version}.`;
  expect(await reason()).toBe(
    `${none} No run of version ${version} has begun: start a projections process of this version.`,
  );
  const failed = await insert('failed', version);
  expect(await reason()).toBe(
    `${none} Its run ${failed} of version ${version} was given up after an error: see GET /v1/projections.`,
  );
  await insert('serving', version - 1);
  const older = `The read model bookings serves version ${version - 1}, and this code reads version ${version}.`;
  const requested = await insert('requested', version);
  expect(await reason()).toBe(`${older} Its run ${requested} of version ${version} waits for a projections process.`);
  await sql`update platform.projection_runs set status = 'building' where id = ${requested ?? 0}`;
  expect(await reason()).toBe(`${older} Its run ${requested} of version ${version} is being built.`);
  await sql`update platform.projection_runs set version = ${version + 1} where status = 'serving'`;
  expect(await reason()).toBe(
    `The read model bookings serves version ${version + 1}, and this code reads version ${version}. A newer version of the code has replaced it: upgrade this server.`,
  );
  await postgres.close(1);
});

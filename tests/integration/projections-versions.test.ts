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
  expect(await unservedReadModels(postgres)).toEqual(names);
  await fillToTheEnd(postgres, new MemoryEventStore(() => 0));
  expect(await unservedReadModels(postgres)).toEqual([]);
  expect((await snapshotReader(readModelsOf(postgres))('PL-1000')).completeTo).toBe(0);

  await postgres.sql`update platform.projection_runs set version = version - 1 where projection = 'bookings'`;
  expect(await unservedReadModels(postgres)).toEqual(['bookings']);
  await expect(snapshotReader(readModelsOf(postgres))('PL-1000')).rejects.toBeInstanceOf(PostgresUnavailableError);
  await postgres.close(1);
});

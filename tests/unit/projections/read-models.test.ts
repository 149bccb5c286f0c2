import { expect, test } from 'bun:test';
import { createProjections } from '../../../projections/create-projections.ts';
import { READ_MODELS } from '../../../projections/queries.ts';

test('the API is ready once every projection that this code fills has a run that serves', () => {
  expect(createProjections().map(({ name }) => name)).toEqual([...READ_MODELS]);
});

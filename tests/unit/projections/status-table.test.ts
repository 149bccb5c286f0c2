import { expect, test } from 'bun:test';
import { statusTable } from '../../../projections/operations/status-table.ts';

test('the status of the runs is a table with aligned columns', () => {
  const run = { version: 1001, status: 'serving' as const };
  const table = statusTable(
    [
      { ...run, projection: 'units', schema: 'units_v1001_r1', minPosition: 90, maxPosition: 100, parkedUnits: 0 },
      {
        ...{ projection: 'event_log', version: 1, schema: 'event_log_v1_r4', status: 'serving' },
        ...{ minPosition: 7, maxPosition: 7, parkedUnits: 2 },
      },
    ],
    100,
  );
  expect(table).toBe(
    [
      'projection  version  schema           status   from   to  lag  parked',
      'units          1001  units_v1001_r1   serving    90  100   10       0',
      'event_log         1  event_log_v1_r4  serving     7    7   93       2',
      '',
    ].join('\n'),
  );
});

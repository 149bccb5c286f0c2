import { expect, test } from 'bun:test';
import { createProjections } from '../../../projections/create-projections.ts';
import { AppliedEvents } from '../../../projections/engine/metrics.ts';

test('every counter of applied events is 0 before the first event', () => {
  const names = ['bookings', 'configuration', 'daily_summary', 'event_log', 'reservations', 'units'];
  const zeros = Object.fromEntries(names.map((name) => [name, 0]));
  const applied = new AppliedEvents(createProjections());
  expect(applied.served).toEqual(zeros);
  expect(applied.built).toEqual(zeros);
  applied.add('units', 3, false);
  applied.add('units', 4, true);
  expect([applied.served.units, applied.built.units, applied.served.bookings]).toEqual([3, 4, 0]);
});

import { expect, test } from 'bun:test';
import { retryDelayMs } from '../../../platform/nats/work-failures.ts';
import { FAULTS, RETRIES } from '../../../projections/engine/parking/parked-retries.ts';

test('a parked unit is retried after a minute at first and every hour at last, of which up to half is jitter', () => {
  const pausesS = (random: number) => [1, 2, 3, 4, 5, 6, 7, 8].map((n) => retryDelayMs(RETRIES, n, random) / 1_000);
  expect(pausesS(1)).toEqual([60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
  expect(pausesS(0)).toEqual([30, 60, 120, 240, 480, 960, 1_800, 1_800]);
});

test('a retry that could not be made is repeated after a second at first and every minute at last, without end', () => {
  const pausesS = [1, 2, 3, 4, 5, 6, 7, 100].map((n) => retryDelayMs(FAULTS, n, 1) / 1_000);
  expect(pausesS).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
});

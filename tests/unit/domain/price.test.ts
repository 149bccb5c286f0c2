import { expect, test } from 'bun:test';
import fc from 'fast-check';
import { priceOf } from '../../../domain/booking/price.ts';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import { seededRandom } from '../../support/random.ts';
import { HOUR_MS, MINUTE_MS } from '../../support/scene.ts';

const { seed } = seededRandom();
const { values } = defaultConfiguration(600);
const priced = (perHour: number) => ({
  ...values,
  prices: [
    { size: 'S' as const, perHour, currency: 'EUR' },
    { size: 'L' as const, perHour: 1_000, currency: 'PLN' },
  ],
});

test.each([
  [200, HOUR_MS, 200],
  [200, 30 * MINUTE_MS, 100],
  [200, 15 * MINUTE_MS, 50],
  [200, 20 * MINUTE_MS, 67],
  [200, 7 * 24 * HOUR_MS, 33_600],
  [0, HOUR_MS, 0],
  [1, MINUTE_MS, 1],
  [60, MINUTE_MS + 1, 2],
  [60, 1, 1],
])('%d an hour, for %d ms, makes %d', (perHour, durationMs, amount) => {
  expect(priceOf(priced(perHour), 'S', 1_000, 1_000 + durationMs)).toEqual({ amount, currency: 'EUR' });
});

test('each size has its own price and currency', () => {
  expect(priceOf(priced(1), 'L', 0, HOUR_MS)).toEqual({ amount: 1_000, currency: 'PLN' });
});

test('a size without a price is not for rent', () => {
  expect(priceOf(priced(1), 'XL', 0, HOUR_MS)).toBeUndefined();
});

test('a price is a whole number, at least the exact price and less than the price of one more minute and one minor unit', () => {
  const perHour = fc.nat({ max: 1_000_000 });
  const durationMs = fc.integer({ min: 1, max: 90 * 24 * HOUR_MS });
  fc.assert(
    fc.property(perHour, durationMs, (rate, ms) => {
      const amount = priceOf(priced(rate), 'S', 0, ms)?.amount ?? Number.NaN;
      const exact = (rate * ms) / HOUR_MS;
      expect(Number.isSafeInteger(amount)).toBe(true);
      expect(amount).toBeGreaterThanOrEqual(exact - 1e-6);
      expect(amount).toBeLessThan(exact + rate / 60 + 1);
    }),
    { seed },
  );
});

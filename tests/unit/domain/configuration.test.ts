import { describe, expect, test } from 'bun:test';
import { createHash } from 'node:crypto';
import { Value } from '@sinclair/typebox/value';
import fc from 'fast-check';
import { configurationHash } from '../../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import { ConfigurationValues } from '../../../domain/configuration-values.ts';
import { seededRandom } from '../../support/random.ts';

const { seed } = seededRandom();

const anyValues: fc.Arbitrary<ConfigurationValues> = fc.record({
  prices: fc.array(
    fc.record({
      size: fc.constantFrom('S' as const, 'M' as const, 'L' as const, 'XL' as const),
      perHour: fc.nat(),
      currency: fc.constantFrom('EUR', 'PLN'),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  minimumMinutes: fc.integer({ min: 1, max: 60 }),
  maximumMinutes: fc.integer({ min: 61, max: 9_999 }),
  holdTtlS: fc.integer({ min: 10, max: 86_400 }),
  openingHours: fc.array(
    fc.record({
      weekday: fc.integer({ min: 1, max: 7 }),
      opens: fc.constantFrom('08:00', '09:30'),
      closes: fc.constantFrom('20:00', '24:00'),
    }),
    { maxLength: 3 },
  ),
  texts: fc.dictionary(
    fc.constantFrom('de', 'en', 'pl-PL'),
    fc.dictionary(fc.constantFrom('title', 'a.b', 'z_1'), fc.string({ unit: 'binary', maxLength: 20 })),
  ),
  pushIntervalMs: fc.integer({ min: 50, max: 3_600_000 }),
});

/** The same value with the keys of every object in another order. */
function shuffled(value: unknown, order: () => number): unknown {
  if (Array.isArray(value)) return value.map((item) => shuffled(item, order));
  if (value === null || typeof value !== 'object') return value;
  const keyed = Object.entries(value).map(([key, field]) => ({ key, field: shuffled(field, order), rank: order() }));
  return Object.fromEntries(keyed.sort((a, b) => a.rank - b.rank).map(({ key, field }) => [key, field]));
}

describe('the hash', () => {
  test('does not depend on the order of keys', () => {
    fc.assert(
      fc.property(anyValues, fc.infiniteStream(fc.nat()), (values, ranks) => {
        const other = shuffled(values, () => Number(ranks.next().value)) as ConfigurationValues;
        expect(configurationHash(other)).toBe(configurationHash(values));
      }),
      { seed },
    );
  });

  test('survives JSON', () => {
    fc.assert(
      fc.property(anyValues, (values) => {
        const copy = JSON.parse(JSON.stringify(values)) as ConfigurationValues;
        expect(configurationHash(copy)).toBe(configurationHash(values));
      }),
      { seed },
    );
  });

  test('changes with any value, and with the order of a list', () => {
    const { values } = defaultConfiguration(600);
    const others: ConfigurationValues[] = [
      { ...values, holdTtlS: 601 },
      { ...values, texts: { de: {} } },
      { ...values, texts: { de: { title: 'a' } } },
      { ...values, prices: values.prices.toReversed() },
      { ...values, openingHours: [{ weekday: 1, opens: '08:00', closes: '20:00' }] },
    ];
    expect(new Set([values, ...others].map(configurationHash)).size).toBe(others.length + 1);
  });

  test('is the sha256 of the values as canonical JSON', () => {
    const { values } = defaultConfiguration(600);
    const canonical =
      '{"holdTtlS":600,"maximumMinutes":10080,"minimumMinutes":15,"openingHours":[],"prices":[' +
      '{"currency":"EUR","perHour":200,"size":"S"},{"currency":"EUR","perHour":300,"size":"M"},' +
      '{"currency":"EUR","perHour":450,"size":"L"},{"currency":"EUR","perHour":600,"size":"XL"}],' +
      '"pushIntervalMs":1000,"texts":{}}';
    expect(configurationHash(values)).toBe(createHash('sha256').update(canonical).digest('hex'));
  });
});

describe('the schema', () => {
  test('accepts the defaults', () => {
    const { values, version, hash } = defaultConfiguration(600);
    expect([...Value.Errors(ConfigurationValues, values)]).toEqual([]);
    expect({ version, hash }).toEqual({ version: 1, hash: configurationHash(values) });
  });

  test('accepts every configuration that the hash tests use', () => {
    fc.assert(
      fc.property(anyValues, (values) => Value.Check(ConfigurationValues, values)),
      { seed },
    );
  }, 30_000);

  test.each([
    ['an unknown field', { colour: 'red' }],
    ['no prices', { prices: [] }],
    ['a price with an unknown field', { prices: [{ size: 'S', perHour: 1, currency: 'EUR', per: 'hour' }] }],
    ['a negative price', { prices: [{ size: 'S', perHour: -1, currency: 'EUR' }] }],
    ['an unknown size', { prices: [{ size: 'XXL', perHour: 1, currency: 'EUR' }] }],
    ['a hold that is too short', { holdTtlS: 9 }],
    ['an hour that no day has', { openingHours: [{ weekday: 1, opens: '25:00', closes: '26:00' }] }],
    ['a day that no week has', { openingHours: [{ weekday: 8, opens: '08:00', closes: '09:00' }] }],
    ['a language that is none', { texts: { german: {} } }],
    ['a text with a name that is none', { texts: { de: { '1': 'x' } } }],
    ['a text that is none', { texts: { de: { title: 1 } } }],
    ['pushes without a pause', { pushIntervalMs: 0 }],
  ])('refuses %s', (_, changes) => {
    expect(Value.Check(ConfigurationValues, { ...defaultConfiguration(600).values, ...changes })).toBe(false);
  });
});

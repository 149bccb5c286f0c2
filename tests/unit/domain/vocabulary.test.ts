import { expect, test } from 'bun:test';
import { Value } from '@sinclair/typebox/value';
import { Instant, LockerId, Money, toInstant, toMs, UnitName } from '../../../domain/vocabulary.ts';

test.each([
  '2026-06-01T12:00:00Z',
  '2026-12-31T23:59:59.999Z',
  '2024-02-29T00:00:00.123456789Z',
  '2000-02-29T00:00:00Z',
  '0001-01-01T00:00:00Z',
  '9999-12-31T23:59:59Z',
])('%s is a time', (text) => {
  expect(Value.Check(Instant, text)).toBe(true);
  expect(toMs(text)).toBeNumber();
  expect(Number.isNaN(toMs(text))).toBe(false);
});

test.each([
  '2026-06-01T12:00:00+02:00',
  '2026-06-01T12:00:00',
  '2026-06-01 12:00:00Z',
  '2026-06-01',
  '2026-13-01T12:00:00Z',
  '2026-00-01T12:00:00Z',
  '2026-06-32T12:00:00Z',
  '2026-06-00T12:00:00Z',
  '2026-06-01T24:00:00Z',
  '2026-06-01T12:60:00Z',
  '2026-06-01T12:00:60Z',
  '2026-06-01T12:00:00.Z',
  '2026-02-30T12:00:00Z',
  '2026-02-29T12:00:00Z',
  '1900-02-29T12:00:00Z',
  '2026-04-31T12:00:00Z',
  '0000-01-01T12:00:00Z',
  '0000-02-29T12:00:00Z',
  'now',
  '',
])('"%s" is no time', (text) => {
  expect(Value.Check(Instant, text)).toBe(false);
});

test('a formatted time has milliseconds and parses to the same time', () => {
  expect(toInstant(0)).toBe('1970-01-01T00:00:00.000Z');
  expect(toMs(toInstant(1_780_315_200_123))).toBe(1_780_315_200_123);
});

test.each([
  ['PL-1000', true],
  ['a', true],
  ['9_x', true],
  ['a'.repeat(63), true],
  ['', false],
  ['-a', false],
  ['_a', false],
  ['a'.repeat(64), false],
  ['a.b', false],
  ['a b', false],
  ['a*', false],
  ['a>', false],
  ['ä', false],
  ['a\n', false],
])('a unit named %j: %p', (name, good) => {
  expect(Value.Check(UnitName, name)).toBe(good);
});

test.each([
  ['A', true],
  ['12', true],
  ['a'.repeat(16), true],
  ['a'.repeat(17), false],
  ['', false],
  ['A/B', false],
])('a locker with the id %j: %p', (id, good) => {
  expect(Value.Check(LockerId, id)).toBe(good);
});

test.each([
  [{ amount: 0, currency: 'EUR' }, true],
  [{ amount: 1.5, currency: 'EUR' }, false],
  [{ amount: -1, currency: 'EUR' }, false],
  [{ amount: 1, currency: 'eur' }, false],
  [{ amount: 1, currency: 'EURO' }, false],
])('money %j: %p', (money, good) => {
  expect(Value.Check(Money, money)).toBe(good);
});

test('parsing accepts every calendar day and no other', () => {
  for (const year of ['1896', '1900', '2000', '2024', '2025', '2100']) {
    for (let month = 1; month <= 12; month += 1) {
      for (let day = 1; day <= 31; day += 1) {
        const text = `${year}-${String(month).padStart(2, '0')}-${String(day).padStart(2, '0')}T00:00:00.000Z`;
        // What is no day rolls over into the next month.
        expect([text, Value.Check(Instant, text)]).toEqual([text, toInstant(toMs(text)) === text]);
      }
    }
  }
});

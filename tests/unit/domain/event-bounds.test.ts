/** Every value that a unit may send has a bound in its schema: a value beyond it is rejected, and no fold ever sees it. */

import { describe, expect, test } from 'bun:test';
import { type TSchema, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { EVENT_CATALOGUE } from '../../../domain/events/catalogue.ts';
import { BatchEvent, BatchHeader, FetchPageHeader } from '../../../domain/unit-protocol/batch.ts';
import { CommandAnswer, PingReply } from '../../../domain/unit-protocol/commands.ts';
import { Identifier, Money } from '../../../domain/vocabulary.ts';
import { unboundedParts } from '../../support/schema-bounds.ts';

const catalogue: [string, { readonly aggregates: readonly string[]; readonly schema: TSchema }][] =
  Object.entries(EVENT_CATALOGUE);
const fromUnits: [string, TSchema][] = [
  ...catalogue
    .filter(([, { aggregates }]) => aggregates.includes('device'))
    .map(([type, { schema }]): [string, TSchema] => [type, schema]),
  ...Object.entries({ BatchEvent, BatchHeader, FetchPageHeader, PingReply, CommandAnswer }),
];

test('the walk finds every part without a bound', () => {
  const schema = Type.Object({
    text: Type.Optional(Type.String()),
    open: Type.String({ pattern: '^a+$' }),
    many: Type.String({ pattern: '^a{1,}$' }),
    list: Type.Array(Type.Object({ count: Type.Integer({ minimum: 0 }) })),
    either: Type.Union([Type.Null(), Type.Number()].slice(1)),
    map: Type.Record(Type.String(), Type.String()),
    bounded: Type.String({ maxLength: 1 }),
    pattern: Type.String({ pattern: '^a{1,3}$' }),
  });
  expect(unboundedParts(schema, 'everything')).toEqual([
    'text',
    'open',
    'many',
    'list',
    'list[].count',
    'either',
    'map.*',
  ]);
  expect(unboundedParts(schema, 'texts')).toEqual(['text', 'open', 'many', 'map.*']);
});

test.each(fromUnits)('every text, list and number of %s has a bound', (_name, schema) => {
  expect(unboundedParts(schema, 'everything')).toEqual([]);
});

test.each(catalogue)('every text of the event %s has a bound', (_type, { schema }) => {
  expect(unboundedParts(schema, 'texts')).toEqual([]);
});

describe('an identifier', () => {
  test.each(['', 'r-1', 'Tür 3 / links', '🧳', '\u202eabc', '__proto__', 'é', 'a'.repeat(200)])('may be %j', (text) => {
    expect(Value.Check(Identifier, text)).toBe(true);
  });

  test.each(['\u0000', 'a\nb', '\t', '\u007f', '\ud800', 'a\udfffb', 'a'.repeat(201), '🧳'.repeat(101)])(
    'may not be %j',
    (text) => {
      expect(Value.Check(Identifier, text)).toBe(false);
    },
  );
});

test('an amount of money is at most a hundred million million minor units', () => {
  expect(Value.Check(Money, { amount: 100_000_000_000_000, currency: 'EUR' })).toBe(true);
  expect(Value.Check(Money, { amount: 100_000_000_000_001, currency: 'EUR' })).toBe(false);
});

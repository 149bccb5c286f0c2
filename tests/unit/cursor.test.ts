/** Cursors come from clients, so that a key that Postgres does not accept as a value of its column is no key. */

import { expect, test } from 'bun:test';
import { CursorError, decodeCursor, encodeCursor } from '../../platform/postgres/cursor.ts';

const UUID = '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55';

test('a cursor has the keys that it was made of', () => {
  expect(decodeCursor(encodeCursor(['PL-1000', 7, null]), ['text', 'integer', 'number'])).toEqual(['PL-1000', 7, null]);
  expect(decodeCursor(encodeCursor([UUID, 2_147_483_647]), ['uuid', 'int4'])).toEqual([UUID, 2_147_483_647]);
});

test.each([
  ['text', 'a\u0000'],
  ['text', '\ud800'],
  ['text', 7],
  ['uuid', 'x'],
  ['uuid', UUID.toUpperCase()],
  ['int4', 2_147_483_648],
  ['int4', -2_147_483_648],
  ['int4', 0.5],
  ['int4', null],
  ['integer', 2 ** 53],
  ['number', 'infinity'],
] as const)('a key %s %p is refused', (kind, key) => {
  expect(() => decodeCursor(encodeCursor([key]), [kind])).toThrow(CursorError);
});

test.each(['', 'nonsense', encodeCursor([]), Buffer.from('{"0":"a","length":1}').toString('base64url')])(
  'the text %p is no cursor',
  (cursor) => {
    expect(() => decodeCursor(cursor, ['text'])).toThrow(CursorError);
  },
);

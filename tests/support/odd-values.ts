/** Texts and numbers that programs mishandle: every field of the API gets them. */

import fc from 'fast-check';

const LONG = 100_000;
const RANDOM_TEXTS = 3;

/** Texts that mean something to a program: they are sent as they are. */
const EXACT_TEXTS = [
  '',
  ' ',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  'null',
  'undefined',
  'NaN',
  'true',
  '-0',
  '1e400',
  '9007199254740993',
  '..',
  '../..',
  '%00',
  '%2F',
  '*',
  '>',
  'a.b',
  '0000-01-01T00:00:00Z',
  '0001-01-01T00:00:00Z',
  '9999-12-31T23:59:59.999999999Z',
  '+275760-09-13T00:00:00Z',
  '2026-02-30T12:00:00Z',
  '2016-12-31T23:59:60Z',
  '2026-06-01T24:00:00Z',
  '2026-06-01T12:00:00',
  '2026-06-01T12:00:00+02:00',
  '0000-01-01',
  '9999-12-31',
  '2026-13-45',
  '2026-06-01',
  '+01:00',
  '-23:59',
  'europe/WARSAW',
  'Etc/GMT+5',
  '91,181',
  '-90,-180',
  '0,0.0000000000000000000000000000000000000001',
  '[::1]:80',
  '127.0.0.1:0',
  '127.0.0.1:99999',
];

/** Texts of odd characters. A number in or behind them tells one use from another. */
const MARKED_TEXTS: readonly ((mark: string) => string)[] = [
  (mark) => `a\u0000${mark}`,
  (mark) => `${mark}\ud800`,
  (mark) => `\udfff${mark}`,
  (mark) => `\u0001\u001b\u001f\u007f${mark}`,
  (mark) => `\u0085\u009b${mark}`,
  (mark) => `\u202e${mark}\u202c\u200f`,
  (mark) => `\ufeff\u200b${mark}\u200d`,
  (mark) => `🧳👩‍👩‍👧${mark}`,
  (mark) => `e\u0301\u0301\u0327${mark}`,
  (mark) => `\uffff\ufdd0\u{10ffff}${mark}`,
  (mark) => `\u2028${mark}\u2029`,
  (mark) => `${mark}${'x'.repeat(LONG)}`,
  (mark) => `"${mark}'\``,
  (mark) => `\\${mark}\\u0000\\`,
  (mark) => `'; drop table event; --${mark}`,
  (mark) => `${mark}/../%2e%2e%00?x#y`,
  (mark) => `a\n${mark}\r\nb\tc`,
  (mark) => `=1+${mark}`,
  (mark) => `+${mark}`,
  (mark) => `-${mark}`,
  (mark) => `@SUM(${mark})`,
  (mark) => `\t=${mark}`,
  (mark) => `,;"${mark}",`,
  (mark) => ` ${mark} `,
  (mark) => `{"${mark}":[}`,
  (mark) => `<script>${mark}</script>`,
];

let marks = 0;

/** All odd texts, and some random ones. Most are different in every call, so that an answer tells which field kept them. */
export function oddTexts(seed: number): string[] {
  const random = fc.sample(fc.string({ unit: 'binary', minLength: 1, maxLength: 60 }), {
    seed: seed + marks,
    numRuns: RANDOM_TEXTS,
  });
  const marked = [...MARKED_TEXTS, ...random.map((text) => (mark: string) => `${text}${mark}`)];
  return [
    ...EXACT_TEXTS,
    ...marked.map((write) => {
      marks += 1;
      return write(`m${marks}m`);
    }),
  ];
}

/** JSON texts of odd numbers, and of values that are no number. */
export const ODD_NUMBERS = [
  '1e400',
  '-1e400',
  '1e308',
  '5e-324',
  '-0',
  '0',
  '-1',
  '0.5',
  '2147483648',
  '9007199254740993',
  '1e15',
  '"NaN"',
  '"1"',
  'null',
];

/** JSON texts of values that are no text. */
export const NO_TEXTS = ['null', '0', 'true', '[]', '["a"]', '{}', '{"__proto__":{"a":1}}'];

/** Parts of a path that no client encodes like this. */
export const ODD_PATH_BYTES = [
  '%00',
  '%2F',
  '%2e%2e',
  '..',
  '%',
  '%zz',
  '%ff',
  '%c0%80',
  '%ed%a0%80',
  '\u0001',
  '\u00ff',
  ';',
  '"',
];

const UUID = '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55';
const CURSOR_TEXTS = ['', 'a\u0000', '\ud800', '__proto__', 'x'.repeat(500), '0000-00-00', UUID];
const CURSOR_NUMBERS = [0, -1, 0.5, 1e308, 2 ** 31, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, null];

/** Keys of cursors: lists of texts and numbers, and other values. `sort` is the order of the list, which some cursors name. */
export function oddCursors(sort: string | undefined): unknown[] {
  const pairs = CURSOR_NUMBERS.flatMap((number) => [
    [number],
    [number, number],
    [number, UUID],
    ['online', UUID],
    [sort, number, number, number, number],
    [sort, 0, number, 0, -1],
    [sort, 0, 0, number, number],
  ]);
  const texts = CURSOR_TEXTS.flatMap((text) => [[text], [text, text], [0, text], [1e308, text], [text, 0, 0, 0, 0]]);
  return [...pairs, ...texts, null, 0, {}, [], [[]], [{}], { length: 1, 0: 'a' }];
}

import { describe, expect, test } from 'bun:test';
import { Problem } from '../../../server/http/problems.ts';
import { requireStorableQuery, requireStorableTexts } from '../../../server/http/storable-text.ts';

function refusedPaths(check: () => void): readonly string[] {
  try {
    check();
  } catch (error) {
    if (error instanceof Problem) return (error.document.errors ?? []).map(({ path }) => path);
    throw error;
  }
  return [];
}

describe('a JSON body', () => {
  test.each([
    ['a text', { displayName: 'a\u0000b' }, '/displayName'],
    ['a text in a list', { tags: ['x', '\ud800'] }, '/tags/1'],
    [
      'a text deep inside',
      { values: { texts: { 'en/x~y': { welcome: '\udfff' } } } },
      '/values/texts/en~1x~0y/welcome',
    ],
    ['the name of a member', { data: { 'a\u0000': 1 } }, '/data'],
    ['the body itself', '\u0000', ''],
  ])('with a character that cannot be stored in %s is refused with the field', (_, body, path) => {
    expect(refusedPaths(() => requireStorableTexts(body))).toEqual([path]);
  });

  test('with any other text is accepted', () => {
    const texts = [
      '',
      'ü€😀',
      '\u0001\u007f\u2028\u202e',
      '=cmd()',
      '__proto__',
      ' "\\{}',
      '\ufeff',
      'x'.repeat(10_000),
    ];
    const body: unknown = JSON.parse(JSON.stringify({ texts, proto: { constructor: 'y' }, n: -0, no: null }));
    expect(refusedPaths(() => requireStorableTexts(body))).toEqual([]);
  });

  test('is checked however deeply it is nested', () => {
    const depth = 100_000;
    const body: unknown = JSON.parse(`${'['.repeat(depth)}"\\u0000"${']'.repeat(depth)}`);
    expect(refusedPaths(() => requireStorableTexts(body))).toEqual(['/0'.repeat(depth)]);
  });
});

test('a query parameter with such a character is refused with its name', () => {
  expect(refusedPaths(() => requireStorableQuery({ limit: 5, q: 'a\u0000' }))).toEqual(['/query/q']);
  expect(refusedPaths(() => requireStorableQuery({ limit: 5, q: 'a' }))).toEqual([]);
  expect(refusedPaths(() => requireStorableQuery({ type: ['a', '\ud800'] }))).toEqual(['/query/type']);
  expect(refusedPaths(() => requireStorableQuery({ type: ['a', 'b'] }))).toEqual([]);
});

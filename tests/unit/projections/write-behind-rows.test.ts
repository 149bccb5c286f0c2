import { describe, expect, test } from 'bun:test';
import { WriteBehindRows } from '../../../projections/engine/fill/write-behind-rows.ts';

interface Row {
  readonly value: number;
}

/** Every row counts as 10 bytes. */
function rowsOf(maxCleanBytes: number, isFresh: boolean): WriteBehindRows<Row> {
  return new WriteBehindRows({ bytesOf: () => 10, maxCleanBytes, isFresh });
}

describe('rows of a table that was empty', () => {
  test('are never evicted before their write has committed', () => {
    const rows = rowsOf(20, true);
    for (const key of ['a', 'b', 'c', 'd']) rows.putDirty(key, { value: 1 });
    expect(rows.dirtyBytes).toBe(40);
    expect(rows.drain()).toEqual([{ value: 1 }, { value: 1 }, { value: 1 }, { value: 1 }]);
    // The write of this drain may still be running: the table does not hold the rows yet.
    expect(['a', 'b', 'c', 'd'].map((key) => rows.get(key)?.value)).toEqual([1, 1, 1, 1]);
    expect(rows.missing(['a', 'x'])).toEqual([]);
  });

  test('are evicted by the byte bound afterwards, and then read from the table', () => {
    const rows = rowsOf(20, true);
    for (const key of ['a', 'b', 'c', 'd']) rows.putDirty(key, { value: 1 });
    rows.drain();
    rows.putDirty('d', { value: 2 });
    rows.putDirty('e', { value: 2 });
    expect(rows.drain()).toEqual([{ value: 2 }, { value: 2 }]);
    expect(['a', 'b', 'c', 'd', 'e'].map((key) => rows.get(key)?.value)).toEqual([undefined, 1, 1, 2, 2]);
    expect(rows.missing(['a', 'a', 'd', 'x'])).toEqual(['a', 'x']);
    rows.putClean('a', { value: 1 });
    expect(rows.missing(['a'])).toEqual([]);
    expect(rows.dirtyBytes).toBe(0);
  });

  test('are read from the table when a single row exceeds the bound', () => {
    const rows = rowsOf(5, true);
    rows.putDirty('a', { value: 1 });
    rows.drain();
    rows.drain();
    expect(rows.get('a')).toBeUndefined();
    expect(rows.missing(['a'])).toEqual(['a']);
  });
});

test('rows that were read stay in memory until the next drain, also beyond the bound', () => {
  const rows = rowsOf(10, false);
  for (const key of ['a', 'b', 'c']) rows.putClean(key, { value: 1 });
  expect(rows.missing(['a', 'b', 'c'])).toEqual([]);
  rows.drain();
  expect(rows.missing(['a', 'b', 'c'])).toEqual(['a', 'b']);
});

test('a row that changes twice counts its bytes once, and is written once with its last value', () => {
  const rows = rowsOf(100, true);
  rows.putDirty('a', { value: 1 });
  rows.putDirty('a', { value: 2 });
  expect(rows.dirtyBytes).toBe(10);
  expect(rows.drain()).toEqual([{ value: 2 }]);
});

test('rows of a table that holds rows already are read first', () => {
  expect(rowsOf(20, false).missing(['a', 'a'])).toEqual(['a']);
  expect(rowsOf(20, true).missing(['a'])).toEqual([]);
});

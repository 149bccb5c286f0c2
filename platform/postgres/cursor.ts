/** Cursors of paged lists. A cursor holds the sort keys of the last item of a page, and is opaque to clients. */

import { isStorableText } from '../../domain/vocabulary.ts';

type Key = string | number | null;

/** A client sent a cursor that this list did not issue. */
export class CursorError extends Error {
  override readonly name = 'CursorError';
}

export function encodeCursor(keys: readonly Key[]): string {
  return Buffer.from(JSON.stringify(keys)).toString('base64url');
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const MAX_INT4 = 2_147_483_647;

/**
 * Checks of the keys in a cursor, because clients may send anything: Postgres accepts each key that passes, as a value of its column. JSON
 * writes a number that is not finite as null.
 */
const KINDS = {
  text: (key: unknown): key is string => typeof key === 'string' && isStorableText(key),
  uuid: (key: unknown): key is string => typeof key === 'string' && UUID.test(key),
  int4: (key: unknown): key is number => Number.isInteger(key) && Math.abs(Number(key)) <= MAX_INT4,
  integer: (key: unknown): key is number => Number.isSafeInteger(key),
  number: (key: unknown): key is number | null => key === null || typeof key === 'number',
};
type Kind = keyof typeof KINDS;
type KeyOf<K extends Kind> = (typeof KINDS)[K] extends (key: unknown) => key is infer T ? T : never;

/** Reads the keys of a cursor, and checks that they are of these kinds. @throws CursorError */
export function decodeCursor<const Kinds extends readonly Kind[]>(
  cursor: string,
  kinds: Kinds,
): { -readonly [I in keyof Kinds]: KeyOf<Kinds[I]> } {
  let keys: unknown;
  try {
    keys = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    throw new CursorError('The cursor is invalid. Start again at the first page.');
  }
  const fits = Array.isArray(keys) && keys.length === kinds.length && kinds.every((kind, i) => KINDS[kind](keys[i]));
  if (!fits) throw new CursorError('The cursor does not belong to this list. Start again at the first page.');
  return keys as { -readonly [I in keyof Kinds]: KeyOf<Kinds[I]> };
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Null on the last page. */
  readonly nextCursor: string | null;
  readonly total?: number;
}

/** Makes a page of `limit` items. `rows`: at most `limit + 1`; the additional row shows that a further page exists. */
export function toPage<Row, T>(
  rows: readonly Row[],
  limit: number,
  item: (row: Row) => T,
  keys: (row: Row) => readonly Key[],
  total?: number,
): Page<T> {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return {
    items: shown.map(item),
    nextCursor: rows.length > limit && last !== undefined ? encodeCursor(keys(last)) : null,
    ...(total === undefined ? {} : { total }),
  };
}

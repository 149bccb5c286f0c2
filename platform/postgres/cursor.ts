/** Cursors of lists: where the page before ended, opaque to clients. */

type Key = string | number | null;

/** The cursor is not one that this list gave. */
export class CursorError extends Error {
  override readonly name = 'CursorError';
}

export function encodeCursor(keys: readonly Key[]): string {
  return Buffer.from(JSON.stringify(keys)).toString('base64url');
}

/** @throws CursorError when it has not `count` keys */
export function decodeCursor(cursor: string, count: number): Key[] {
  let keys: unknown;
  try {
    keys = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    throw new CursorError('The cursor is not one of ours.');
  }
  const isKey = (key: unknown): key is Key => key === null || typeof key === 'string' || typeof key === 'number';
  if (!Array.isArray(keys) || keys.length !== count || !keys.every(isKey)) {
    throw new CursorError('The cursor is not one of this list.');
  }
  return keys;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Null on the last page. */
  readonly nextCursor: string | null;
  readonly total?: number;
}

/** Makes a page of `limit` items from rows that were asked for with one more. */
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

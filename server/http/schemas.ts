/** The pieces of which the schemas of every capability are made. */

import { type Static, type TLiteral, type TSchema, type TUnion, Type } from '@sinclair/typebox';

/** The number of items of a page when the client does not name one. */
export const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 500;

/** The longest `Idempotency-Key`, in characters. */
export const MAX_KEY_LENGTH = 200;

/** The option of an object schema that refuses fields which the schema does not name. Request schemas have it. */
export const strict = { additionalProperties: false } as const;

/** A value, or `null` where there is none. */
export function OrNull<S extends TSchema>(schema: S) {
  return Type.Union([schema, Type.Null()]);
}

/** One of several texts. The OpenAPI document shows it as an `enum`. */
export function OneOf<const T extends readonly string[]>(values: T, options: { readonly description?: string } = {}) {
  const literals = values.map((value) => Type.Literal(value));
  return Type.Union(literals, options) as unknown as TUnion<Literals<T>>;
}
type Literals<T extends readonly string[]> = [...{ -readonly [Index in keyof T]: TLiteral<T[Index]> }];

/** Query parameters of a list that is read page by page. */
export const PageQuery = {
  limit: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: MAX_LIMIT,
      default: DEFAULT_LIMIT,
      description: 'The largest number of items that the page has.',
    }),
  ),
  cursor: Type.Optional(
    Type.String({
      maxLength: 1_000,
      description: 'The `nextCursor` of the previous page. The first page is answered without it.',
    }),
  ),
};

/** Query parameters of a list that can also count its items. */
export const ListQuery = {
  ...PageQuery,
  count: Type.Optional(
    Type.Boolean({ description: 'With `true` the answer has `total`, the number of items on all pages.' }),
  ),
};

/** A position of the event log: a sequence, or a sequence and the index of an event in its commit. */
export const POSITION_EXPECTED = 'a position of the event log, such as 1234 or 1234.0';
export const POSITION_PATTERN = '^\\d{1,15}(\\.\\d{1,4})?$';

/** The query parameter of a read that must show an earlier write of the same client. */
export const MinPosition = {
  minPosition: Type.Optional(
    Type.String({
      pattern: POSITION_PATTERN,
      expects: POSITION_EXPECTED,
      description:
        'The answer waits until the read model has reached this position, for at most 2 seconds, and is 503 after that. ' +
        'Use the `Lockfleet-Position` header of the write that the answer has to show.',
    }),
  ),
};

/** A page of a list. `name` is the name of the schema in the OpenAPI document; a page that is part of a larger schema has none. */
export function pageOf<S extends TSchema>(item: S, name?: string) {
  return Type.Object(
    {
      items: Type.Array(item),
      nextCursor: OrNull(Type.String({ description: 'The `cursor` of the next page. It is null on the last page.' })),
      total: Type.Optional(Type.Integer({ description: 'The number of items on all pages, with `count=true`.' })),
    },
    name === undefined ? {} : { title: name },
  );
}

/** What a handler may return where a schema is documented: the same value, also as a read-only one. */
export type Shown<S extends TSchema> = DeepReadonly<Static<S>>;

type DeepReadonly<T> = T extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T;

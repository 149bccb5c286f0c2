/**
 * The schemas and types from which events, commands and requests are built: names, sizes, times and money. The keyword `expects` of a
 * text with a pattern completes the sentence "must be …" in field errors.
 */

import { type Static, Type } from '@sinclair/typebox';

export const UNIT_NAME_PATTERN = '^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$';
const LOCKER_ID_PATTERN = '^[A-Za-z0-9][A-Za-z0-9_-]{0,15}$';
/** The days that exist, without the 29th of February. Postgres stores no other days, and no year 0. */
const DAY_PATTERN =
  '(?!0000)\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))';
const LEAP_DAY_PATTERN = '(\\d\\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29';
/** RFC 3339 in UTC, with up to nine fractional digits. `Date.parse` reads and Postgres stores every time that matches. */
const INSTANT_PATTERN = `^(${DAY_PATTERN}|${LEAP_DAY_PATTERN})T([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?Z$`;

/** Bound on a free text (a reason, a message, a display name) of an event, in UTF-16 code units. */
export const MAX_TEXT_LENGTH = 500;
/** Bound on an identifier, in UTF-16 code units. */
export const MAX_IDENTIFIER_LENGTH = 200;
/** Any characters but control characters and halves of surrogate pairs, in regular expressions with and without the flag `u`. */
const IDENTIFIER_PATTERN = '^([^\\u0000-\\u001f\\u007f\\ud800-\\udfff]|[\\ud800-\\udbff][\\udc00-\\udfff]){0,200}$';
/** Bound on the lockers of one unit. */
export const MAX_LOCKERS_PER_UNIT = 1_000;
/** Bound on an amount of money in minor units: the sum of any day of a unit is exact enough, and fits every column. */
export const MAX_AMOUNT = 100_000_000_000_000;
/** Bound on the version of a schema, a configuration or a key. */
export const MAX_VERSION = 2_147_483_647;

export const UnitName = Type.String({
  pattern: UNIT_NAME_PATTERN,
  description: 'The unique name of a unit.',
  expects: 'the name of a unit: 1 to 63 letters, digits, "-" and "_", the first a letter or digit',
});
export const LockerId = Type.String({
  pattern: LOCKER_ID_PATTERN,
  description: 'The id of a locker, unique in its unit.',
  expects: 'the id of a locker: 1 to 16 letters, digits, "-" and "_", the first a letter or digit',
});
export const Instant = Type.String({
  pattern: INSTANT_PATTERN,
  maxLength: 30,
  description: 'A time in UTC, as RFC 3339 writes it.',
  expects: 'a time in UTC as RFC 3339 writes it, such as 2026-07-01T10:00:00Z',
});
export const Uuid = Type.String({
  pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$',
  description: 'A UUID in lower case.',
  expects: 'a UUID in lower case',
});
/** An identifier that a unit chooses, such as an epoch, a boot id or a hash: 1 to 100 printable ASCII characters. */
export const Token = Type.String({ pattern: '^[!-~]{1,100}$' });
/** An identifier in the form that its maker chose, such as a rental id or the code of a hardware error. */
export const Identifier = Type.String({
  pattern: IDENTIFIER_PATTERN,
  maxLength: MAX_IDENTIFIER_LENGTH,
  expects: `at most ${MAX_IDENTIFIER_LENGTH} characters, none of them a control character`,
});
/** A count from 0, such as of the events of a log. */
export const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** The number of an event in its log, from 1. */
export const Seq = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
export const Text = Type.String({ maxLength: MAX_TEXT_LENGTH });
export const Currency = Type.String({
  pattern: '^[A-Z]{3}$',
  description: 'A currency of ISO 4217, such as EUR.',
  expects: 'a currency of ISO 4217, such as EUR',
});
export const LockerSize = Type.Union([Type.Literal('S'), Type.Literal('M'), Type.Literal('L'), Type.Literal('XL')]);
export type LockerSize = Static<typeof LockerSize>;

/** All sizes from small to large: luggage that fits a locker also fits every locker of a later size. */
export const LOCKER_SIZES: readonly LockerSize[] = ['S', 'M', 'L', 'XL'];

export const Money = Type.Object({
  amount: Type.Integer({
    minimum: 0,
    maximum: MAX_AMOUNT,
    description: 'The amount in minor units of the currency, such as cents.',
  }),
  currency: Currency,
});
export type Money = Static<typeof Money>;

export const Locker = Type.Object({ id: LockerId, size: LockerSize });
export type Locker = Static<typeof Locker>;

const INSTANT = new RegExp(INSTANT_PATTERN);

/** Whether a value is an RFC 3339 time in UTC, in the form that `Instant` accepts. */
export function isInstant(text: unknown): text is string {
  return typeof text === 'string' && INSTANT.test(text);
}

/** Milliseconds since 1970 of an RFC 3339 time; NaN when the text is no time. */
export function toMs(instant: string): number {
  return Date.parse(instant);
}

/** RFC 3339 in UTC with milliseconds, the form in which the platform writes every time. @throws RangeError for NaN */
export function toInstant(ms: number): string {
  return new Date(ms).toISOString();
}

/** Whether a text can be stored, shown and sent as it is: Postgres stores no U+0000, and half of a surrogate pair has no UTF-8. */
export function isStorableText(text: string): boolean {
  return !text.includes('\u0000') && text.isWellFormed();
}

/** The schema of a unit's configuration. The rules that a schema cannot express are in `configuration/validation.ts`. */

import { type Static, Type } from '@sinclair/typebox';
import { Currency, LockerSize } from './vocabulary.ts';

const MAX_LANGUAGES = 20;
const MAX_TEXTS_PER_LANGUAGE = 100;
const MAX_CONFIGURED_TEXT_LENGTH = 500;
const MAX_RENTAL_MINUTES = 60 * 24 * 90;
/** The price of the longest rental stays below the bound on an amount of money. */
const MAX_PRICE_PER_HOUR = 10_000_000_000;

const strict = { additionalProperties: false };
const TimeOfDay = Type.String({ pattern: '^([01]\\d|2[0-3]):[0-5]\\d$|^24:00$' });

export const ConfigurationValues = Type.Object(
  {
    prices: Type.Array(
      Type.Object(
        {
          size: LockerSize,
          perHour: Type.Integer({
            minimum: 0,
            maximum: MAX_PRICE_PER_HOUR,
            description: 'The price of an hour in minor units of the currency.',
          }),
          currency: Currency,
        },
        strict,
      ),
      { minItems: 1, maxItems: 4 },
    ),
    minimumMinutes: Type.Integer({ minimum: 1, maximum: MAX_RENTAL_MINUTES }),
    maximumMinutes: Type.Integer({ minimum: 1, maximum: MAX_RENTAL_MINUTES }),
    holdTtlS: Type.Integer({ minimum: 10, maximum: 86_400 }),
    openingHours: Type.Array(
      Type.Object({ weekday: Type.Integer({ minimum: 1, maximum: 7 }), opens: TimeOfDay, closes: TimeOfDay }, strict),
      {
        maxItems: 28,
        description: 'The opening hours in the time zone of the unit. With an empty list, the unit is always open.',
      },
    ),
    rentalsMayEndOutsideHours: Type.Optional(
      Type.Boolean({
        description:
          'Whether a rental may end while the unit is closed. Without it, a period begins and ends within the opening hours.',
      }),
    ),
    texts: Type.Record(
      Type.String({ pattern: '^[a-z]{2}(-[A-Z]{2})?$' }),
      Type.Record(
        Type.String({ pattern: '^[A-Za-z][A-Za-z0-9._-]{0,63}$' }),
        Type.String({ maxLength: MAX_CONFIGURED_TEXT_LENGTH }),
        { ...strict, maxProperties: MAX_TEXTS_PER_LANGUAGE },
      ),
      { ...strict, maxProperties: MAX_LANGUAGES },
    ),
    pushIntervalMs: Type.Integer({ minimum: 50, maximum: 3_600_000 }),
  },
  strict,
);
export type ConfigurationValues = Static<typeof ConfigurationValues>;

export const VersionedConfiguration = Type.Object({
  version: Type.Integer({ minimum: 1 }),
  hash: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  values: ConfigurationValues,
});
export type VersionedConfiguration = Static<typeof VersionedConfiguration>;

/**
 * The configuration of a unit: its schema and the rules beyond it, the defaults at registration, and the hash that proves what
 * a unit runs. How it comes to the unit: `configuration-delivery.ts`.
 */

import { createHash } from 'node:crypto';
import { type Static, Type } from '@sinclair/typebox';
import type { FieldError } from './refusal.ts';
import { Currency, LockerSize } from './vocabulary.ts';

/** Canonical JSON of the values: a signed command with them must fit what a unit takes over NATS. */
export const MAX_CONFIGURATION_BYTES = 64 * 1024;
const MAX_LANGUAGES = 20;
const MAX_TEXTS_PER_LANGUAGE = 100;
const MAX_CONFIGURED_TEXT_LENGTH = 500;
const MAX_RENTAL_MINUTES = 60 * 24 * 90;

const strict = { additionalProperties: false };
const TimeOfDay = Type.String({ pattern: '^([01]\\d|2[0-3]):[0-5]\\d$|^24:00$' });

export const ConfigurationValues = Type.Object(
  {
    prices: Type.Array(
      Type.Object(
        { size: LockerSize, perHour: Type.Integer({ minimum: 0, description: 'minor units' }), currency: Currency },
        strict,
      ),
      { minItems: 1, maxItems: 4 },
    ),
    minimumMinutes: Type.Integer({ minimum: 1, maximum: MAX_RENTAL_MINUTES }),
    maximumMinutes: Type.Integer({ minimum: 1, maximum: MAX_RENTAL_MINUTES }),
    holdTtlS: Type.Integer({ minimum: 10, maximum: 86_400 }),
    openingHours: Type.Array(
      Type.Object({ weekday: Type.Integer({ minimum: 1, maximum: 7 }), opens: TimeOfDay, closes: TimeOfDay }, strict),
      { maxItems: 28, description: 'in the time zone of the unit; empty: always open' },
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

/** What a unit runs until somebody configures it. `holdTtlS` is the platform's setting. */
export function defaultConfiguration(holdTtlS: number): VersionedConfiguration {
  const values: ConfigurationValues = {
    prices: [
      { size: 'S', perHour: 200, currency: 'EUR' },
      { size: 'M', perHour: 300, currency: 'EUR' },
      { size: 'L', perHour: 450, currency: 'EUR' },
      { size: 'XL', perHour: 600, currency: 'EUR' },
    ],
    minimumMinutes: 15,
    maximumMinutes: 60 * 24 * 7,
    holdTtlS,
    openingHours: [],
    texts: {},
    pushIntervalMs: 1_000,
  };
  return { version: 1, hash: configurationHash(values), values };
}

/**
 * What is wrong with values that have the shape of the schema, by JSON pointer; empty when nothing is. A unit applies the same
 * rules.
 */
export function validateConfiguration(values: ConfigurationValues): FieldError[] {
  const { prices, minimumMinutes, maximumMinutes, openingHours } = values;
  const mistakes: FieldError[] = [];
  const add = (path: string, message: string) => mistakes.push({ path, message });
  prices.forEach(({ size }, index) => {
    const first = prices.findIndex((price) => price.size === size);
    if (first < index) add(`/prices/${index}/size`, `${size} has a price already`);
  });
  if (minimumMinutes > maximumMinutes) {
    add('/minimumMinutes', `must not be above maximumMinutes, which is ${maximumMinutes}`);
  }
  openingHours.forEach(({ opens, closes }, index) => {
    if (opens >= closes)
      add(`/openingHours/${index}/closes`, `must be after ${opens}; write 24:00 for the end of the day`);
  });
  const bytes = Buffer.byteLength(canonicalJson(values));
  if (bytes > MAX_CONFIGURATION_BYTES) {
    add('/texts', `is too long: all values together have ${bytes} bytes, and may have ${MAX_CONFIGURATION_BYTES}`);
  }
  return mistakes;
}

/** Lower-case hex sha256 of the values as canonical JSON (keys sorted at every level, no white space). */
export function configurationHash(values: ConfigurationValues): string {
  return createHash('sha256').update(canonicalJson(values)).digest('hex');
}

export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const fields = Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => `${JSON.stringify(key)}:${canonicalJson(field)}`);
  return `{${fields.join(',')}}`;
}

/** The shortest part of a hash that names a configuration: what a ping over UDP has room for. */
export const SHORT_HASH_LENGTH = 16;

/** Whether two hashes name the same configuration; either may be cut off after `SHORT_HASH_LETTERS` or more. */
export function isSameHash(one: string, other: string): boolean {
  const letters = Math.min(one.length, other.length);
  return letters >= SHORT_HASH_LENGTH && one.slice(0, letters) === other.slice(0, letters);
}

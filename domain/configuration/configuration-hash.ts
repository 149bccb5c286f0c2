/** The hash by which a unit proves which configuration it runs. The unit protocol publishes how it is computed. */

import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import type { ConfigurationValues } from '../configuration-values.ts';

/** Length in hex digits of the shortest prefix of a hash that identifies a configuration; a UDP ping has room for no more. */
export const SHORT_HASH_LENGTH = 16;

/** Lower-case hex SHA-256 of the canonical JSON of the values. @throws when a text is not well-formed Unicode */
export function configurationHash(values: ConfigurationValues): string {
  return createHash('sha256').update(canonicalJson(values)).digest('hex');
}

/** Canonical JSON as RFC 8785 defines it. @throws when a text is not well-formed Unicode, which RFC 8785 excludes */
export function canonicalJson(values: ConfigurationValues): string {
  // The library returns undefined only for input that JSON cannot express, such as a function; an object always has a form.
  return canonicalize(values) as string;
}

/** Whether two hashes identify the same configuration. Each may be a prefix of at least `SHORT_HASH_LENGTH` digits. */
export function isSameHash(one: string, other: string): boolean {
  const length = Math.min(one.length, other.length);
  return length >= SHORT_HASH_LENGTH && one.slice(0, length) === other.slice(0, length);
}

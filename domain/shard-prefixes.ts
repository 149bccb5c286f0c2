/** Shards as operators and NATS subjects write them: lower-case hex prefixes of the hash of a unit's name. */

import { UNIT_HASH_LENGTH } from './shard.ts';

/** Bound on the prefixes of one setting: as many as there are of three digits. Every heartbeat of the process carries them. */
export const MAX_SHARD_PREFIXES = 4_096;
/** Length in hex digits of the longest prefixes that a range may have; a safe integer must be able to count them. */
const MAX_RANGE_LENGTH = 8;

const PREFIX = `[0-9a-f]{1,${UNIT_HASH_LENGTH}}`;
/** Matches one prefix. */
export const SHARD_PREFIX_PATTERN = `^${PREFIX}$`;
const ENTRY = new RegExp(`^(${PREFIX})(?:-(${PREFIX}))?$`);

/** All shards of a length in hex digits, in order: 16 of one digit, 256 of two. */
export function shardsOfLength(length: number): readonly string[] {
  return Array.from({ length: 16 ** length }, (_, index) => formatPrefix(index, length));
}

/**
 * Parses a comma-separated list of prefixes and ranges of them, such as `0-7` or `a,b3`; returns each prefix once.
 * `onError` receives one message, without a subject, for each entry that is invalid.
 */
export function parseShardPrefixes(text: string, onError: (message: string) => void): readonly string[] {
  const prefixes = new Set<string>();
  for (const entry of text.split(',').map((part) => part.trim())) {
    const [, first, last = first] = ENTRY.exec(entry) ?? [];
    if (first === undefined || last === undefined) {
      onError(`must list lower-case hex prefixes and ranges of them, such as 0-7 or a,b3, not "${entry}"`);
    } else if (first.length !== last.length) {
      onError(`must have ranges between prefixes of the same length, not "${entry}"`);
    } else if (first > last) {
      onError(`must have ranges from the lower to the higher prefix, not "${entry}"`);
    } else if (countInRange(first, last) > MAX_SHARD_PREFIXES) {
      onError(`must have ranges of at most ${MAX_SHARD_PREFIXES} prefixes, not "${entry}"`);
    } else {
      for (const prefix of expandRange(first, last)) prefixes.add(prefix);
    }
  }
  if (prefixes.size > MAX_SHARD_PREFIXES) {
    onError(`must have at most ${MAX_SHARD_PREFIXES} prefixes, not ${prefixes.size}`);
  }
  return [...prefixes];
}

function countInRange(first: string, last: string): number {
  if (first === last) return 1;
  if (first.length > MAX_RANGE_LENGTH) return Number.POSITIVE_INFINITY;
  return Number.parseInt(last, 16) - Number.parseInt(first, 16) + 1;
}

function expandRange(first: string, last: string): readonly string[] {
  if (first === last) return [first];
  const start = Number.parseInt(first, 16);
  return Array.from({ length: countInRange(first, last) }, (_, index) => formatPrefix(start + index, first.length));
}

function formatPrefix(value: number, length: number): string {
  return value.toString(16).padStart(length, '0');
}

/** Shards as people and subjects write them: lower-case hex prefixes of the hash of a unit's name. */

import { UNIT_HASH_LENGTH } from './shard.ts';

/** Most prefixes that one `SHARDS` spells out: the three-letter ones. Every heartbeat carries them. */
export const MAX_SHARD_PREFIXES = 4_096;
/** `0-7` and `00-7f` count on from the first to the last of that length; longer ones exceed what a number counts. */
const MAX_RANGE_LETTERS = 8;

const PREFIX = `[0-9a-f]{1,${UNIT_HASH_LENGTH}}`;
/** One prefix. */
export const SHARD_PREFIX_PATTERN = `^${PREFIX}$`;
const ENTRY = new RegExp(`^(${PREFIX})(?:-(${PREFIX}))?$`);
const SHAPE = 'lower-case hex prefixes and ranges of them, such as 0-7 or a,b3';

/** All shards of so many letters, in order: 16 of one letter, 256 of two. */
export function shardsOfLength(letters: number): readonly string[] {
  return Array.from({ length: 16 ** letters }, (_, index) => spell(index, letters));
}

/**
 * The prefixes that a setting lists, each once. `refuse` is told of every part that cannot be understood.
 */
export function parseShardPrefixes(text: string, refuse: (mistake: string) => void): readonly string[] {
  const prefixes = new Set<string>();
  for (const entry of text.split(',').map((part) => part.trim())) {
    const [, first, last = first] = ENTRY.exec(entry) ?? [];
    if (first === undefined || last === undefined) refuse(`has ${SHAPE}, not "${entry}"`);
    else if (first.length !== last.length) refuse(`has ranges from one prefix to another as long, not "${entry}"`);
    else if (first > last) refuse(`has ranges that go up, not "${entry}"`);
    else if (countOf(first, last) > MAX_SHARD_PREFIXES)
      refuse(`has ranges of at most ${MAX_SHARD_PREFIXES} prefixes, not "${entry}"`);
    else for (const prefix of range(first, last)) prefixes.add(prefix);
  }
  if (prefixes.size > MAX_SHARD_PREFIXES) refuse(`has at most ${MAX_SHARD_PREFIXES} prefixes, not ${prefixes.size}`);
  return [...prefixes];
}

function countOf(first: string, last: string): number {
  if (first === last) return 1;
  if (first.length > MAX_RANGE_LETTERS) return Number.POSITIVE_INFINITY;
  return Number.parseInt(last, 16) - Number.parseInt(first, 16) + 1;
}

function range(first: string, last: string): readonly string[] {
  if (first === last) return [first];
  const start = Number.parseInt(first, 16);
  return Array.from({ length: countOf(first, last) }, (_, index) => spell(start + index, first.length));
}

function spell(value: number, letters: number): string {
  return value.toString(16).padStart(letters, '0');
}

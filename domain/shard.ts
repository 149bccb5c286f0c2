/**
 * The hash prefix of a unit name is the unit of scale: it shards pings, ingest and projections, and it stands in
 * every subject, each of its first two letters as a token of its own.
 */

import { createHash } from 'node:crypto';

/** How many lanes a two-letter shard makes: 16 × 16. */
export const LANE_COUNT = 256;
/** Letters of a hash; no name of a unit is as long. */
export const UNIT_HASH_LENGTH = 64;

/** Lower-case hex of sha256(unit name): 64 letters. A shard is any prefix of it. */
export function unitHash(unit: string): string {
  return createHash('sha256').update(unit, 'utf8').digest('hex');
}

/** The two shard tokens of a unit as they stand in a subject, such as `a.3`. */
export function shardTokens(unit: string): string {
  const hash = unitHash(unit);
  return `${hash[0]}.${hash[1]}`;
}

/** The lane of a unit, 0 to 255: the number that its two-letter shard spells in hex. */
export function laneOf(unit: string): number {
  return Number.parseInt(unitHash(unit).slice(0, 2), 16);
}

/** The lane that two shard tokens of a subject spell: `laneOfTokens('a', '3')` is 163. */
export function laneOfTokens(h1: string, h2: string): number {
  return Number.parseInt(h1 + h2, 16);
}

/**
 * Shards: prefixes of the hash of a unit's name. Pings, ingest and projections are divided among processes by shard, and
 * every NATS subject of a unit carries the first two hex digits of the hash as tokens.
 */

import { createHash } from 'node:crypto';

/** Number of lanes: one for each shard of two hex digits. */
export const LANE_COUNT = 256;
/** Length in hex digits of the hash of a unit's name. */
export const UNIT_HASH_LENGTH = 64;

/** Lower-case hex SHA-256 of a unit's name: 64 digits. A shard is any prefix of it. */
export function unitHash(unit: string): string {
  return createHash('sha256').update(unit, 'utf8').digest('hex');
}

/** The two shard tokens of a unit as its subjects carry them, such as `a.3`. */
export function shardTokens(unit: string): string {
  const hash = unitHash(unit);
  return `${hash[0]}.${hash[1]}`;
}

/** The lane of a unit: its shard of two hex digits as a number from 0 to 255. */
export function laneOf(unit: string): number {
  return Number.parseInt(unitHash(unit).slice(0, 2), 16);
}

/** The lane of the units whose subjects carry two shard tokens: `laneOfTokens('a', '3')` is 163. */
export function laneOfTokens(h1: string, h2: string): number {
  return Number.parseInt(h1 + h2, 16);
}

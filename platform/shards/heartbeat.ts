/** What a member puts into the bucket: JSON that says what it is fixed to, if anything. */

import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { MAX_SHARD_PREFIXES, SHARD_PREFIX_PATTERN } from '../../domain/shard-prefixes.ts';

const Heartbeat = Type.Object({
  fixed: Type.Optional(Type.Array(Type.String({ pattern: SHARD_PREFIX_PATTERN }), { maxItems: MAX_SHARD_PREFIXES })),
});
type Heartbeat = Static<typeof Heartbeat>;

export function encodeHeartbeat(fixed: readonly string[] | undefined): string {
  return JSON.stringify(fixed === undefined ? {} : { fixed });
}

/** Undefined when it is none. */
export function decodeHeartbeat(text: string): Heartbeat | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Anybody with the platform's keys can put anything.
    return undefined;
  }
  return Value.Check(Heartbeat, value) ? value : undefined;
}

/** The heartbeat of a member, as JSON in the bucket `members`: it names the prefixes that the member is fixed to. */

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

/** @returns undefined when the text is not a heartbeat */
export function decodeHeartbeat(text: string): Heartbeat | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Every process with credentials of the platform can write to the bucket.
    return undefined;
  }
  return Value.Check(Heartbeat, value) ? value : undefined;
}

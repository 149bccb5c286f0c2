/**
 * Assigns shards to members by rendezvous hashing. The assignment is a function of the members, so that every member computes
 * it by itself and all get the same result.
 *
 * Each candidate of a shard has a rank for it, and the highest rank owns the shard. A member that leaves moves only its own
 * shards, and a member that joins takes only the shards for which it now ranks highest.
 *
 * The candidates of a shard are the members that are fixed to it: to the shard itself, to a shorter prefix, or to a longer one,
 * because a shard is never split. A shard to which no member is fixed has the members without fixed prefixes as candidates.
 */

import { unitHash } from '../../domain/shard.ts';

export interface Member {
  /** Unique for ever: a restarted process has a new id. */
  readonly id: string;
  /** The hash prefixes that the member is fixed to (`SHARDS`). Undefined: shards are assigned to it. */
  readonly fixed: readonly string[] | undefined;
}

/** The id of the owner by shard; a shard without candidates is missing. @param shards all of one length */
export function assignShards(shards: readonly string[], members: readonly Member[]): ReadonlyMap<string, string> {
  const letters = shards[0]?.length ?? 0;
  const unfixed = members.filter(({ fixed }) => fixed === undefined);
  const fixed = members.flatMap((member) =>
    member.fixed === undefined
      ? []
      : [{ member, prefixes: new Set(member.fixed.map((prefix) => prefix.slice(0, letters))) }],
  );
  const owners = new Map<string, string>();
  for (const shard of shards) {
    const fixedToShard = fixed.filter(({ prefixes }) => hasPrefixIn(shard, prefixes)).map(({ member }) => member);
    const owner = highestRanked(shard, fixedToShard.length > 0 ? fixedToShard : unfixed);
    if (owner !== undefined) owners.set(shard, owner);
  }
  return owners;
}

/** @param prefixes each cut to the length of the shard */
function hasPrefixIn(shard: string, prefixes: ReadonlySet<string>): boolean {
  for (let letters = 1; letters <= shard.length; letters += 1) {
    if (prefixes.has(shard.slice(0, letters))) return true;
  }
  return false;
}

/** @returns the id of the candidate with the highest rank for the shard */
function highestRanked(shard: string, candidates: readonly Member[]): string | undefined {
  if (candidates.length <= 1) return candidates[0]?.id;
  let best: { readonly id: string; readonly rank: string } | undefined;
  for (const { id } of candidates) {
    const rank = unitHash(`${shard} ${id}`);
    if (best === undefined || rank > best.rank) best = { id, rank };
  }
  return best?.id;
}

/**
 * Who owns which shard, as a function of who is there: every member comes to the same answer by itself.
 *
 * A shard goes to one of the members that may have it, by rendezvous hashing: each has a number for each shard, and the
 * highest wins. A member that leaves so moves only its own shards, and one that comes takes only those that it now wins.
 *
 * Those that may have a shard are the members that name it: with itself, with a shorter prefix, or with a longer one, since a
 * shard is never split. When nobody names it, they are the members that name nothing.
 */

import { unitHash } from '../../domain/shard.ts';

export interface Member {
  /** Unique among all members, now and later. */
  readonly id: string;
  /** The prefixes that it is fixed to; undefined: it takes what it is dealt. */
  readonly fixed: readonly string[] | undefined;
}

/** The owner's id by shard. What is missing is owned by nobody. `shards`: all of one length. */
export function assignShards(shards: readonly string[], members: readonly Member[]): ReadonlyMap<string, string> {
  const letters = shards[0]?.length ?? 0;
  const dealt = members.filter(({ fixed }) => fixed === undefined);
  const named = members.flatMap((member) =>
    member.fixed === undefined ? [] : [{ member, names: new Set(member.fixed.map((name) => name.slice(0, letters))) }],
  );
  const owners = new Map<string, string>();
  for (const shard of shards) {
    const naming = named.filter(({ names }) => isNamed(shard, names)).map(({ member }) => member);
    const owner = winner(shard, naming.length > 0 ? naming : dealt);
    if (owner !== undefined) owners.set(shard, owner);
  }
  return owners;
}

/** `names`: cut to the length of the shard. */
function isNamed(shard: string, names: ReadonlySet<string>): boolean {
  for (let letters = 1; letters <= shard.length; letters += 1) {
    if (names.has(shard.slice(0, letters))) return true;
  }
  return false;
}

function winner(shard: string, candidates: readonly Member[]): string | undefined {
  if (candidates.length <= 1) return candidates[0]?.id;
  let best: { readonly id: string; readonly rank: string } | undefined;
  for (const { id } of candidates) {
    const rank = unitHash(`${shard} ${id}`);
    if (best === undefined || rank > best.rank) best = { id, rank };
  }
  return best?.id;
}

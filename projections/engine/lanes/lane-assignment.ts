/**
 * Lanes are dealt between the processes that fill a projection: a lane is a two-letter shard. Each version of a projection is a
 * group of its own, so that during a roll-out the old code goes on filling all of what serves, and the new code all of what
 * takes its place. Two owners of a lane for a moment are harmless: the checkpoint fences them.
 */

import { joinGroup } from '../../../platform/shards/group.ts';
import type { Projection } from '../projection.ts';

type Joining = Pick<Parameters<typeof joinGroup>[0], 'config' | 'nats' | 'stop' | 'log'>;

const LANE_LETTERS = 2;
const HEX = 16;

export interface LaneAssignment {
  /** The lanes that this process has of a projection now; none until it has heard who else is there. */
  readonly lanesOf: (projection: Projection) => readonly number[];
  /** Others take over at once. */
  leave(): Promise<void>;
}

export function joinLaneAssignment(projections: readonly Projection[], joining: Joining): LaneAssignment {
  // The same in every group: with the same members, a process has the same lanes of all projections.
  const memberId = Bun.randomUUIDv7();
  const shards = new Map(
    projections.map(({ name, version }) => [
      name,
      joinGroup({ ...joining, memberId, group: `projections-${name}-${version}`, shardLetters: LANE_LETTERS }),
    ]),
  );
  return {
    lanesOf: ({ name }) => (shards.get(name)?.owned() ?? []).map((shard) => Number.parseInt(shard, HEX)),
    leave: async () => {
      await Promise.all([...shards.values()].map((group) => group.leave()));
    },
  };
}

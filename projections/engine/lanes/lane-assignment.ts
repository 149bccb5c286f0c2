/**
 * Assigns lanes to the processes that fill a projection. A lane is a two-letter shard. Each version of a projection has a group
 * of its own: during a roll-out, processes with the old code share all lanes of the run that serves, and processes with the
 * new code share all lanes of the run that will replace it. Two processes may own a lane for a moment; its checkpoint fences them.
 */

import { LANE_COUNT } from '../../../domain/shard.ts';
import { joinGroup } from '../../../platform/shards/group.ts';
import type { Projection } from '../projection.ts';

export const ALL_LANES: readonly number[] = Array.from({ length: LANE_COUNT }, (_, lane) => lane);

const LANE_LETTERS = 2;
const HEX = 16;

export interface LaneAssignmentOptions
  extends Pick<Parameters<typeof joinGroup>[0], 'config' | 'monotonic' | 'nats' | 'stop' | 'log'> {
  /** Names this process in every group, so that it owns the lanes of equal numbers in all projections. */
  readonly memberId: string;
}

export interface LaneAssignment {
  /** The lanes that this process owns of a projection now; none until it has received the heartbeats of the other members. */
  readonly lanesOf: (projection: Projection) => readonly number[];
  /** Announces that this process leaves: the other members take its lanes over at once. */
  leave(): Promise<void>;
}

export function joinLaneAssignment(projections: readonly Projection[], options: LaneAssignmentOptions): LaneAssignment {
  const shards = new Map(
    projections.map(({ name, version }) => [
      name,
      joinGroup({ ...options, group: `projections-${name}-${version}`, shardLetters: LANE_LETTERS }),
    ]),
  );
  return {
    lanesOf: ({ name }) => (shards.get(name)?.owned() ?? []).map((shard) => Number.parseInt(shard, HEX)),
    leave: async () => {
      await Promise.all([...shards.values()].map((group) => group.leave()));
    },
  };
}

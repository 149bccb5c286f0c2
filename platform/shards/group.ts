/** Joins a group of processes that split work by shard, with a new member id and the shards of `SHARDS`. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/config.ts';
import type { Nats } from '../nats/connection.ts';
import type { Log } from '../observability/log.ts';
import { joinShards, type Shards } from './join.ts';

export interface GroupOptions {
  readonly group: string;
  readonly shardLetters: number;
  readonly memberId?: string;
  readonly config: Pick<Config, 'shards'>;
  readonly nats: Nats;
  readonly stop: AbortSignal;
  readonly log: Log;
}

export function joinGroup({ group, shardLetters, memberId, config, nats, stop, log }: GroupOptions): Shards {
  return joinShards({
    nats,
    group,
    shardLetters,
    fixed: config.shards,
    memberId: memberId ?? Bun.randomUUIDv7(),
    monotonic: () => performance.now(),
    pause: (ms, until) => sleep(ms, undefined, { signal: until }).catch(() => undefined),
    log,
    signal: stop,
  });
}

/** Joins a group of processes that split work by shard, with a new member id and the shards of `SHARDS`. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../config/config.ts';
import type { Nats } from '../nats/connection.ts';
import type { Log } from '../observability/log.ts';
import { joinShards, type Shards } from './join.ts';

export interface GroupOptions {
  readonly group: string;
  readonly shardLetters: number;
  /** New at every start: letters, digits, `_`, `-`. */
  readonly memberId: string;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  readonly config: Pick<Config, 'shards'> & { readonly nats: Pick<Config['nats'], 'replicas'> };
  readonly nats: Nats;
  readonly stop: AbortSignal;
  readonly log: Log;
}

export function joinGroup({ config, stop, ...options }: GroupOptions): Shards {
  return joinShards({
    ...options,
    replicas: config.nats.replicas,
    fixed: config.shards,
    pause: (ms, until) => sleep(ms, undefined, { signal: until }).catch(() => undefined),
    signal: stop,
  });
}

/** The target list: the units of this process's shards, as the read model knows them. The change feed names those that change. */

import type { Connectivity } from '../../domain/connectivity/connectivity.ts';
import type { EventOf } from '../../domain/events/catalogue.ts';
import { unitHash } from '../../domain/shard.ts';
import { shardsOfLength } from '../../domain/shard-prefixes.ts';
import { UnitFollower, type UnitQuery } from '../../platform/change-feed/follower.ts';
import type { UnitChangeSubscription } from '../../platform/change-feed/subscription.ts';
import type { RecordedPosition } from './unit-table.ts';

/** Most units in one page of a read. */
export const MAX_TARGETS_PER_PAGE = 5_000;
/** Processes divide the units by shards of this many hex letters. */
export const SHARD_LETTERS = 2;
const SHARDS = shardsOfLength(SHARD_LETTERS);

export type ProbeKind = EventOf<'UnitRegistered'>['probe'];

/** A unit in the read model. */
export interface PingTarget {
  readonly name: string;
  /** The hash of the name: 64 hex letters. */
  readonly hash: string;
  /** `host:port`, or a text that leads nowhere: then the pinger relies on the unit's heartbeats. */
  readonly address: string;
  readonly probe: ProbeKind;
  readonly keyVersion: number;
  /** False when the unit is retired or its credentials are revoked: then the pinger does not monitor it. */
  readonly inUse: boolean;
  /** The position up to which the platform has recorded the unit's log. The unit deletes its log up to here. */
  readonly recorded?: RecordedPosition;
  /** The status in the read model, which may lag behind the event log. */
  readonly connectivity?: Connectivity['status'];
}

export interface PingTargetSource {
  /** Reads a page of all units, or the units with given names. */
  read(query: UnitQuery): Promise<readonly PingTarget[]>;
  /** Names the units whose rows changed. */
  readonly changes: Pick<UnitChangeSubscription, 'take' | 'putBack'>;
}

export interface TargetListOptions {
  readonly targets: PingTargetSource;
  /** Whether this process owns a two-letter shard. */
  readonly owns: (shard: string) => boolean;
  /** Milliseconds of the monotonic clock. */
  readonly monotonic: () => number;
  /** Called for each unit that is new or has changed, and during a full read for every unit. */
  readonly onChanged: (target: PingTarget, isFullRead: boolean) => void;
  readonly onRemoved: (unit: string) => void;
}

export class TargetList {
  readonly #options: TargetListOptions;
  readonly #follower: UnitFollower<PingTarget>;
  /** The shard of each unit in the list, as a number. */
  readonly #shardOf = new Map<string, number>();

  constructor(options: TargetListOptions) {
    const { targets, owns, monotonic } = options;
    this.#options = options;
    this.#follower = new UnitFollower({
      changes: targets.changes,
      read: (query) => targets.read(query),
      owns: (name) => owns(unitHash(name).slice(0, SHARD_LETTERS)),
      pageSize: MAX_TARGETS_PER_PAGE,
      monotonic,
      onUnit: (target, isFullRead) => this.#update(target, isFullRead),
      onAbsent: (name) => this.#remove(name),
      onFullRead: (present) => this.#removeAllBut(present),
    });
  }

  /** How many units the list contains. */
  get size(): number {
    return this.#shardOf.size;
  }

  /** Removes the units of shards that this process no longer owns. The next refresh reads all units. */
  reshard(): void {
    const { owns } = this.#options;
    for (const [unit, shard] of this.#shardOf) if (!owns(SHARDS[shard] ?? '')) this.#remove(unit);
    this.#follower.requestFullRead();
  }

  /** Reads the units that changed, or all units. After a failed query the list keeps its units. @throws what `read` throws */
  async refresh(signal: AbortSignal): Promise<void> {
    await this.#follower.refresh(signal);
  }

  #update(target: PingTarget, isFullRead: boolean): void {
    const { owns, onChanged } = this.#options;
    const { name, hash, inUse } = target;
    const shard = hash.slice(0, SHARD_LETTERS);
    if (!inUse || !owns(shard)) {
      this.#remove(name);
      return;
    }
    this.#shardOf.set(name, Number.parseInt(shard, 16));
    onChanged(target, isFullRead);
  }

  #remove(unit: string): void {
    if (this.#shardOf.delete(unit)) this.#options.onRemoved(unit);
  }

  #removeAllBut(present: ReadonlySet<string>): void {
    for (const unit of this.#shardOf.keys()) if (!present.has(unit)) this.#remove(unit);
  }
}

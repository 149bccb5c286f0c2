/** The units that this process pings: those of its shards, as the read model knows them. The change feed names those that change. */

import type { Connectivity } from '../../domain/connectivity/connectivity.ts';
import type { EventOf } from '../../domain/events/catalogue.ts';
import { unitHash } from '../../domain/shard.ts';
import { shardsOfLength } from '../../domain/shard-prefixes.ts';
import { UnitFollower, type UnitQuery } from '../../platform/change-feed/follower.ts';
import type { UnitChangeSubscription } from '../../platform/change-feed/subscription.ts';
import type { RecordedPlace } from './unit-table.ts';

/** Units in one page. */
export const MAX_TARGETS_PER_PAGE = 5_000;
/** Units are dealt between processes by shards of so many letters. */
export const SHARD_LETTERS = 2;
const SHARDS = shardsOfLength(SHARD_LETTERS);

export type ProbeKind = EventOf<'UnitRegistered'>['probe'];

/** A unit as it is registered and recorded. */
export interface PingTarget {
  readonly name: string;
  /** Of the name, 64 hex letters. */
  readonly hash: string;
  /** `host:port` */
  readonly address: string;
  readonly probe: ProbeKind;
  readonly keyVersion: number;
  /** Whether it is to be pinged: it is not retired, and has credentials. */
  readonly inUse: boolean;
  /** The place in the unit's log up to which everything is recorded: the unit deletes its log up to here. */
  readonly recorded?: RecordedPlace;
  /** What the read model believes; it may lag. */
  readonly connectivity?: Connectivity['status'];
}

export interface PingTargetSource {
  /** Reads a page of all units, or those that are named. */
  read(query: UnitQuery): Promise<readonly PingTarget[]>;
  /** Names the units whose rows changed. */
  readonly changes: Pick<UnitChangeSubscription, 'take' | 'putBack'>;
}

export interface TargetListOptions {
  readonly targets: PingTargetSource;
  /** Whether this process pings the units of a two-letter shard. */
  readonly owns: (shard: string) => boolean;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  /** A unit that is new or has changed; in a reading of all units, also one that has not changed. */
  readonly onChanged: (target: PingTarget, isFullRead: boolean) => void;
  readonly onRemoved: (unit: string) => void;
}

export class TargetList {
  readonly #options: TargetListOptions;
  readonly #follower: UnitFollower<PingTarget>;
  /** The lane of each unit: the number that its shard spells. */
  readonly #units = new Map<string, number>();

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
      onFullRead: (present) => this.#retain(present),
    });
  }

  get size(): number {
    return this.#units.size;
  }

  /** This process owns other shards now: units of those that it lost are removed, and the next refresh reads all units. */
  reshard(): void {
    const { owns } = this.#options;
    for (const [unit, lane] of this.#units) if (!owns(SHARDS[lane] ?? '')) this.#remove(unit);
    this.#follower.requestFullRead();
  }

  /** Reads the units that changed, or all units. When a query fails, the units that are known stay. @throws what `read` throws */
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
    this.#units.set(name, Number.parseInt(shard, 16));
    onChanged(target, isFullRead);
  }

  #remove(unit: string): void {
    if (this.#units.delete(unit)) this.#options.onRemoved(unit);
  }

  #retain(present: ReadonlySet<string>): void {
    for (const unit of this.#units.keys()) if (!present.has(unit)) this.#remove(unit);
  }
}

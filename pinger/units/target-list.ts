/**
 * The units to watch, as the read model knows them: all of them at first and now and then, and between that those that have
 * changed. Of several processes each watches the units of its shards.
 */

import type { Connectivity } from '../../domain/connectivity/connectivity.ts';
import type { EventOf } from '../../domain/events/catalogue.ts';
import { shardsOfLength } from '../../domain/shard-prefixes.ts';
import type { RecordedPlace } from './unit-table.ts';

/** Units in one page. */
export const MAX_TARGETS_PER_PAGE = 5_000;
/** How often all are read, to find what was missed. */
export const FULL_READ_INTERVAL_MS = 600_000;

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
  /**
   * The units that changed after a position, whose name comes after `afterName`, in order, `limit` at most; fewer than that
   * are the last. `completeTo`: nothing up to that position is missing.
   */
  changed(query: {
    readonly since: number;
    readonly afterName: string | undefined;
    readonly limit: number;
  }): Promise<{ readonly targets: readonly PingTarget[]; readonly completeTo: number }>;
}

export interface TargetListOptions {
  readonly targets: PingTargetSource;
  /** Whether this process watches the units of a two-letter shard. */
  readonly owns: (shard: string) => boolean;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  /** A unit that is new or has changed; in a reading of everything, also one that has not. */
  readonly onChanged: (target: PingTarget, isFullRead: boolean) => void;
  readonly onRemoved: (unit: string) => void;
}

export class TargetList {
  readonly #options: TargetListOptions;
  /** The lane of each unit: the number that its shard spells. */
  readonly #units = new Map<string, number>();
  #seenTo = 0;
  #fullReadMs = Number.NEGATIVE_INFINITY;
  /** How often other shards were owned: what was read of the old ones is not everything. */
  #deals = 0;

  constructor(options: TargetListOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#units.size;
  }

  /** Other shards are owned now: units of those that went away are gone, and the next reading reads everything. */
  reshard(): void {
    const { owns, onRemoved: onGone } = this.#options;
    for (const [unit, lane] of this.#units) {
      if (owns(SHARDS[lane] ?? '')) continue;
      this.#units.delete(unit);
      onGone(unit);
    }
    this.#deals += 1;
    this.#fullReadMs = Number.NEGATIVE_INFINITY;
  }

  /** Reads what has changed, or everything. A page that fails ends it; what was known stays. @throws what `changed` throws */
  async refresh(signal: AbortSignal): Promise<void> {
    const { targets, monotonic } = this.#options;
    const startedMs = monotonic();
    const isFull = startedMs - this.#fullReadMs >= FULL_READ_INTERVAL_MS;
    const present = new Set<string>();
    const deals = this.#deals;
    let completeTo: number | undefined;
    for (let afterName: string | undefined; !signal.aborted; ) {
      const query = { since: isFull ? 0 : this.#seenTo, afterName, limit: MAX_TARGETS_PER_PAGE };
      const page = await targets.changed(query);
      completeTo ??= page.completeTo;
      for (const target of page.targets) if (this.#take(target, isFull)) present.add(target.name);
      afterName = page.targets.at(-1)?.name;
      if (page.targets.length >= MAX_TARGETS_PER_PAGE) continue;
      this.#seenTo = completeTo;
      if (!isFull || deals !== this.#deals) return;
      this.#keep(present);
      this.#fullReadMs = startedMs;
      return;
    }
  }

  /** @returns whether it is watched here */
  #take(target: PingTarget, isFullRead: boolean): boolean {
    const { owns, onChanged: onPut, onRemoved: onGone } = this.#options;
    const { name, hash, inUse } = target;
    const shard = hash.slice(0, SHARD_LETTERS);
    if (inUse && owns(shard)) {
      this.#units.set(name, Number.parseInt(shard, 16));
      onPut(target, isFullRead);
      return true;
    }
    if (this.#units.delete(name)) onGone(name);
    return false;
  }

  #keep(present: ReadonlySet<string>): void {
    for (const unit of this.#units.keys()) {
      if (present.has(unit)) continue;
      this.#units.delete(unit);
      this.#options.onRemoved(unit);
    }
  }
}

/** The units to watch: read page by page from whoever knows them, and kept by the slot in which they are pinged. */

import { parseAddress } from '../domain/address.ts';
import type { Connectivity } from '../domain/connectivity.ts';
import type { EventOf } from '../domain/events/catalogue.ts';
import { slotIndexOf, slotsPerInterval } from './schedule.ts';
import type { SlotTarget } from './tasks.ts';

/** Units in one page. */
export const MAX_TARGETS_PER_PAGE = 1_000;

export type ProbeKind = EventOf<'UnitRegistered'>['probe'];

/** A unit as it is registered and recorded. */
export interface PingTarget {
  readonly name: string;
  /** `host:port` */
  readonly address: string;
  readonly probe: ProbeKind;
  readonly keyVersion: number;
  /** The place in the unit's log up to which everything is recorded: the unit deletes its log up to here. */
  readonly recorded?: { readonly epoch: string; readonly seq: number };
  /** What the read model believes; it may lag. */
  readonly connectivity?: Connectivity['status'];
}

export interface PingTargets {
  /** The units in use whose name comes after `afterName`, in order, `limit` at most; fewer than that are the last. */
  page(afterName: string | undefined, limit: number): Promise<readonly PingTarget[]>;
}

/** A unit that is watched. */
export interface Watched {
  readonly target: PingTarget;
  /** How it is pinged; `undefined` when its probe is another one or its address is none. */
  readonly ping: SlotTarget | undefined;
}

export interface Refreshed {
  readonly joined: readonly string[];
  readonly left: readonly string[];
}

export class TargetList {
  readonly #targets: PingTargets;
  readonly #unitKey: (name: string, keyVersion: number) => Uint8Array;
  readonly #intervalMs: number;
  readonly #units = new Map<string, Watched>();
  readonly #slots: Map<string, Watched>[];

  constructor(targets: PingTargets, unitKey: (name: string, keyVersion: number) => Uint8Array, intervalMs: number) {
    this.#targets = targets;
    this.#unitKey = unitKey;
    this.#intervalMs = intervalMs;
    this.#slots = Array.from({ length: slotsPerInterval(intervalMs) }, () => new Map());
  }

  get size(): number {
    return this.#units.size;
  }

  get(unit: string): Watched | undefined {
    return this.#units.get(unit);
  }

  /** The units of a slot. */
  inSlot(index: number): Iterable<Watched> {
    return this.#slots[index]?.values() ?? [];
  }

  all(): Iterable<Watched> {
    return this.#units.values();
  }

  /** Reads everything again. A page that fails ends it; what was known stays. @throws what `page` throws */
  async refresh(signal: AbortSignal): Promise<Refreshed> {
    const present = new Set<string>();
    const joined: string[] = [];
    for (let after: string | undefined; !signal.aborted; ) {
      const page = await this.#targets.page(after, MAX_TARGETS_PER_PAGE);
      for (const target of page) {
        present.add(target.name);
        if (!this.#units.has(target.name)) joined.push(target.name);
        this.#put(target);
      }
      after = page.at(-1)?.name;
      if (page.length < MAX_TARGETS_PER_PAGE) return { joined, left: this.#keep(present) };
    }
    return { joined, left: [] };
  }

  #put(target: PingTarget): void {
    const { name } = target;
    const watched = { target, ping: this.#pingOf(target, this.#units.get(name)) };
    this.#units.set(name, watched);
    this.#slots[slotIndexOf(name, this.#intervalMs)]?.set(name, watched);
  }

  #pingOf(target: PingTarget, before: Watched | undefined): SlotTarget | undefined {
    const { name, address, probe, keyVersion, recorded } = target;
    const place = probe === 'http' ? parseAddress(address) : undefined;
    if (place === undefined) return undefined;
    const key =
      before?.ping !== undefined && before.target.keyVersion === keyVersion
        ? before.ping.key
        : this.#unitKey(name, keyVersion);
    return { unit: name, ...place, key, ...(recorded === undefined ? {} : { recorded }) };
  }

  #keep(present: ReadonlySet<string>): string[] {
    const left = [...this.#units.keys()].filter((name) => !present.has(name));
    for (const name of left) {
      this.#units.delete(name);
      this.#slots[slotIndexOf(name, this.#intervalMs)]?.delete(name);
    }
    return left;
  }
}

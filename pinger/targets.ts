/** The units to watch: read page by page from whoever knows them. */

import type { Connectivity } from '../domain/connectivity.ts';
import type { EventOf } from '../domain/events/catalogue.ts';

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

export interface Refreshed {
  /** New, or other than before. */
  readonly changed: readonly PingTarget[];
  readonly left: readonly string[];
}

export class TargetList {
  readonly #targets: PingTargets;
  #units = new Map<string, PingTarget>();

  constructor(targets: PingTargets) {
    this.#targets = targets;
  }

  get size(): number {
    return this.#units.size;
  }

  all(): Iterable<PingTarget> {
    return this.#units.values();
  }

  /** Reads everything again. A page that fails ends it; what was known stays. @throws what `page` throws */
  async refresh(signal: AbortSignal): Promise<Refreshed> {
    const present = new Map<string, PingTarget>();
    const changed: PingTarget[] = [];
    for (let after: string | undefined; !signal.aborted; ) {
      const page = await this.#targets.page(after, MAX_TARGETS_PER_PAGE);
      for (const target of page) {
        present.set(target.name, target);
        if (!isSame(this.#units.get(target.name), target)) changed.push(target);
      }
      after = page.at(-1)?.name;
      if (page.length >= MAX_TARGETS_PER_PAGE) continue;
      const left = [...this.#units.keys()].filter((name) => !present.has(name));
      this.#units = present;
      return { changed, left };
    }
    return { changed: [], left: [] };
  }
}

function isSame(known: PingTarget | undefined, target: PingTarget): boolean {
  return (
    known !== undefined &&
    known.address === target.address &&
    known.probe === target.probe &&
    known.keyVersion === target.keyVersion &&
    known.connectivity === target.connectivity &&
    known.recorded?.epoch === target.recorded?.epoch &&
    known.recorded?.seq === target.recorded?.seq
  );
}

/** The state of a unit in memory: its folds, an estimate of its size, and the commits that it is known to lack. */

import type { FoldableCommit, UnitState } from '../../domain/unit/unit.ts';
import { evolveUnit } from '../../domain/unit/unit.ts';
import type { Notice } from '../event-store/store.ts';

/** Heap for one byte of a state's JSON. JavaScriptCore took 1.4 bytes for states of 22 kB; small ones take more. */
const HEAP_BYTES_PER_JSON_BYTE = 2;
/** Least assumed growth of a state by one event, until the state is measured again. */
const MIN_BYTES_PER_FOLDED_EVENT = 512;
/** A state is measured again when its estimate has doubled, and not before it has grown by this much. */
const MIN_GROWTH_BEFORE_MEASURING_BYTES = 16 * 1024;

/** The estimated size of a state. */
export interface StateSize {
  readonly bytes: number;
  /** The estimate at which the state is measured again. */
  readonly measureAgainAtBytes: number;
}

export class CachedUnit {
  /** Every commit up to this position was folded when the state was loaded. */
  readonly completeTo: number;
  #state: UnitState;
  /** First and last position of the commits that other writers appended since, and that the state lacks. */
  #missing: { readonly from: number; readonly to: number } | undefined;
  #size: StateSize;

  /** @param grown the size of the state before the last events of it, and their `growthBy`. Without it, the state is measured. */
  constructor(
    state: UnitState,
    completeTo: number,
    grown?: { readonly from: StateSize; readonly bytes: number } | undefined,
  ) {
    this.#state = state;
    this.completeTo = completeTo;
    this.#size = grown === undefined ? measure(state) : grow(grown.from, grown.bytes, state);
  }

  get state(): UnitState {
    return this.#state;
  }

  /** Estimated size on the heap: at most about twice the measured size, plus 16 KiB. */
  get bytes(): number {
    return this.#size.bytes;
  }

  get size(): StateSize {
    return this.#size;
  }

  get isMissingCommits(): boolean {
    return this.#missing !== undefined;
  }

  /** Position of the first commit that the state is known to lack, infinite when it lacks none. */
  get firstMissing(): number {
    return this.#missing?.from ?? Number.POSITIVE_INFINITY;
  }

  /** Position of the last commit that the state is known to lack, 0 when it lacks none. */
  get lastMissing(): number {
    return this.#missing?.to ?? 0;
  }

  /** Notes that other writers, or another decision, appended a commit. A commit that is folded already changes nothing. */
  noteCommit({ aggregate, sequence }: Notice): void {
    if (sequence <= this.#state.sequences[aggregate]) return;
    const { from = sequence, to = sequence } = this.#missing ?? {};
    this.#missing = { from: Math.min(from, sequence), to: Math.max(to, sequence) };
  }

  /** Folds a commit that a decision on this state has appended. */
  fold(commit: FoldableCommit): void {
    const { sequence, events } = commit;
    this.#state = evolveUnit(this.#state, commit);
    // The follower may have noted this commit before the append was acknowledged.
    if (this.#missing?.from === sequence && this.#missing.to === sequence) this.#missing = undefined;
    this.#size = grow(this.#size, growthBy(events), this.#state);
  }
}

/** Measuring serialises the state, so it happens when a state is loaded and each time that its estimate doubles. */
function measure(state: UnitState): StateSize {
  const bytes = JSON.stringify(state).length * HEAP_BYTES_PER_JSON_BYTE;
  return { bytes, measureAgainAtBytes: bytes + Math.max(bytes, MIN_GROWTH_BEFORE_MEASURING_BYTES) };
}

/** The most by which events make a state grow, in bytes: a state report or a configuration can have hundreds of kilobytes. */
export function growthBy(events: FoldableCommit['events']): number {
  let bytes = 0;
  for (const { data } of events) {
    bytes += Math.max(MIN_BYTES_PER_FOLDED_EVENT, JSON.stringify(data).length * HEAP_BYTES_PER_JSON_BYTE);
  }
  return bytes;
}

/** The size of a state that has grown by some bytes. */
function grow({ bytes, measureAgainAtBytes }: StateSize, growthBytes: number, state: UnitState): StateSize {
  const grownBytes = bytes + growthBytes;
  return grownBytes >= measureAgainAtBytes ? measure(state) : { bytes: grownBytes, measureAgainAtBytes };
}

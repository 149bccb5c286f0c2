/**
 * Flap damping: each time a unit goes offline adds one to its penalty, and the penalty decays with time. A unit with a high penalty
 * flaps, and more misses are needed to call it offline. A proof brings any unit online at once.
 */

/** The penalty from which on a unit flaps. */
export const FLAPPING_FROM = 3;
/** The time in which a penalty decays by one. */
export const FLAP_DECAY_MS = 600_000;
/** Each offline beyond `FLAPPING_FROM` doubles the misses that are needed, at most this often. */
export const MAX_DOUBLINGS = 3;

/** Keeps penalties by unit index. */
export class FlapDamper {
  readonly #monotonic: () => number;
  readonly #penalties: Float64Array;
  /** When each penalty was last raised, on the monotonic clock. */
  readonly #raisedMs: Float64Array;
  /** Units that may have a penalty. */
  readonly #penalized = new Set<number>();

  /** `capacity`: one more than the highest index. `monotonic`: milliseconds of the monotonic clock. */
  constructor(capacity: number, monotonic: () => number) {
    this.#monotonic = monotonic;
    this.#penalties = new Float64Array(capacity);
    this.#raisedMs = new Float64Array(capacity);
  }

  recordOffline(index: number): void {
    this.#penalties[index] = this.#penalty(index) + 1;
    this.#raisedMs[index] = this.#monotonic();
    this.#penalized.add(index);
  }

  /** Removes the penalty of a unit. */
  reset(index: number): void {
    this.#penalties[index] = 0;
    this.#penalized.delete(index);
  }

  isFlapping(index: number): boolean {
    return this.#penalty(index) >= FLAPPING_FROM - 1 / 2;
  }

  /** How many units flap. */
  get count(): number {
    let flapping = 0;
    for (const index of this.#penalized) {
      if (this.#penalty(index) === 0) this.reset(index);
      else if (this.isFlapping(index)) flapping += 1;
    }
    return flapping;
  }

  /** How many misses in a row make this unit offline. `failures`: how many do for a unit that does not flap. */
  failuresToOffline(index: number, failures: number): number {
    if (!this.isFlapping(index)) return failures;
    const doublings = Math.round(this.#penalty(index)) - FLAPPING_FROM + 1;
    return failures * 2 ** Math.min(MAX_DOUBLINGS, doublings);
  }

  /** The penalty now, after decay. */
  #penalty(index: number): number {
    const penalty = this.#penalties[index] ?? 0;
    if (penalty === 0) return 0;
    return Math.max(0, penalty - (this.#monotonic() - (this.#raisedMs[index] ?? 0)) / FLAP_DECAY_MS);
  }
}

/**
 * Units that go offline and come back again and again. Each time counts, and is forgotten with time; from some on, the unit
 * must be missing for longer until it is called offline. That it is online is believed at once, as of any unit.
 */

/** From so many on, a unit flaps. */
export const FLAPPING_FROM = 3;
/** In this time one of them is forgotten. */
export const FLAP_DECAY_MS = 600_000;
/** The misses that are needed double with each further one, this often at most. */
export const MAX_DOUBLINGS = 3;
/** Units that are remembered; of further ones each time is the first. */
const MAX_UNITS = 100_000;

export class FlapDamper {
  readonly #monotonic: () => number;
  readonly #units = new Map<string, { penalty: number; atMs: number }>();

  /** `monotonic`: milliseconds of a clock that never jumps. */
  constructor(monotonic: () => number) {
    this.#monotonic = monotonic;
  }

  recordOffline(unit: string): void {
    const penalty = this.#penalty(unit) + 1;
    if (this.#units.size < MAX_UNITS || this.#units.has(unit))
      this.#units.set(unit, { penalty, atMs: this.#monotonic() });
  }

  forget(unit: string): void {
    this.#units.delete(unit);
  }

  isFlapping(unit: string): boolean {
    return this.#units.size > 0 && this.#penalty(unit) >= FLAPPING_FROM - 1 / 2;
  }

  /** How many flap. */
  get count(): number {
    for (const unit of this.#units.keys()) if (this.#penalty(unit) === 0) this.#units.delete(unit);
    return [...this.#units.keys()].filter((unit) => this.isFlapping(unit)).length;
  }

  /** How many misses make this unit offline, where so many do with others. */
  failuresToOffline(unit: string, failures: number): number {
    if (!this.isFlapping(unit)) return failures;
    const doublings = Math.round(this.#penalty(unit)) - FLAPPING_FROM + 1;
    return failures * 2 ** Math.min(MAX_DOUBLINGS, doublings);
  }

  #penalty(unit: string): number {
    const known = this.#units.get(unit);
    return known === undefined ? 0 : Math.max(0, known.penalty - (this.#monotonic() - known.atMs) / FLAP_DECAY_MS);
  }
}

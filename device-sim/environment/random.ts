/** Randomness as a dependency: every random choice of the simulator is drawn from a seed, so that a run can be repeated. */

import { createHash } from 'node:crypto';
import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator';

const STATE_WORDS = [0, 4, 8, 12] as const;

export class Random {
  readonly #generator: RandomGenerator;

  /**
   * The same seed and stream give the same draws.
   * @param stream names a purpose: draws for one purpose do not shift those of another under the same seed
   */
  constructor(seed: number, stream: string) {
    const hash = createHash('sha256').update(`${seed}/${stream}`).digest();
    this.#generator = xoroshiro128plusFromState(STATE_WORDS.map((offset) => hash.readInt32LE(offset)));
  }

  /** A number from 0 (included) to 1 (excluded). */
  next(): number {
    return uniformFloat64(this.#generator);
  }

  /** A whole number, both ends included. */
  integer(minimum: number, maximum: number): number {
    return uniformInt(this.#generator, minimum, maximum);
  }

  /** A number from `minimum` (included) to `maximum` (excluded). */
  between(minimum: number, maximum: number): number {
    return minimum + this.next() * (maximum - minimum);
  }

  /** True with a probability from 0 to 1. */
  isChosen(probability: number): boolean {
    return this.next() < probability;
  }

  /** @throws RangeError when the list is empty */
  pick<T>(choices: readonly T[]): T {
    const choice = choices.length === 0 ? undefined : choices[this.integer(0, choices.length - 1)];
    if (choice === undefined) throw new RangeError('cannot pick from an empty list');
    return choice;
  }

  /** The time to the next arrival of a Poisson process whose arrivals are `mean` apart on average. */
  exponential(mean: number): number {
    return -Math.log(1 - this.next()) * mean;
  }
}

import { randomInt } from 'node:crypto';
import { uniformFloat64 } from 'pure-rand/distribution/uniformFloat64';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** Random numbers that a failed test can repeat. */
export interface SeededRandom {
  readonly seed: number;
  /** A number from 0 (included) to 1 (excluded). */
  next(): number;
  /** A whole number from 0 (included) to `limit` (excluded); 0 when `limit` is 0. */
  below(limit: number): number;
  pick<T>(list: readonly [T, ...T[]]): T;
}

const MAX_SEED = 2 ** 31;

/**
 * Prints its seed on standard error, so that a failure can be repeated with `TEST_SEED=… ./run test FILE`.
 * @param seed @default TEST_SEED, or a random seed when that is not set
 * @param options.isQuiet whether the caller names the seed itself
 */
export function seededRandom(
  seed = Number(process.env.TEST_SEED ?? randomInt(MAX_SEED)),
  { isQuiet = false }: { readonly isQuiet?: boolean } = {},
): SeededRandom {
  if (!isQuiet) console.error(`seed ${seed} (again with TEST_SEED=${seed})`);
  const generator = xoroshiro128plus(seed);
  const below = (limit: number) => (limit > 0 ? uniformInt(generator, 0, limit - 1) : 0);
  return {
    seed,
    next: () => uniformFloat64(generator),
    below,
    pick: (list) => list[below(list.length)] ?? list[0],
  };
}

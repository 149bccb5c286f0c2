import { randomInt } from 'node:crypto';

/** Chance that can be repeated. */
export interface SeededRandom {
  readonly seed: number;
  /** From 0 up to, not including, 1. */
  next(): number;
  /** A whole number from 0 up to, not including, `limit`. */
  below(limit: number): number;
  pick<T>(list: readonly [T, ...T[]]): T;
}

const MAX_SEED = 2 ** 31;

/**
 * Prints its seed, so that a failure can be repeated with `TEST_SEED=… ./run test FILE`.
 * @param seed @default TEST_SEED, else one by chance
 */
export function seededRandom(seed = Number(process.env.TEST_SEED ?? randomInt(MAX_SEED))): SeededRandom {
  console.log(`seed ${seed} (again with TEST_SEED=${seed})`);
  let state = seed >>> 0;
  // The generator mulberry32: small, fast, and good enough to mix test cases.
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit: number) => Math.floor(next() * limit);
  return { seed, next, below, pick: (list) => list[below(list.length)] ?? list[0] };
}

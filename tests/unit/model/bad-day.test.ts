/**
 * The model test: what holds on every bad day. `./run model` plays 10,000 of them, or the one of a seed.
 */

import { expect, test } from 'bun:test';
import { seededRandom } from '../../support/random.ts';
import { playBadDay } from './bad-day.ts';

const SEEDS = 100;
const MS_PER_SEED = 1_000;

test(
  'no locker opens for two, nobody loses belongings, and everybody who paid gets a locker or the money',
  async () => {
    const first = seededRandom().seed;
    for (let seed = first; seed < first + SEEDS; seed += 1) {
      const violations = await playBadDay(seededRandom(seed, { isQuiet: true }));
      expect({ seed, violations }).toEqual({ seed, violations: [] });
    }
  },
  60_000 + SEEDS * MS_PER_SEED,
);

/** The units of a fleet. The same seed and counts always give the same names, lockers and locations. */

import type { Locker, LockerSize } from '../../domain/vocabulary.ts';
import { Random } from '../environment/random.ts';

/** Seed 1 gives `PL-1000`, `PL-1001`, …; every other seed has another prefix, so that two fleets never share a name. */
const FIRST_PREFIX = 'PL';
const FIRST_NUMBER = 1_000;
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
const MIN_PREFIX_LENGTH = 2;
/** The middle of the area of all units, in degrees, and the greatest distance of a unit from it. */
const CENTRE = { lat: 52.1, lon: 19.4 };
const MAX_OFFSET = { lat: 2.6, lon: 4.5 };
const KINDS = ['campsite', 'festival', 'station'] as const;
/** Sizes of ten lockers: the share of each size among them is its probability. */
const SIZE_MIX: readonly LockerSize[] = ['S', 'S', 'S', 'S', 'M', 'M', 'M', 'L', 'L', 'XL'];

/** The tag of every simulated unit. */
export const SIMULATED_TAG = 'simulated';

export interface PlannedUnit {
  readonly name: string;
  readonly displayName: string;
  readonly location: { readonly lat: number; readonly lon: number };
  readonly timeZone: string;
  readonly tags: readonly string[];
  readonly lockers: readonly Locker[];
}

/** The units of a fleet, in the order of their names. */
export function planFleet(request: { units: number; lockers: number; seed: number }): PlannedUnit[] {
  const prefix = fleetPrefix(request.seed);
  return Array.from({ length: request.units }, (_, index) => {
    const name = `${prefix}-${FIRST_NUMBER + index}`;
    // Each unit has a stream of random numbers of its own: a larger fleet does not change the units of a smaller one.
    const random = new Random(request.seed, name);
    const kind = random.pick(KINDS);
    return {
      name,
      displayName: `${kind.slice(0, 1).toUpperCase()}${kind.slice(1)} ${FIRST_NUMBER + index}`,
      location: {
        lat: rounded(CENTRE.lat + random.between(-MAX_OFFSET.lat, MAX_OFFSET.lat)),
        lon: rounded(CENTRE.lon + random.between(-MAX_OFFSET.lon, MAX_OFFSET.lon)),
      },
      timeZone: 'Europe/Warsaw',
      tags: [SIMULATED_TAG, kind],
      lockers: Array.from({ length: request.lockers }, (_, locker) => ({
        id: lockerId(locker),
        size: random.pick(SIZE_MIX),
      })),
    };
  });
}

/** The prefix of unit names: two letters that count from `PL` to `ZZ`, then three that count from `AAA`, and so on. */
export function fleetPrefix(seed: number): string {
  let remainder = seed - 1 + LETTERS.indexOf(FIRST_PREFIX.charAt(0)) * LETTERS.length;
  remainder += LETTERS.indexOf(FIRST_PREFIX.charAt(1));
  if (remainder < 0) remainder += LETTERS.length ** MIN_PREFIX_LENGTH;
  let length = MIN_PREFIX_LENGTH;
  while (remainder >= LETTERS.length ** length) {
    remainder -= LETTERS.length ** length;
    length += 1;
  }
  let prefix = '';
  for (let place = 0; place < length; place++) {
    prefix = LETTERS.charAt(remainder % LETTERS.length) + prefix;
    remainder = Math.floor(remainder / LETTERS.length);
  }
  return prefix;
}

/** `A` to `Z`, then `AA`, `AB`, …, like the columns of a spreadsheet. */
export function lockerId(index: number): string {
  const letter = LETTERS.charAt(index % LETTERS.length);
  return index < LETTERS.length ? letter : lockerId(Math.floor(index / LETTERS.length) - 1) + letter;
}

function rounded(degrees: number): number {
  return Math.round(degrees * 10_000) / 10_000;
}

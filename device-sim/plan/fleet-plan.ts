/** Which units a seed makes: the same seed and counts give the same names, lockers and places, always. */

import type { Locker, LockerSize } from '../../domain/vocabulary.ts';
import { Random } from '../environment/random.ts';

/** Seed 1 makes `PL-1000`, `PL-1001`, …; every other seed has letters of its own, so that fleets never share a name. */
const FIRST_PREFIX = 'PL';
const FIRST_NUMBER = 1_000;
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
const MIN_PREFIX_LENGTH = 2;
/** Where fleets stand, and how far around (degrees). */
const CENTRE = { lat: 52.1, lon: 19.4 };
const SPREAD = { lat: 2.6, lon: 4.5 };
const KINDS = ['campsite', 'festival', 'station'] as const;
/** How often each size is built, of ten. */
const SIZE_MIX: readonly LockerSize[] = ['S', 'S', 'S', 'S', 'M', 'M', 'M', 'L', 'L', 'XL'];

export interface PlannedUnit {
  readonly name: string;
  readonly displayName: string;
  readonly location: { readonly lat: number; readonly lon: number };
  readonly timeZone: string;
  readonly tags: readonly string[];
  readonly lockers: readonly Locker[];
}

export function planFleet(wanted: { units: number; lockers: number; seed: number }): PlannedUnit[] {
  const prefix = fleetPrefix(wanted.seed);
  return Array.from({ length: wanted.units }, (_, index) => {
    const name = `${prefix}-${FIRST_NUMBER + index}`;
    // A unit of its own stream: it stays the same however many there are.
    const random = new Random(wanted.seed, name);
    const kind = random.pick(KINDS);
    return {
      name,
      displayName: `${kind.slice(0, 1).toUpperCase()}${kind.slice(1)} ${FIRST_NUMBER + index}`,
      location: {
        lat: rounded(CENTRE.lat + random.between(-SPREAD.lat, SPREAD.lat)),
        lon: rounded(CENTRE.lon + random.between(-SPREAD.lon, SPREAD.lon)),
      },
      timeZone: 'Europe/Warsaw',
      tags: ['simulated', kind],
      lockers: Array.from({ length: wanted.lockers }, (_, locker) => ({
        id: lockerId(locker),
        size: random.pick(SIZE_MIX),
      })),
    };
  });
}

/** Two letters counting on from `PL`, and three once those are used up. */
export function fleetPrefix(seed: number): string {
  let left = seed - 1 + LETTERS.indexOf(FIRST_PREFIX.charAt(0)) * LETTERS.length;
  left += LETTERS.indexOf(FIRST_PREFIX.charAt(1));
  if (left < 0) left += LETTERS.length ** MIN_PREFIX_LENGTH;
  let length = MIN_PREFIX_LENGTH;
  while (left >= LETTERS.length ** length) {
    left -= LETTERS.length ** length;
    length += 1;
  }
  let prefix = '';
  for (let place = 0; place < length; place++) {
    prefix = LETTERS.charAt(left % LETTERS.length) + prefix;
    left = Math.floor(left / LETTERS.length);
  }
  return prefix;
}

/** `A` to `Z`, then `AA`, `AB`, …, as the columns of a sheet. */
export function lockerId(index: number): string {
  const letter = LETTERS.charAt(index % LETTERS.length);
  return index < LETTERS.length ? letter : lockerId(Math.floor(index / LETTERS.length) - 1) + letter;
}

function rounded(degrees: number): number {
  return Math.round(degrees * 10_000) / 10_000;
}

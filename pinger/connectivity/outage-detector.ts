/**
 * Whether units vanish one by one, or so many at once that it must be us: our network, our machine. Pure counters, by the
 * first letter of the units' hash and in all.
 *
 * A unit is missing when it is believed online and does not answer. It goes offline only after several misses, which take
 * longer than one interval: by then every unit was asked since the first of them missed, and an outage shows as one. What is
 * really gone keeps an outage up, and then nobody knows: somebody must look.
 */

/** An outage is more than this share of the units believed online, and at least so many. */
export const OUTAGE_SHARE = 0.5;
export const MIN_OUTAGE_UNITS = 20;
/** It is over at this share, or when fewer than so many are missing: not with every unit that comes and goes. */
export const OUTAGE_END_SHARE = 0.25;
export const MIN_OUTAGE_END_UNITS = 10;

const LETTERS = '0123456789abcdef';
/** Where all units are counted. */
const ALL = LETTERS.length;

export interface Outage {
  /** The first letter of the hashes of its units. */
  readonly letter: string;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** How many of those believed online are missing, from 0 to 1. */
  readonly share: number;
}

interface Group {
  online: number;
  missing: number;
  sinceMs: number | undefined;
}

export class OutageDetector {
  readonly #now: () => number;
  readonly #groups: readonly Group[] = Array.from({ length: ALL + 1 }, () => ({
    online: 0,
    missing: 0,
    sinceMs: undefined,
  }));

  /** `now`: milliseconds since 1970. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** So many units of a letter, as a number, more, or fewer, are believed online, and missing. */
  adjustCounts(letter: number, online: number, missing: number): void {
    for (const number of [letter, ALL]) {
      const group = this.#groups[number];
      if (group === undefined) continue;
      group.online += online;
      group.missing += missing;
      if (isOutage(group)) group.sinceMs ??= this.#now();
      else group.sinceMs = undefined;
    }
  }

  /** Whether nothing follows from a unit of this letter being missing. */
  isOutage(letter: number): boolean {
    return this.#sinceMs(letter) !== undefined;
  }

  /** Whether there is an outage anywhere. */
  get hasOutage(): boolean {
    return this.#groups.some((_, letter) => letter !== ALL && this.isOutage(letter));
  }

  outages(): Outage[] {
    return [...LETTERS].flatMap((letter, number) => {
      const since = this.#sinceMs(number);
      const { missing = 0, online = 0 } = this.#groups[number] ?? {};
      return since === undefined ? [] : [{ letter, since, share: missing / online }];
    });
  }

  #sinceMs(letter: number): number | undefined {
    const group = this.#groups[letter];
    if (group === undefined || group.missing === 0) return undefined;
    return group.sinceMs ?? this.#groups[ALL]?.sinceMs;
  }
}

function isOutage({ online, missing, sinceMs }: Group): boolean {
  if (sinceMs === undefined) return missing >= MIN_OUTAGE_UNITS && missing > OUTAGE_SHARE * online;
  return missing >= MIN_OUTAGE_END_UNITS && missing > OUTAGE_END_SHARE * online;
}

/**
 * The outage detector distinguishes units that disappear one by one from an outage on the platform's side: when too many units of one
 * group are missing at once, the network or the machine of the platform has failed, and the pinger calls none of them offline.
 * Units are grouped by the first letter of their hash, and all units form one more group.
 *
 * A unit is missing when it is believed online and does not answer. It goes offline only after several misses, which take longer
 * than one interval: by then the pinger has pinged every unit since the first miss, and an outage is visible as one. Units that
 * are really gone keep an outage alive; an operator must then look at the site.
 */

/** An outage begins when more than this share of a group is missing, and at least this many units. */
export const OUTAGE_SHARE = 0.5;
export const MIN_OUTAGE_UNITS = 20;
/** An outage ends at this share, or below this many missing units: lower than above, so that it does not begin and end repeatedly. */
export const OUTAGE_END_SHARE = 0.25;
export const MIN_OUTAGE_END_UNITS = 10;

const LETTERS = '0123456789abcdef';
/** The number of the group of all units. */
const ALL = LETTERS.length;

export interface Outage {
  /** The first letter of the hashes of its units. */
  readonly letter: string;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** Missing units divided by units believed online: 0 to 1. */
  readonly share: number;
}

interface Group {
  online: number;
  missing: number;
  outageSinceMs: number | undefined;
}

export class OutageDetector {
  readonly #now: () => number;
  readonly #groups: readonly Group[] = Array.from({ length: ALL + 1 }, () => ({
    online: 0,
    missing: 0,
    outageSinceMs: undefined,
  }));

  /** `now`: milliseconds since 1970. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Adds `online` and `missing`, which may be negative, to the counts of a letter. `letter`: 0 to 15. */
  adjustCounts(letter: number, online: number, missing: number): void {
    for (const number of [letter, ALL]) {
      const group = this.#groups[number];
      if (group === undefined) continue;
      group.online += online;
      group.missing += missing;
      if (isInOutage(group)) group.outageSinceMs ??= this.#now();
      else group.outageSinceMs = undefined;
    }
  }

  /** Whether missing units of this letter are an outage and must not go offline. */
  isOutage(letter: number): boolean {
    return this.#outageSinceMs(letter) !== undefined;
  }

  get hasOutage(): boolean {
    return this.#groups.some((_, letter) => letter !== ALL && this.isOutage(letter));
  }

  outages(): Outage[] {
    return [...LETTERS].flatMap((letter, number) => {
      const since = this.#outageSinceMs(number);
      const { missing = 0, online = 0 } = this.#groups[number] ?? {};
      return since === undefined ? [] : [{ letter, since, share: missing / online }];
    });
  }

  /** An outage of all units is an outage of every letter that has missing units. */
  #outageSinceMs(letter: number): number | undefined {
    const group = this.#groups[letter];
    if (group === undefined || group.missing === 0) return undefined;
    return group.outageSinceMs ?? this.#groups[ALL]?.outageSinceMs;
  }
}

function isInOutage({ online, missing, outageSinceMs }: Group): boolean {
  if (outageSinceMs === undefined) return missing >= MIN_OUTAGE_UNITS && missing > OUTAGE_SHARE * online;
  return missing >= MIN_OUTAGE_END_UNITS && missing > OUTAGE_END_SHARE * online;
}

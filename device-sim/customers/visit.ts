/** The behaviour of a simulated customer. */

export interface Visit {
  /** Bounds of the rented time in minutes. The limits of the unit's configuration hold as well. */
  readonly rentalMinutes: readonly [number, number];
  /** Bounds of the wait before each step in ms: closing the door, opening the locker again, giving it back. */
  readonly stepMs: readonly [number, number];
  /** Probability that the customer opens the locker once more before giving it back. */
  readonly reopenChance: number;
}

/** Customers of `./run start`: a visit takes minutes, as it does in the field. */
export const MINUTES_LONG_VISIT: Visit = { rentalMinutes: [15, 240], stepMs: [20_000, 120_000], reopenChance: 0.3 };

/** Customers of `./run sim`: a visit takes seconds, so that a run of a minute has thousands of events. */
export const SECONDS_LONG_VISIT: Visit = { rentalMinutes: [15, 240], stepMs: [200, 2_000], reopenChance: 0.3 };

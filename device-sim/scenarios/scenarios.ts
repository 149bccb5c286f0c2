/** Scenarios, as data: how many customers come when, what they do, and what happens to the fleet meanwhile. */

export interface Visit {
  /** How long a customer rents, in minutes; the unit's own limits still hold. */
  readonly rentalMinutes: readonly [number, number];
  /** How long each step takes before the next: at the open door, and until the customer comes back. */
  readonly stepMs: readonly [number, number];
  /** How likely it is that a customer opens the locker once more before giving it back. */
  readonly reopenChance: number;
}

export interface Phase {
  /** Part of the duration, from 0 to 1; those of a scenario add up to 1. */
  readonly share: number;
  readonly walkUpsPerUnitMinute: number;
  /** The whole fleet is cut off. */
  readonly offline: boolean;
}

export interface Scenario {
  readonly name: string;
  readonly summary: string;
  readonly visit: Visit;
  readonly phases: readonly Phase[];
}

/** What customers of a scenario do: a visit takes seconds, so that a run of a minute has thousands of events. */
const SECONDS_LONG_VISIT: Visit = { rentalMinutes: [15, 240], stepMs: [200, 2_000], reopenChance: 0.3 };

export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'steady',
    summary: 'customers come evenly',
    visit: SECONDS_LONG_VISIT,
    phases: [{ share: 1, walkUpsPerUnitMinute: 6, offline: false }],
  },
  {
    name: 'rush-hour',
    summary: 'ten times as many customers in the middle of the run',
    visit: SECONDS_LONG_VISIT,
    phases: [
      { share: 0.3, walkUpsPerUnitMinute: 4, offline: false },
      { share: 0.4, walkUpsPerUnitMinute: 40, offline: false },
      { share: 0.3, walkUpsPerUnitMinute: 4, offline: false },
    ],
  },
  {
    name: 'blackout',
    summary: 'the whole fleet is cut off for half of the run, sells on, and comes back at once',
    visit: SECONDS_LONG_VISIT,
    phases: [
      { share: 0.25, walkUpsPerUnitMinute: 6, offline: false },
      { share: 0.5, walkUpsPerUnitMinute: 6, offline: true },
      { share: 0.25, walkUpsPerUnitMinute: 6, offline: false },
    ],
  },
];

/** What customers of `./run start` do: a visit takes minutes, as it does in the field. */
export const MINUTES_LONG_VISIT: Visit = { rentalMinutes: [15, 240], stepMs: [20_000, 120_000], reopenChance: 0.3 };

export function scenarioNamed(name: string): Scenario | undefined {
  return SCENARIOS.find((scenario) => scenario.name === name);
}

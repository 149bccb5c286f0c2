/** Scenarios of `./run sim` as data: the rate of customers in each phase, their behaviour, and when the fleet is offline. */

import { SECONDS_LONG_VISIT, type Visit } from '../customers/visit.ts';

export interface Phase {
  /** Part of the duration of the run, from 0 to 1. The shares of a scenario add up to 1. */
  readonly share: number;
  readonly walkUpsPerUnitMinute: number;
  /** Whether the whole fleet has no connection to the platform. */
  readonly offline: boolean;
}

export interface Scenario {
  readonly name: string;
  /** Part of the usage text of `./run sim`. */
  readonly summary: string;
  readonly visit: Visit;
  readonly phases: readonly Phase[];
}

export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'steady',
    summary: 'customers arrive at an even rate',
    visit: SECONDS_LONG_VISIT,
    phases: [{ share: 1, walkUpsPerUnitMinute: 6, offline: false }],
  },
  {
    name: 'rush-hour',
    summary: 'ten times as many customers arrive in the middle of the run',
    visit: SECONDS_LONG_VISIT,
    phases: [
      { share: 0.3, walkUpsPerUnitMinute: 4, offline: false },
      { share: 0.4, walkUpsPerUnitMinute: 40, offline: false },
      { share: 0.3, walkUpsPerUnitMinute: 4, offline: false },
    ],
  },
  {
    name: 'blackout',
    summary: 'the whole fleet is offline for half of the run, goes on renting, and is back at once',
    visit: SECONDS_LONG_VISIT,
    phases: [
      { share: 0.25, walkUpsPerUnitMinute: 6, offline: false },
      { share: 0.5, walkUpsPerUnitMinute: 6, offline: true },
      { share: 0.25, walkUpsPerUnitMinute: 6, offline: false },
    ],
  },
];

export function scenarioNamed(name: string): Scenario | undefined {
  return SCENARIOS.find((scenario) => scenario.name === name);
}

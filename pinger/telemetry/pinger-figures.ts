/** The figures that a pinger reports about itself, in `GET /v1/pinger` and in its metrics. */

import type { Outage } from '../connectivity/outage-detector.ts';
import type { BelievedStatus } from '../connectivity/unit-liveness.ts';
import type { CounterName } from './ping-counters.ts';

export interface PingerFigures {
  readonly units: number;
  /** Units that are not pinged: those whose address is none, and those for which there is no place. */
  readonly notPinged: number;
  readonly states: Readonly<Record<BelievedStatus, number>>;
  /** Units that go offline and come back too often to be believed at once. */
  readonly flapping: number;
  /** Where too many units are missing for it to be them: the first letter of their hash. */
  readonly outages: readonly Outage[];
  /** By how much pings left after their instants in the last half minute. */
  readonly scheduleLagMs: { readonly p99: number; readonly max: number };
  /** Per second, over the last half minute. */
  readonly rates: Readonly<Record<CounterName, number>>;
  /** Since the start. */
  readonly totals: Readonly<Record<CounterName, number>>;
  /** How many the units have needed so far. */
  readonly threads: number;
  readonly replacedThreads: number;
}

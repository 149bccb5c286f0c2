import type { Outage } from '../connectivity/outage-detector.ts';
import type { BelievedStatus } from '../connectivity/unit-liveness.ts';
import type { CounterName } from './ping-counters.ts';

/** The figures that a pinger reports about itself, in `GET /v1/pinger` and in its metrics. */
export interface PingerFigures {
  /** Units that this process monitors. */
  readonly units: number;
  /** Units without a usable address or with one that no name server has resolved yet, and units beyond the capacity of the process: they prove themselves by heartbeats only. */
  readonly notPinged: number;
  /** Units by believed status. */
  readonly states: Readonly<Record<BelievedStatus, number>>;
  /** Units that went offline so often that they need more misses to go offline again. */
  readonly flapping: number;
  readonly outages: readonly Outage[];
  /** By how much pings left after they were due, over the last half minute. */
  readonly scheduleLagMs: { readonly p99: number; readonly max: number };
  /** Counts per second, over the last half minute. */
  readonly rates: Readonly<Record<CounterName, number>>;
  /** Counts since the start of the process. */
  readonly totals: Readonly<Record<CounterName, number>>;
  /** Ping threads that have started. */
  readonly threads: number;
  readonly replacedThreads: number;
}

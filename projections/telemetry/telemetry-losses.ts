/** Telemetry that is thrown away: every result is counted for the metrics, and a log line at most once a minute sums it up. */

import type { Log } from '../../platform/observability/log.ts';
import type { Source } from '../../platform/observability/metrics.ts';

const LOG_INTERVAL_MS = 60_000;

/** By reason: what was thrown away, and what to do about it. */
const REASONS = {
  'clock-ahead':
    'Results are dated in the future. Correct the clock of the pinger, or of this process, which compares it with its own.',
  'outside-days':
    'Response times are dated on days that the platform does not keep. Correct the clock of the pinger; the units themselves stay up to date.',
  malformed: 'Messages, statuses or results are malformed. Run pingers of the version of this process.',
  overflow:
    'More units or pingers wait to be written than this process holds. Look for errors of Postgres in this log.',
} as const;
export type LossReason = keyof typeof REASONS;

const FAMILIES = {
  telemetry_refused_total: {
    type: 'counter',
    help: 'Results of pings and heartbeats that were not recorded, by reason; above 0, a clock or a version is wrong or Postgres is too slow',
    label: 'reason',
    labelValues: Object.keys(REASONS),
  },
} as const;

export interface TelemetryLossesOptions {
  readonly log: Log;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
}

export class TelemetryLosses {
  readonly #options: TelemetryLossesOptions;
  readonly #totals: Record<LossReason, number> = { 'clock-ahead': 0, 'outside-days': 0, malformed: 0, overflow: 0 };
  /** What no log line has said yet, with the last pinger that sent it. */
  readonly #unlogged = new Map<LossReason, { readonly results: number; readonly pingerId: string | undefined }>();
  #loggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: TelemetryLossesOptions) {
    this.#options = options;
  }

  add(reason: LossReason, results: number, pingerId?: string): void {
    if (results === 0) return;
    this.#totals[reason] += results;
    const before = this.#unlogged.get(reason);
    this.#unlogged.set(reason, { results: (before?.results ?? 0) + results, pingerId: pingerId ?? before?.pingerId });
  }

  /** Logs what was thrown away since the last line, unless that line is younger than a minute. */
  log(): void {
    const { log, monotonic } = this.#options;
    const nowMs = monotonic();
    if (this.#unlogged.size === 0 || nowMs - this.#loggedAtMs < LOG_INTERVAL_MS) return;
    this.#loggedAtMs = nowMs;
    for (const [reason, { results, pingerId }] of this.#unlogged) {
      log.warn(`Telemetry was not recorded. ${REASONS[reason]}`, { reason, results, pinger: pingerId });
    }
    this.#unlogged.clear();
  }

  metrics(): Source<keyof typeof FAMILIES> {
    return { name: 'telemetry', families: FAMILIES, read: () => ({ telemetry_refused_total: { ...this.#totals } }) };
  }
}

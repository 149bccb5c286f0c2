/** Counters of a fleet, for the report and the progress line of the simulator. */

import { build } from 'hdr-histogram-js';
import { firstAvailableSeq, type UnitLog, type UnitModel } from '../unit/model.ts';

const US_PER_MS = 1_000;
/** A longer push counts as this long. */
const MAX_LATENCY_MS = 3_600_000;
/** A percentile is within 1 % of the recorded value. */
const SIGNIFICANT_DIGITS = 2;

/** Latencies in an HDR histogram: its memory does not grow with the number of recorded values. */
export class LatencyHistogram {
  readonly #microseconds = build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: MAX_LATENCY_MS * US_PER_MS,
    numberOfSignificantValueDigits: SIGNIFICANT_DIGITS,
    autoResize: false,
  });

  get count(): number {
    return this.#microseconds.totalCount;
  }

  record(latencyMs: number): void {
    const bounded = Math.min(Math.max(0, latencyMs), MAX_LATENCY_MS);
    this.#microseconds.recordValue(Math.round(bounded * US_PER_MS));
  }

  /** The latency in ms that the share `p` (0 to 1) of the recorded values does not exceed; `null` when there are none. */
  percentileMs(p: number): number | null {
    if (this.count === 0) return null;
    return Math.round(this.#microseconds.getValueAtPercentile(p * 100) / 10) / 100;
  }
}

export class FleetMetrics {
  /** Events that units have written to their logs. */
  produced = 0;
  /** Events that JetStream has acknowledged. */
  acknowledged = 0;
  /** Events that the platform has named recorded. */
  recorded = 0;
  /** Events that a wiped store deleted before the platform had named them recorded. */
  wipedUnrecorded = 0;
  /** Events that a full log deleted before the platform had named them recorded. */
  droppedUnrecorded = 0;
  pushes = 0;
  failedPushes = 0;
  commands = 0;
  customersServed = 0;
  customersTurnedAway = 0;
  readonly pushLatency = new LatencyHistogram();

  /** Counts what a commit has changed in a unit's log. */
  countCommit({ log: before }: UnitModel, { log: after }: UnitModel): void {
    if (before === after) return;
    if (before.epoch !== after.epoch) {
      this.wipedUnrecorded += before.lastSeq + 1 - firstAvailableSeq(before);
      this.produced += after.lastSeq;
      return;
    }
    this.produced += after.lastSeq - before.lastSeq;
    this.acknowledged += after.acknowledgedSeq - before.acknowledgedSeq;
    // The platform continues after a lost range and names a later seq recorded, although it never received the dropped events.
    const skipped = after.recordedSeq > before.droppedSeq ? droppedUnrecorded(before) : 0;
    this.recorded += after.recordedSeq - before.recordedSeq - skipped;
    this.droppedUnrecorded += droppedUnrecorded(after) - droppedUnrecorded(before) + skipped;
  }

  /** Counts the events that an earlier run has left unrecorded: this run expects them to be recorded. */
  countUnrecordedAtStart({ log }: UnitModel): void {
    this.produced += log.lastSeq - log.recordedSeq;
    this.acknowledged += log.acknowledgedSeq - log.recordedSeq;
    this.droppedUnrecorded += droppedUnrecorded(log);
  }
}

/** Events that a full log has deleted and that the platform has not named recorded. */
function droppedUnrecorded({ droppedSeq, recordedSeq }: UnitLog): number {
  return Math.max(0, droppedSeq - recordedSeq);
}

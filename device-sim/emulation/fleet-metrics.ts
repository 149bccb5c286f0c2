/** What the simulator did, counted: for its report, for `/readyz` and for the log. */

import { firstAvailableSeq, type UnitLog, type UnitModel } from '../unit/model.ts';

/** Each bucket of the histogram is so much wider than the one before: errors of a percentile stay below 5 %. */
const BUCKET_GROWTH = 1.05;
const BUCKETS = 400;
const FIRST_BUCKET_MS = 0.05;

/** Durations in buckets that grow: bounded memory, percentiles to within 5 %. */
export class Histogram {
  readonly #counts = new Uint32Array(BUCKETS);
  #total = 0;

  get count(): number {
    return this.#total;
  }

  add(ms: number): void {
    const bucket = Math.ceil(Math.log(Math.max(ms, FIRST_BUCKET_MS) / FIRST_BUCKET_MS) / Math.log(BUCKET_GROWTH));
    const index = Math.min(BUCKETS - 1, Math.max(0, bucket));
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.#total += 1;
  }

  /** Upper bound in ms of the bucket in which the share `p` (0 to 1) is reached; `null` when nothing was counted. */
  percentile(p: number): number | null {
    if (this.#total === 0) return null;
    let seen = 0;
    for (const [index, count] of this.#counts.entries()) {
      seen += count;
      if (seen >= p * this.#total) return Math.round(FIRST_BUCKET_MS * BUCKET_GROWTH ** index * 100) / 100;
    }
    return null;
  }
}

export class FleetMetrics {
  /** Entries that units have written. */
  produced = 0;
  /** Entries that JetStream has acknowledged. */
  acknowledged = 0;
  /** Entries that the platform named recorded. */
  recorded = 0;
  /** Entries that went with a wiped store before the platform had recorded them. */
  wipedUnrecorded = 0;
  /** Entries that went because a log was full, before the platform had recorded them. */
  droppedUnrecorded = 0;
  pushes = 0;
  failedPushes = 0;
  commands = 0;
  customersServed = 0;
  customersTurnedAway = 0;
  readonly pushLatency = new Histogram();

  /** Counts what a commit changed in a unit's log. */
  countCommit({ log: before }: UnitModel, { log: after }: UnitModel): void {
    if (before === after) return;
    if (before.epoch !== after.epoch) {
      this.wipedUnrecorded += before.lastSeq + 1 - firstAvailableSeq(before);
      this.produced += after.lastSeq;
      return;
    }
    this.produced += after.lastSeq - before.lastSeq;
    this.acknowledged += after.acknowledgedSeq - before.acknowledgedSeq;
    // A platform that goes on behind a gap has not recorded what was dropped in it.
    const skipped = after.recordedSeq > before.droppedSeq ? unrecordedDrop(before) : 0;
    this.recorded += after.recordedSeq - before.recordedSeq - skipped;
    this.droppedUnrecorded += unrecordedDrop(after) - unrecordedDrop(before) + skipped;
  }

  /** Counts what an earlier run left: it is to be recorded in this one. */
  countUnrecordedAtStart({ log }: UnitModel): void {
    this.produced += log.lastSeq - log.recordedSeq;
    this.acknowledged += log.acknowledgedSeq - log.recordedSeq;
    this.droppedUnrecorded += unrecordedDrop(log);
  }
}

/** Entries that a full log has let go and the platform has not named recorded. */
function unrecordedDrop({ droppedSeq, recordedSeq }: UnitLog): number {
  return Math.max(0, droppedSeq - recordedSeq);
}

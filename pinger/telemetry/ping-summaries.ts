/**
 * Summarizes the pings of each unit between two messages: one result instead of one for each ping. A small fleet is published at
 * every ping. In a large fleet each unit is published as often as the read models can take it, in turn, and earlier when an answer
 * reports another log position or configuration than before.
 *
 * All state is in columns by unit index, so that a ping allocates nothing.
 */

import { BUCKET_MS, type TelemetryResult } from '../../platform/liveness/telemetry-message.ts';
import type { SlotResults } from '../pool/slot-results.ts';
import { CONFIGURATION_HASH_BYTES } from '../probes/probe.ts';
import { TokenBucket } from '../runtime/token-bucket.ts';
import { EPOCH_BYTES, isEmptyEpoch, uuidOf } from '../units/unit-table.ts';

/** Most units that are published in turn in a second, and most that are published early because their report changed. */
const MAX_PUBLISHED_PER_S = 5_000;
const MS_PER_S = 1_000;
/** The golden ratio spreads consecutive indexes evenly over an interval. */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;

export interface PingSummariesOptions {
  readonly capacity: number;
  readonly intervalMs: number;
  /** Milliseconds of the monotonic clock. */
  readonly monotonic: () => number;
  /** How many units are pinged. */
  readonly units: () => number;
  readonly isFlapping: (index: number) => boolean;
}

export class PingSummaries {
  readonly #options: PingSummariesOptions;
  readonly #earlyBudget: TokenBucket;
  /** When each unit was last published, on the monotonic clock. */
  readonly #publishedMs: Float64Array;
  // The summary of each unit since then. Times are milliseconds since 1970.
  readonly #lastSentAtMs: Float64Array;
  readonly #bucketsAtMs: Float64Array;
  readonly #sent: Uint16Array;
  readonly #lost: Uint16Array;
  readonly #minRttMs: Float32Array;
  readonly #maxRttMs: Float32Array;
  readonly #rttSumMs: Float64Array;
  // The last answer of each unit.
  readonly #answeredAtMs: Float64Array;
  readonly #rttMs: Float32Array;
  readonly #lastSeqs: Float64Array;
  readonly #clockOffsetsMs: Float64Array;
  readonly #epochs: Buffer;
  readonly #configurationHashes: Buffer;
  #due: TelemetryResult[] = [];

  constructor(options: PingSummariesOptions) {
    const { capacity, monotonic } = options;
    this.#options = options;
    this.#earlyBudget = new TokenBucket(MAX_PUBLISHED_PER_S, monotonic);
    this.#publishedMs = new Float64Array(capacity);
    this.#lastSentAtMs = new Float64Array(capacity);
    this.#bucketsAtMs = new Float64Array(capacity);
    this.#sent = new Uint16Array(capacity);
    this.#lost = new Uint16Array(capacity);
    this.#minRttMs = new Float32Array(capacity);
    this.#maxRttMs = new Float32Array(capacity);
    this.#rttSumMs = new Float64Array(capacity);
    this.#answeredAtMs = new Float64Array(capacity);
    this.#rttMs = new Float32Array(capacity);
    this.#lastSeqs = new Float64Array(capacity);
    this.#clockOffsetsMs = new Float64Array(capacity);
    this.#epochs = Buffer.alloc(capacity * EPOCH_BYTES);
    this.#configurationHashes = Buffer.alloc(capacity * CONFIGURATION_HASH_BYTES);
  }

  /** Discards the summary at an index, which belongs to another unit from now on. */
  reset(index: number): void {
    this.#sent[index] = 0;
    this.#lost[index] = 0;
    // Units that join together are published in turn, not together.
    this.#publishedMs[index] = this.#options.monotonic() - this.#periodMs() * ((index * GOLDEN_RATIO) % 1);
  }

  /** Records an answered ping. `row`: of the ping in `results`. */
  recordAnswer(index: number, unit: string, results: SlotResults, row: number): void {
    const [sentAtMs, rttMs] = [results.sentAtMs[row] ?? 0, results.rttMs[row] ?? 0];
    this.#openBucket(index, unit, sentAtMs);
    const isFirst = this.#sent[index] === this.#lost[index];
    this.#sent[index] = (this.#sent[index] ?? 0) + 1;
    this.#minRttMs[index] = isFirst ? rttMs : Math.min(this.#minRttMs[index] ?? rttMs, rttMs);
    this.#maxRttMs[index] = isFirst ? rttMs : Math.max(this.#maxRttMs[index] ?? rttMs, rttMs);
    this.#rttSumMs[index] = (isFirst ? 0 : (this.#rttSumMs[index] ?? 0)) + rttMs;
    this.#answeredAtMs[index] = sentAtMs;
    this.#rttMs[index] = rttMs;
    const hasChanged = this.#updateReport(index, results, row);
    this.#publishIfDue(index, unit, hasChanged && this.#earlyBudget.tryTake(MAX_PUBLISHED_PER_S / MS_PER_S));
  }

  /** Records a ping without an answer. `sentAtMs`: milliseconds since 1970. */
  recordLoss(index: number, unit: string, sentAtMs: number): void {
    this.#openBucket(index, unit, sentAtMs);
    this.#sent[index] = (this.#sent[index] ?? 0) + 1;
    this.#lost[index] = (this.#lost[index] ?? 0) + 1;
    this.#publishIfDue(index, unit, false);
  }

  /** @returns the results to publish now; the caller publishes them */
  takeDue(): readonly TelemetryResult[] {
    const results = this.#due;
    this.#due = [];
    return results;
  }

  /** Stores what the unit reports about itself. @returns whether it differs from the report before */
  #updateReport(index: number, results: SlotResults, row: number): boolean {
    const epoch = results.epochs.subarray(row * EPOCH_BYTES, (row + 1) * EPOCH_BYTES);
    const hashAt = row * CONFIGURATION_HASH_BYTES;
    const hash = results.configurationHashes.subarray(hashAt, hashAt + CONFIGURATION_HASH_BYTES);
    const hasChanged =
      this.#lastSeqs[index] !== results.lastSeqs[row] ||
      hasOtherBytes(epoch, this.#epochs, index * EPOCH_BYTES) ||
      hasOtherBytes(hash, this.#configurationHashes, index * CONFIGURATION_HASH_BYTES);
    if (hasChanged) {
      this.#epochs.set(epoch, index * EPOCH_BYTES);
      this.#configurationHashes.set(hash, index * CONFIGURATION_HASH_BYTES);
      this.#lastSeqs[index] = results.lastSeqs[row] ?? 0;
    }
    this.#clockOffsetsMs[index] = results.clockOffsetsMs[row] ?? Number.NaN;
    return hasChanged;
  }

  /** A summary covers pings of one bucket: the summary of an earlier bucket is published first. */
  #openBucket(index: number, unit: string, sentAtMs: number): void {
    const bucketAtMs = Math.floor(sentAtMs / BUCKET_MS) * BUCKET_MS;
    if (this.#bucketsAtMs[index] !== bucketAtMs && (this.#sent[index] ?? 0) > 0) this.#publish(index, unit);
    this.#bucketsAtMs[index] = bucketAtMs;
    this.#lastSentAtMs[index] = sentAtMs;
  }

  #publishIfDue(index: number, unit: string, isEarly: boolean): void {
    const periodMs = this.#periodMs();
    const { intervalMs, monotonic } = this.#options;
    // A period below the ping interval publishes every ping.
    const isDue = periodMs <= intervalMs || monotonic() - (this.#publishedMs[index] ?? 0) >= periodMs;
    if (isDue || isEarly) this.#publish(index, unit);
  }

  /** The time in which each unit is published once. */
  #periodMs(): number {
    return (this.#options.units() / MAX_PUBLISHED_PER_S) * MS_PER_S;
  }

  #publish(index: number, unit: string): void {
    const [sent, lost] = [this.#sent[index] ?? 0, this.#lost[index] ?? 0];
    this.#due.push({
      heard: 'pings',
      unit,
      at: Math.round(this.#lastSentAtMs[index] ?? 0),
      bucketAt: this.#bucketsAtMs[index] ?? 0,
      sent,
      lost,
      ...(sent > lost ? this.#answersOf(index) : {}),
      ...(this.#options.isFlapping(index) ? { flapping: true } : {}),
    });
    this.#publishedMs[index] = this.#options.monotonic();
    this.#sent[index] = 0;
    this.#lost[index] = 0;
  }

  #answersOf(index: number) {
    const epoch = this.#epochs.subarray(index * EPOCH_BYTES, (index + 1) * EPOCH_BYTES);
    const hashAt = index * CONFIGURATION_HASH_BYTES;
    const clockOffsetMs = this.#clockOffsetsMs[index] ?? Number.NaN;
    const last = {
      at: Math.round(this.#answeredAtMs[index] ?? 0),
      rttMs: this.#rttMs[index] ?? 0,
      ...(isEmptyEpoch(epoch) ? {} : { epoch: uuidOf(epoch, 0), lastSeq: this.#lastSeqs[index] ?? 0 }),
      configurationHash: this.#configurationHashes.toString('hex', hashAt, hashAt + CONFIGURATION_HASH_BYTES),
      ...(Number.isNaN(clockOffsetMs) ? {} : { clockOffsetMs }),
    };
    const [min, max, sum] = [this.#minRttMs[index] ?? 0, this.#maxRttMs[index] ?? 0, this.#rttSumMs[index] ?? 0];
    return { last, rttMs: { min, max, sum } };
  }
}

/** Whether `bytes` differ from those at `at` in `column`. */
function hasOtherBytes(bytes: Uint8Array, column: Uint8Array, at: number): boolean {
  for (let byte = 0; byte < bytes.length; byte += 1) if (column[at + byte] !== bytes[byte]) return true;
  return false;
}

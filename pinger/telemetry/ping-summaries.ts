/**
 * What came of the pings of each unit since it was told last: one summary instead of a message for each ping. A small fleet is
 * told of at every ping; a large one as often as the read models can take it, each unit in its turn, and sooner where an
 * answer says something else than is recorded.
 *
 * Columns by the unit's index: nothing is made for a ping.
 */

import { BUCKET_MS, type TelemetryResult } from '../../platform/liveness/telemetry.ts';
import type { SlotResults } from '../pool/slot-results.ts';
import { CONFIGURATION_HASH_BYTES } from '../probes/probe.ts';
import { TokenBucket } from '../time/token-bucket.ts';
import { EPOCH_BYTES, isEmptyEpoch, uuidOf } from '../units/unit-table.ts';

/** Units that are told of in a second, by turns, and as many again because there is news. */
const MAX_TOLD_PER_S = 5_000;
const MS_PER_S = 1_000;

export interface PingSummariesOptions {
  readonly capacity: number;
  readonly intervalMs: number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  /** How many units are pinged. */
  readonly units: () => number;
  readonly isFlapping: (unit: string) => boolean;
}

export class PingSummaries {
  readonly #options: PingSummariesOptions;
  readonly #urgent: TokenBucket;
  readonly #toldMs: Float64Array;
  readonly #sentAtMs: Float64Array;
  readonly #bucketsAtMs: Float64Array;
  readonly #sent: Uint16Array;
  readonly #lost: Uint16Array;
  readonly #answeredAtMs: Float64Array;
  readonly #rttMs: Float32Array;
  readonly #minMs: Float32Array;
  readonly #maxMs: Float32Array;
  readonly #sumMs: Float64Array;
  readonly #lastSeqs: Float64Array;
  readonly #clockOffsetsMs: Float64Array;
  readonly #epochs: Buffer;
  readonly #configurationHashes: Buffer;
  #results: TelemetryResult[] = [];

  constructor(options: PingSummariesOptions) {
    const { capacity, monotonic } = options;
    this.#options = options;
    this.#urgent = new TokenBucket(MAX_TOLD_PER_S, monotonic);
    this.#toldMs = new Float64Array(capacity);
    this.#sentAtMs = new Float64Array(capacity);
    this.#bucketsAtMs = new Float64Array(capacity);
    this.#sent = new Uint16Array(capacity);
    this.#lost = new Uint16Array(capacity);
    this.#answeredAtMs = new Float64Array(capacity);
    this.#rttMs = new Float32Array(capacity);
    this.#minMs = new Float32Array(capacity);
    this.#maxMs = new Float32Array(capacity);
    this.#sumMs = new Float64Array(capacity);
    this.#lastSeqs = new Float64Array(capacity);
    this.#clockOffsetsMs = new Float64Array(capacity);
    this.#epochs = Buffer.alloc(capacity * EPOCH_BYTES);
    this.#configurationHashes = Buffer.alloc(capacity * CONFIGURATION_HASH_BYTES);
  }

  /** An index means another unit from now on. */
  reset(index: number): void {
    this.#sent[index] = 0;
    this.#lost[index] = 0;
    // Units take turns: not all of those that come together are told of together.
    this.#toldMs[index] = this.#options.monotonic() - this.#periodMs() * ((index * GOLDEN) % 1);
  }

  recordAnswer(index: number, unit: string, results: SlotResults, place: number): void {
    const [sentAtMs, rttMs] = [results.sentAtMs[place] ?? 0, results.rttMs[place] ?? 0];
    this.#begin(index, unit, sentAtMs);
    const isFirst = this.#sent[index] === this.#lost[index];
    this.#sent[index] = (this.#sent[index] ?? 0) + 1;
    this.#minMs[index] = isFirst ? rttMs : Math.min(this.#minMs[index] ?? rttMs, rttMs);
    this.#maxMs[index] = isFirst ? rttMs : Math.max(this.#maxMs[index] ?? rttMs, rttMs);
    this.#sumMs[index] = (isFirst ? 0 : (this.#sumMs[index] ?? 0)) + rttMs;
    this.#answeredAtMs[index] = sentAtMs;
    this.#rttMs[index] = rttMs;
    const isNews = this.#note(index, results, place);
    this.#end(index, unit, isNews && this.#urgent.tryTake(MAX_TOLD_PER_S / MS_PER_S));
  }

  recordLoss(index: number, unit: string, sentAtMs: number): void {
    this.#begin(index, unit, sentAtMs);
    this.#sent[index] = (this.#sent[index] ?? 0) + 1;
    this.#lost[index] = (this.#lost[index] ?? 0) + 1;
    this.#end(index, unit, false);
  }

  /** What is to be told now. */
  takeDue(): readonly TelemetryResult[] {
    const results = this.#results;
    this.#results = [];
    return results;
  }

  /** Notes what the unit says about itself. @returns whether that is something else than the last time */
  #note(index: number, results: SlotResults, place: number): boolean {
    const epoch = results.epochs.subarray(place * EPOCH_BYTES, (place + 1) * EPOCH_BYTES);
    const hashAt = place * CONFIGURATION_HASH_BYTES;
    const hash = results.configurationHashes.subarray(hashAt, hashAt + CONFIGURATION_HASH_BYTES);
    const isNews =
      this.#lastSeqs[index] !== results.lastSeqs[place] ||
      differs(epoch, this.#epochs, index * EPOCH_BYTES) ||
      differs(hash, this.#configurationHashes, index * CONFIGURATION_HASH_BYTES);
    if (isNews) {
      this.#epochs.set(epoch, index * EPOCH_BYTES);
      this.#configurationHashes.set(hash, index * CONFIGURATION_HASH_BYTES);
      this.#lastSeqs[index] = results.lastSeqs[place] ?? 0;
    }
    this.#clockOffsetsMs[index] = results.clockOffsetsMs[place] ?? Number.NaN;
    return isNews;
  }

  /** A summary is of one bucket: what belongs to the one before is told first. */
  #begin(index: number, unit: string, sentAtMs: number): void {
    const bucketAtMs = Math.floor(sentAtMs / BUCKET_MS) * BUCKET_MS;
    if (this.#bucketsAtMs[index] !== bucketAtMs && (this.#sent[index] ?? 0) > 0) this.#tell(index, unit);
    this.#bucketsAtMs[index] = bucketAtMs;
    this.#sentAtMs[index] = sentAtMs;
  }

  #end(index: number, unit: string, isUrgent: boolean): void {
    const periodMs = this.#periodMs();
    const { intervalMs, monotonic } = this.#options;
    // At most as often as the unit is pinged: then every ping is told.
    const isDue = periodMs <= intervalMs || monotonic() - (this.#toldMs[index] ?? 0) >= periodMs;
    if (isDue || isUrgent) this.#tell(index, unit);
  }

  #periodMs(): number {
    return (this.#options.units() / MAX_TOLD_PER_S) * MS_PER_S;
  }

  #tell(index: number, unit: string): void {
    const [sent, lost] = [this.#sent[index] ?? 0, this.#lost[index] ?? 0];
    this.#results.push({
      heard: 'pings',
      unit,
      at: Math.round(this.#sentAtMs[index] ?? 0),
      bucketAt: this.#bucketsAtMs[index] ?? 0,
      sent,
      lost,
      ...(sent > lost ? this.#answers(index) : {}),
      ...(this.#options.isFlapping(unit) ? { flapping: true } : {}),
    });
    this.#toldMs[index] = this.#options.monotonic();
    this.#sent[index] = 0;
    this.#lost[index] = 0;
  }

  #answers(index: number) {
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
    const [min, max, sum] = [this.#minMs[index] ?? 0, this.#maxMs[index] ?? 0, this.#sumMs[index] ?? 0];
    return { last, rttMs: { min, max, sum } };
  }
}

/** Spreads what is numbered on. */
const GOLDEN = (Math.sqrt(5) - 1) / 2;

function differs(bytes: Uint8Array, known: Uint8Array, at: number): boolean {
  for (let byte = 0; byte < bytes.length; byte += 1) if (known[at + byte] !== bytes[byte]) return true;
  return false;
}

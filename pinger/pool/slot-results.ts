/** The results that a thread returns for a slot, as columns over one buffer. */

import { CONFIGURATION_HASH_BYTES, PING_ANOMALIES } from '../probes/probe.ts';
import { EPOCH_BYTES } from '../units/unit-table.ts';

/** The outcome of one ping. */
export const PING_OUTCOME = {
  /** The thread stalled, or had no capacity or descriptor left: the pinger learns nothing, and the unit is not judged. */
  discarded: 0,
  answered: 1,
  /** The unit did not answer in time, refused the connection, or answered without success. */
  missed: 2,
  /** A miss during which answers with a wrong nonce, MAC or shape arrived. */
  forged: 3,
} as const;
export type PingOutcome = (typeof PING_OUTCOME)[keyof typeof PING_OUTCOME];

const F64 = 8;
const F32 = 4;
/** Bytes of one ping in all columns; wide columns come first, so that every column is aligned. */
const ROW_BYTES = F64 * 4 + F32 + EPOCH_BYTES + CONFIGURATION_HASH_BYTES + 1;
const HEADER_BYTES = PING_ANOMALIES.length * F64;

/** The results of one task. Every column has an entry for each ping of the task, in its order. The buffer moves between threads. */
export class SlotResults {
  readonly buffer: ArrayBuffer;
  readonly count: number;
  /** Counts since the last results of the thread, in the order of `PING_ANOMALIES`. */
  readonly anomalies: Float64Array;
  /** When the ping was sent, milliseconds since 1970; 0 when it was not sent. */
  readonly sentAtMs: Float64Array;
  /** Response time from sending to the arrival of the answer; NaN without an answer. */
  readonly rttMs: Float64Array;
  /** The seq of the last event in the unit's log. */
  readonly lastSeqs: Float64Array;
  /** Unit clock minus platform clock, in milliseconds; NaN when the answer does not determine it. */
  readonly clockOffsetsMs: Float64Array;
  /** The schedule lag: by how many milliseconds the ping left after it was due. */
  readonly lagsMs: Float32Array;
  /** `EPOCH_BYTES` each; zeros when the answer names no epoch. */
  readonly epochs: Uint8Array;
  /** The first `CONFIGURATION_HASH_BYTES` of each reported configuration's hash. */
  readonly configurationHashes: Uint8Array;
  readonly outcomes: Uint8Array;

  constructor(buffer: ArrayBuffer) {
    const count = (buffer.byteLength - HEADER_BYTES) / ROW_BYTES;
    this.buffer = buffer;
    this.count = count;
    let at = 0;
    const column = (bytes: number) => {
      const start = at;
      at += bytes;
      return start;
    };
    this.anomalies = new Float64Array(buffer, column(HEADER_BYTES), PING_ANOMALIES.length);
    this.sentAtMs = new Float64Array(buffer, column(count * F64), count);
    this.rttMs = new Float64Array(buffer, column(count * F64), count);
    this.lastSeqs = new Float64Array(buffer, column(count * F64), count);
    this.clockOffsetsMs = new Float64Array(buffer, column(count * F64), count);
    this.lagsMs = new Float32Array(buffer, column(count * F32), count);
    this.epochs = new Uint8Array(buffer, column(count * EPOCH_BYTES), count * EPOCH_BYTES);
    this.configurationHashes = new Uint8Array(
      buffer,
      column(count * CONFIGURATION_HASH_BYTES),
      count * CONFIGURATION_HASH_BYTES,
    );
    this.outcomes = new Uint8Array(buffer, column(count), count);
  }

  /** Results of `count` pings, all of them discarded. */
  static createDiscarded(count: number): SlotResults {
    const results = new SlotResults(new ArrayBuffer(HEADER_BYTES + count * ROW_BYTES));
    results.rttMs.fill(Number.NaN);
    results.clockOffsetsMs.fill(Number.NaN);
    return results;
  }
}

/** The results that a thread returns for a slot, as columns over one buffer. */

import { CONFIGURATION_HASH_BYTES, PING_ANOMALIES } from '../probes/probe.ts';
import { EPOCH_BYTES } from '../units/unit-table.ts';

/** What came of one ping. */
export const PING_OUTCOME = {
  /** Nothing is known: the thread stood still, or had no place or no descriptor left. Never counts against the unit. */
  discarded: 0,
  answered: 1,
  /** No answer in time, no connection, or an answer that is no success. */
  missed: 2,
  /** Only answers with a wrong nonce, MAC or shape: no answer, but somebody gave them. */
  forged: 3,
} as const;
export type PingOutcome = (typeof PING_OUTCOME)[keyof typeof PING_OUTCOME];

const F64 = 8;
const F32 = 4;
/** Bytes of a ping in each column, in an order that keeps every column aligned. */
const ROW_BYTES = F64 * 4 + F32 + EPOCH_BYTES + CONFIGURATION_HASH_BYTES + 1;
const HEADER_BYTES = PING_ANOMALIES.length * F64;

/** The results of a task, over one buffer that is handed from thread to thread. Every column has an entry for each unit. */
export class SlotResults {
  readonly buffer: ArrayBuffer;
  readonly count: number;
  /** By `STRAYS`. */
  readonly anomalies: Float64Array;
  /** When the ping was sent, milliseconds since 1970. */
  readonly sentAtMs: Float64Array;
  /** From the send to the arrival of the answer; NaN without one. */
  readonly rttMs: Float64Array;
  /** The last event in the unit's log. */
  readonly lastSeqs: Float64Array;
  /** By how many milliseconds the unit's clock is ahead; NaN where the answer does not tell. */
  readonly clockOffsetsMs: Float64Array;
  /** By how many milliseconds it was sent after its instant. */
  readonly lagsMs: Float32Array;
  /** `EPOCH_BYTES` each; zeros without one. */
  readonly epochs: Uint8Array;
  /** `CONFIGURATION_HASH_BYTES` each. */
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

  /** Of so many pings, all discarded so far. */
  static allDiscarded(count: number): SlotResults {
    const results = new SlotResults(new ArrayBuffer(HEADER_BYTES + count * ROW_BYTES));
    results.rttMs.fill(Number.NaN);
    results.clockOffsetsMs.fill(Number.NaN);
    return results;
  }
}

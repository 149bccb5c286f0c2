/** What travels between the pinger and its threads. */

/** A unit to be pinged now. */
export interface SlotTarget {
  readonly unit: string;
  readonly host: string;
  readonly port: number;
  /** The key of its pings. */
  readonly key: Uint8Array;
  /** The place in its log up to which everything is recorded. */
  readonly recorded?: { readonly epoch: string; readonly seq: number };
}

export interface SlotTask {
  readonly timeoutMs: number;
  readonly targets: readonly SlotTarget[];
}

/** What came of one ping. */
export const OUTCOME = {
  /** Nothing is known: the thread stood still, or had no place or no descriptor left. Never counts against the unit. */
  discarded: 0,
  answered: 1,
  /** No answer in time, no connection, or an answer that is no success. */
  missed: 2,
  /** An answer with a wrong nonce, MAC or shape: no answer, but somebody gave it. */
  forged: 3,
} as const;
export type Outcome = (typeof OUTCOME)[keyof typeof OUTCOME];

/** What a unit said about itself. */
export interface UnitReply {
  readonly epoch: string;
  readonly lastSeq: number;
  readonly configurationHash: string;
  /** By how many milliseconds its clock is ahead, where the answer came soon enough to tell. */
  readonly clockOffsetMs?: number;
}

/** The results of a task; every list has an entry for each of its targets, in their order. */
export interface SlotResult {
  readonly outcomes: Uint8Array;
  /** When the ping was sent, milliseconds since 1970. */
  readonly sentAtMs: Float64Array;
  /** From the send to the arrival of the answer; NaN without one. */
  readonly rttMs: Float64Array;
  readonly replies: readonly (UnitReply | undefined)[];
}

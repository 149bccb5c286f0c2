/** A way to ask units. */

import { closeSync, openSync } from 'node:fs';

export const CONFIGURATION_HASH_BYTES = 8;

/**
 * Counted since the thread said so last: messages that were no answer to what is under way, and pings that were `unsent`, for
 * want of a descriptor, a port, memory or a connection of ours.
 */
export const PING_ANOMALIES = ['forged', 'late', 'duplicate', 'malformed', 'unsent'] as const;
export type PingAnomaly = (typeof PING_ANOMALIES)[number];

/** What a unit says about itself in an answer. The bytes are read while `answered` runs, and not kept. */
export interface ProbeReply {
  readonly bytes: Uint8Array;
  /** Where the epoch and the beginning of the configuration's hash stand in `bytes`. */
  readonly epochAt: number;
  readonly configurationHashAt: number;
  readonly lastSeq: number;
  /** The unit's clock, milliseconds since 1970; NaN when it cannot be told. */
  readonly clockMs: number;
}

/** Who is told what came of the pings. Units are named by their index in the table. */
export interface ProbeListener {
  /** Milliseconds of the clock that never jumps. */
  readonly monotonic: () => number;
  /** The platform's clock, milliseconds since 1970. */
  readonly now: () => number;
  /** Whether the answer of this unit is waited for. */
  isAwaited(unit: number): boolean;
  /** The ping leaves at this moment of `monotonic`: its response time counts from here. */
  onSent(unit: number, atMs: number): void;
  onAnswered(unit: number, reply: ProbeReply, arrivedMs: number): void;
  /** There will be no answer. */
  onMissed(unit: number): void;
  /** Something answered that is not the unit. The wait goes on. */
  onForged(unit: number): void;
  /** It could not be sent, by our own fault. */
  onUnsent(unit: number): void;
  /** Something else came that nobody waits for. */
  onAnomaly(what: Exclude<PingAnomaly, 'forged' | 'unsent'>): void;
}

export interface Probe {
  /** Sends one ping to each, now. Whoever waits ends the wait by `giveUp`. */
  send(units: Uint32Array): void;
  /** Nobody waits for the unit's answer any more. */
  cancel(unit: number): void;
  close(): Promise<void>;
}

/** Errors of a system call that are ours, not the unit's: no descriptor, port, memory or network. */
const OWN_FAULTS: ReadonlySet<string> = new Set([
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'EADDRNOTAVAIL',
  'EAGAIN',
  'ENETDOWN',
  'ENETUNREACH',
]);

export function isLocalResourceError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && OWN_FAULTS.has(String(error.code));
}

/** Whether this process can open anything at all. */
export function hasFreeDescriptor(): boolean {
  try {
    closeSync(openSync('/dev/null', 'r'));
    return true;
  } catch (error) {
    return !isLocalResourceError(error);
  }
}

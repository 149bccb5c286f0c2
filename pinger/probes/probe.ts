/** The interface between a probe, which knows one transport, and the slot runner, which decides about time-outs. */

import { closeSync, openSync } from 'node:fs';

/** Bytes of the reported configuration's hash that results keep. */
export const CONFIGURATION_HASH_BYTES = 8;

/**
 * What a thread counts besides the outcomes of pings: messages that answer no ping in flight (forged, late, duplicate, malformed), and
 * pings that were unsent for lack of a descriptor, port, memory or NATS connection.
 */
export const PING_ANOMALIES = ['forged', 'late', 'duplicate', 'malformed', 'unsent'] as const;
export type PingAnomaly = (typeof PING_ANOMALIES)[number];

/** What a unit reports in an answer. `bytes` belongs to the probe, which reuses it after `onAnswered` returns. */
export interface ProbeReply {
  readonly bytes: Uint8Array;
  /** Position of the epoch in `bytes`. */
  readonly epochAt: number;
  /** Position of the first bytes of the configuration's hash in `bytes`. */
  readonly configurationHashAt: number;
  readonly lastSeq: number;
  /** The unit's clock, milliseconds since 1970; NaN when the answer names no readable time. */
  readonly clockMs: number;
}

/** Receives what happens to pings. Units are identified by their index in the table. */
export interface ProbeListener {
  /** Milliseconds of the monotonic clock. */
  readonly monotonic: () => number;
  /** The platform's clock, milliseconds since 1970. */
  readonly now: () => number;
  /** Whether a ping of this unit is in flight. */
  isAwaited(unit: number): boolean;
  /** The ping leaves at `atMs` of the monotonic clock; the response time counts from the last such call. */
  onSent(unit: number, atMs: number): void;
  /** An authentic answer arrived at `arrivedMs` of the monotonic clock. */
  onAnswered(unit: number, reply: ProbeReply, arrivedMs: number): void;
  /** The unit will not answer: it refused, or answered without success. */
  onMissed(unit: number): void;
  /** An answer without valid authentication arrived. The runner keeps waiting for an authentic one. */
  onForged(unit: number): void;
  /** This machine could not send the ping. The unit is not judged. */
  onUnsent(unit: number): void;
  /** A message arrived that answers no ping in flight. */
  onAnomaly(anomaly: Exclude<PingAnomaly, 'forged' | 'unsent'>): void;
}

export interface Probe {
  /** Sends one ping to each unit. The caller ends the wait for an answer by `cancel`. */
  send(units: Uint32Array): void;
  /** Ends the wait for the unit's answer. A later answer counts as an anomaly. */
  cancel(unit: number): void;
  close(): Promise<void>;
}

/** Error codes of system calls that blame this machine, not the unit: no descriptor, port, memory or network. */
const LOCAL_RESOURCE_ERRORS: ReadonlySet<string> = new Set([
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'EADDRNOTAVAIL',
  'EAGAIN',
  'ENETDOWN',
  'ENETUNREACH',
]);

/** Whether an error of a system call blames this machine and not the unit. */
export function isLocalResourceError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && LOCAL_RESOURCE_ERRORS.has(String(error.code));
}

/** Whether this process can open one more file or socket. */
export function hasFreeDescriptor(): boolean {
  try {
    closeSync(openSync('/dev/null', 'r'));
    return true;
  } catch (error) {
    return !isLocalResourceError(error);
  }
}

/**
 * What this process knows about one unit, and the transition that follows from it. Pure functions.
 *
 *   unknown ──first evidence──▶ the status in the event log, and from then on:
 *   never-seen ──proof──▶ online ──misses in a row, or silence──▶ offline ──proof──▶ online
 *
 * `unknown` means that this process must ask the event log: the process has just started, or the read model disagrees.
 */

import type { Connectivity } from '../../domain/connectivity/connectivity.ts';
import type { EventOf } from '../../domain/events/catalogue.ts';

export type Evidence = EventOf<'UnitWentOnline'>['evidence'];
/** The status of a unit as this process believes it; the event log decides. */
export type BelievedStatus = 'unknown' | Connectivity['status'];

/** A proof that a unit is alive. `atMs`: on the monotonic clock. */
export interface LivenessProof {
  readonly evidence: Evidence;
  readonly atMs: number;
}

/** Times are on the monotonic clock. */
export interface UnitLiveness {
  readonly status: BelievedStatus;
  /** Missed pings since the last proof. */
  readonly misses: number;
  /** When the first of these pings was sent, or when the silence began. */
  readonly missingSinceMs?: number;
  /** Whether neither an answer nor a heartbeat has arrived for longer than allowed. */
  readonly isSilent: boolean;
  /**
   * Whether missed pings count. False for a unit that sends other proofs while its pings stay unanswered: the network blocks its
   * pings, and the unit would go offline and online for ever.
   */
  readonly areMissesCounted: boolean;
  readonly lastProof?: LivenessProof;
}

export const UNKNOWN_LIVENESS: UnitLiveness = {
  status: 'unknown',
  misses: 0,
  isSilent: false,
  areMissesCounted: true,
};

/** A proof arrived: it ends misses and silence. Proofs may arrive in any order; the newest time stays. */
export function withProof(
  liveness: UnitLiveness,
  { evidence, atMs }: LivenessProof,
  failuresToOffline: number,
): UnitLiveness {
  const { status, misses, areMissesCounted, lastProof } = liveness;
  return {
    status,
    misses: 0,
    isSilent: false,
    areMissesCounted: evidence === 'ping' || (areMissesCounted && misses < failuresToOffline),
    lastProof: { evidence, atMs: Math.max(atMs, lastProof?.atMs ?? atMs) },
  };
}

/** The unit did not answer a ping that was sent at `sentAtMs`. A proof that is newer than the ping refutes the miss. */
export function withMiss(liveness: UnitLiveness, sentAtMs: number): UnitLiveness {
  const { areMissesCounted, lastProof } = liveness;
  if (!areMissesCounted || (lastProof !== undefined && lastProof.atMs > sentAtMs)) return liveness;
  return { ...liveness, misses: liveness.misses + 1, missingSinceMs: liveness.missingSinceMs ?? sentAtMs };
}

/** The unit has sent nothing since `sinceMs`, for longer than allowed. */
export function withSilence(liveness: UnitLiveness, sinceMs: number): UnitLiveness {
  return { ...liveness, isSilent: true, missingSinceMs: liveness.missingSinceMs ?? sinceMs };
}

/** The event log says `status`. */
export function withRecordedStatus(liveness: UnitLiveness, status: Connectivity['status']): UnitLiveness {
  return { ...liveness, status };
}

/** Another process has a proof that is newer than the misses: they do not count. */
export function withoutMisses({ areMissesCounted, lastProof }: UnitLiveness): UnitLiveness {
  return {
    status: 'online',
    misses: 0,
    isSilent: false,
    areMissesCounted,
    ...(lastProof === undefined ? {} : { lastProof }),
  };
}

/** The read model, which may lag, disagrees: the next evidence makes the process ask the event log. */
export function withUnknownStatus(liveness: UnitLiveness): UnitLiveness {
  return { ...liveness, status: 'unknown' };
}

/** The transition that the evidence demands; `undefined` when it demands none. */
export function dueTransition(liveness: UnitLiveness, failuresToOffline: number): 'online' | 'offline' | undefined {
  const { status, misses, isSilent, lastProof } = liveness;
  if (isSilent || misses >= failuresToOffline) {
    return status === 'online' || status === 'unknown' ? 'offline' : undefined;
  }
  return lastProof !== undefined && misses === 0 && status !== 'online' ? 'online' : undefined;
}

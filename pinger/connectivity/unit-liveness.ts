/**
 * What this process knows about one unit, and what that asks of the log. Pure.
 *
 *   unknown ──first evidence──▶ what the log says, from then on:
 *   never-seen ──proof──▶ online ──misses in a row, or silence──▶ offline ──proof──▶ online
 *
 * `unknown` is a belief to be checked: the process has just started, or the read model says something else.
 */

import type { Connectivity } from '../../domain/connectivity/connectivity.ts';
import type { EventOf } from '../../domain/events/catalogue.ts';

export type Evidence = EventOf<'UnitWentOnline'>['evidence'];
export type BelievedStatus = 'unknown' | Connectivity['status'];

export interface UnitLiveness {
  readonly status: BelievedStatus;
  /** Pings in a row that were not answered. */
  readonly misses: number;
  /** When the first of them was sent, or the silence began, on the clock that never jumps. */
  readonly missingSinceMs?: number;
  /** Neither pings nor anything else has been heard for too long. */
  readonly isSilent: boolean;
  /**
   * Whether missed pings say anything. Not at a unit that proves by other means that it is there while its pings go
   * unanswered: that is a network through which pings do not come, and the unit would go offline and online for ever.
   */
  readonly isPingEvidence: boolean;
  /** The newest, on the clock that never jumps. */
  readonly lastProof?: { readonly evidence: Evidence; readonly atMs: number };
}

export const UNKNOWN_LIVENESS: UnitLiveness = {
  status: 'unknown',
  misses: 0,
  isSilent: false,
  isPingEvidence: true,
};

/** The unit has proved that it is there. `atMs`: on the clock that never jumps. */
export function withProof(
  watch: UnitLiveness,
  evidence: Evidence,
  atMs: number,
  failuresToOffline: number,
): UnitLiveness {
  const { status, misses, isPingEvidence: pingable, lastProof } = watch;
  return {
    status,
    misses: 0,
    isSilent: false,
    isPingEvidence: evidence === 'ping' || (pingable && misses < failuresToOffline),
    lastProof: { evidence, atMs: Math.max(atMs, lastProof?.atMs ?? atMs) },
  };
}

/** A ping that was sent at `atMs` was not answered. */
export function withMiss(watch: UnitLiveness, atMs: number): UnitLiveness {
  if (!watch.isPingEvidence) return watch;
  return { ...watch, misses: watch.misses + 1, missingSinceMs: watch.missingSinceMs ?? atMs };
}

/** Nothing has been heard since `sinceMs`, though it should have. */
export function withSilence(watch: UnitLiveness, sinceMs: number): UnitLiveness {
  return { ...watch, isSilent: true, missingSinceMs: watch.missingSinceMs ?? sinceMs };
}

/** What stands in the log. */
export function withRecordedStatus(watch: UnitLiveness, status: Connectivity['status']): UnitLiveness {
  return { ...watch, status };
}

/** The log knows a newer proof than the misses: somebody else has heard the unit meanwhile. They do not count. */
export function withMissesRefuted({ isPingEvidence: pingable, lastProof }: UnitLiveness): UnitLiveness {
  return {
    status: 'online',
    misses: 0,
    isSilent: false,
    isPingEvidence: pingable,
    ...(lastProof === undefined ? {} : { lastProof }),
  };
}

/** The read model, which may lag, says something else: the next evidence asks the log. */
export function withUnknownStatus(watch: UnitLiveness): UnitLiveness {
  return { ...watch, status: 'unknown' };
}

/** The transition that the evidence asks for, if any. */
export function dueTransition(watch: UnitLiveness, failuresToOffline: number): 'online' | 'offline' | undefined {
  const { status, misses, lastProof } = watch;
  if (watch.isSilent || misses >= failuresToOffline) {
    return status === 'online' || status === 'unknown' ? 'offline' : undefined;
  }
  return lastProof !== undefined && misses === 0 && status !== 'online' ? 'online' : undefined;
}

/**
 * Decides which units the fetch worker asks for their log, and when. The schedule is pure: time is an argument.
 *
 * A unit of `delivery: "fetch"` has one slot in each interval, at `hash(unit) mod interval` in absolute time, so that the load
 * on units and servers is flat. In the same slot the worker asks a unit that pushes and that no pinger pings, when the
 * platform has recorded more of its log than it has confirmed to the unit: a unit may delete only confirmed events, and only a
 * ping or a fetch confirms them. Outside its slot the worker asks a unit whose log has a gap, and a unit that reports events of
 * which none has been recorded for `BEHIND_GRACE_MS`. The worker retries a unit that yields no events with exponential backoff
 * (5 s to 5 min).
 */

import { unitHash } from '../../../domain/shard.ts';
import type { LogPosition } from './unit-log-client.ts';

/** A unit that is behind for less than this is not asked, because its next push may bring the events. */
export const BEHIND_GRACE_MS = 15_000;
/** Exponential backoff between attempts that yield no events: the pause doubles from the first value to the second. */
export const FIRST_RETRY_MS = 5_000;
export const MAX_RETRY_MS = 300_000;
/** Hex digits of the unit's hash that choose its slot: with eight, slots are finer than a millisecond in any interval. */
const SLOT_HASH_LETTERS = 8;
const SLOT_HASH_RANGE = 16 ** SLOT_HASH_LETTERS;

export interface FetchTarget {
  readonly name: string;
  readonly delivery: 'push' | 'fetch';
  readonly online: boolean;
  /** Pingers ping this unit, and each ping confirms which events are recorded. */
  readonly pinged: boolean;
  /** Events are missing between events that the platform has received. */
  readonly hasGap: boolean;
  /** The last position of its log that the unit reported. */
  readonly reported: LogPosition | undefined;
  /** The last recorded position. The read model that supplies it may lag. */
  readonly recorded: LogPosition | undefined;
}

/** What the schedule remembers of a unit between two polls. */
interface FetchProgress {
  /** Number of the slot in which the worker asked the unit last. */
  lastSlot: number;
  /** `EPOCH:SEQ`, or empty when nothing of the unit is recorded. */
  recordedPosition: string;
  /** Since when `recordedPosition` has not changed while the unit was behind, milliseconds since 1970. */
  unchangedSinceMs: number;
  /** Attempts in a row that yielded no events. */
  failures: number;
  /** End of the backoff, milliseconds since 1970. */
  notBeforeMs: number;
  /** The `recordedPosition` that the last successful fetch confirmed to the unit. */
  confirmedPosition: string;
}

/**
 * Why a unit is asked: `slot` is its slot of the interval, `confirm` tells it which events are recorded, `behind` brings events
 * that it reports and did not push, `gap` brings events that are missing between recorded or waiting ones.
 */
export type FetchReason = 'slot' | 'confirm' | 'behind' | 'gap';

export class FetchSchedule {
  readonly #intervalMs: number;
  readonly #units = new Map<string, FetchProgress>();

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Lists which of `targets` are due. The schedule forgets every unit that is not among them. */
  listDue(targets: readonly FetchTarget[], nowMs: number): { readonly name: string; readonly reason: FetchReason }[] {
    const due: { name: string; reason: FetchReason }[] = [];
    const present = new Set<string>();
    for (const target of targets) {
      present.add(target.name);
      const reason = this.#reasonToFetch(target, this.#updateProgress(target, nowMs), nowMs);
      if (reason !== undefined) due.push({ name: target.name, reason });
    }
    for (const name of this.#units.keys()) if (!present.has(name)) this.#units.delete(name);
    return due;
  }

  /** Records that the worker starts to fetch from a unit, and begins its backoff. */
  recordAttempt(name: string, nowMs: number): void {
    const progress = this.#units.get(name);
    if (progress === undefined) return;
    progress.lastSlot = this.#slotOf(name, nowMs);
    progress.notBeforeMs = nowMs + Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** progress.failures);
    progress.failures += 1;
  }

  /** Records that a unit answered: the request has confirmed to it which events are recorded. */
  recordAnswer(name: string): void {
    const progress = this.#units.get(name);
    if (progress !== undefined) progress.confirmedPosition = progress.recordedPosition;
  }

  /** Records that a fetch achieved its purpose, which ends the unit's backoff. */
  recordProgress(name: string, nowMs: number): void {
    const progress = this.#units.get(name);
    if (progress === undefined) return;
    progress.failures = 0;
    progress.notBeforeMs = nowMs;
  }

  #updateProgress(target: FetchTarget, nowMs: number): FetchProgress {
    const recordedPosition = target.recorded === undefined ? '' : `${target.recorded.epoch}:${target.recorded.seq}`;
    const known = this.#units.get(target.name);
    if (known === undefined) {
      const progress = {
        lastSlot: this.#slotOf(target.name, nowMs),
        recordedPosition,
        unchangedSinceMs: nowMs,
        failures: 0,
        notBeforeMs: 0,
        confirmedPosition: '',
      };
      this.#units.set(target.name, progress);
      return progress;
    }
    if (known.recordedPosition !== recordedPosition || !isBehind(target)) {
      known.recordedPosition = recordedPosition;
      known.unchangedSinceMs = nowMs;
    }
    return known;
  }

  #reasonToFetch(target: FetchTarget, progress: FetchProgress, nowMs: number): FetchReason | undefined {
    if (!target.online) return undefined;
    const isInNewSlot = this.#slotOf(target.name, nowMs) !== progress.lastSlot;
    if (isInNewSlot && target.delivery === 'fetch') return 'slot';
    if (nowMs < progress.notBeforeMs) return undefined;
    const isUnconfirmed = progress.recordedPosition !== progress.confirmedPosition;
    if (isInNewSlot && !target.pinged && isUnconfirmed) return 'confirm';
    if (target.hasGap) return 'gap';
    const isOverdue = isBehind(target) && nowMs - progress.unchangedSinceMs >= BEHIND_GRACE_MS;
    return target.delivery === 'push' && isOverdue ? 'behind' : undefined;
  }

  #slotOf(name: string, nowMs: number): number {
    const offset = Number.parseInt(unitHash(name).slice(0, SLOT_HASH_LETTERS), 16) / SLOT_HASH_RANGE;
    return Math.floor(nowMs / this.#intervalMs - offset);
  }
}

/** Whether the unit reports a later position than the recorded one, or another epoch. */
function isBehind({ reported, recorded }: FetchTarget): boolean {
  if (reported === undefined || reported.seq === 0) return false;
  return recorded?.epoch !== reported.epoch || recorded.seq < reported.seq;
}

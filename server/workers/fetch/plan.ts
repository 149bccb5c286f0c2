/**
 * When a unit is asked for its log. Pure.
 *
 * A unit of `delivery: "fetch"` has an instant of its own in the interval, `hash(unit) mod interval` on absolute time, so
 * that the load is flat. A unit that pushes and is not pinged is asked then too when more of its log is recorded than it was
 * told: only a ping or a fetch says what it may delete. Any unit is asked beside that when its log does not come by itself: it says that it has events that
 * have not been recorded for a grace period in which nothing came, or a gap is open. What fails is tried again ever later.
 */

import { unitHash } from '../../../domain/shard.ts';
import type { Place } from './unit-log-reader.ts';

/** How long a unit may be behind without anything being recorded before it is asked: a push may still come. */
export const BEHIND_GRACE_MS = 15_000;
/** Pauses between attempts that brought nothing: doubled from the first to the longest. */
export const FIRST_RETRY_MS = 5_000;
export const LONGEST_RETRY_MS = 300_000;
/** Letters of the hash that spread the units: finer than a millisecond of any interval. */
const SPREAD_LETTERS = 8;
const SPREAD = 16 ** SPREAD_LETTERS;

export interface FetchTarget {
  readonly name: string;
  readonly delivery: 'push' | 'fetch';
  readonly online: boolean;
  /** A ping tells it what is recorded. */
  readonly pinged: boolean;
  /** Events are missing between those that arrived. */
  readonly hasGap: boolean;
  /** How far the unit says that its log goes. */
  readonly reported: Place | undefined;
  /** How far it is recorded, as far as the read model knows. */
  readonly recorded: Place | undefined;
}

interface Watched {
  /** The turn of the interval in which it was asked last. */
  turn: number;
  /** What was recorded when it was last seen to stand still, and since when. */
  standsAt: string;
  sinceMs: number;
  failures: number;
  notBeforeMs: number;
  /** What was recorded when it was last told so. */
  toldOf: string;
}

export type Why = 'turn' | 'tell' | 'behind' | 'gap';

export class FetchPlan {
  readonly #intervalMs: number;
  readonly #units = new Map<string, Watched>();

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Which of these units are to be asked now. Units that are not among them are forgotten. */
  due(targets: readonly FetchTarget[], nowMs: number): { readonly name: string; readonly why: Why }[] {
    const due: { name: string; why: Why }[] = [];
    const present = new Set<string>();
    for (const target of targets) {
      present.add(target.name);
      const why = this.#reason(target, this.#watch(target, nowMs), nowMs);
      if (why !== undefined) due.push({ name: target.name, why });
    }
    for (const name of this.#units.keys()) if (!present.has(name)) this.#units.delete(name);
    return due;
  }

  /** A unit is being asked. */
  asked(name: string, nowMs: number): void {
    const watched = this.#units.get(name);
    if (watched === undefined) return;
    watched.turn = this.#turnOf(name, nowMs);
    watched.notBeforeMs = nowMs + Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** watched.failures);
    watched.failures += 1;
  }

  /** It answered, and so it was told what is recorded. */
  answered(name: string): void {
    const watched = this.#units.get(name);
    if (watched !== undefined) watched.toldOf = watched.standsAt;
  }

  /** It told something new: it may be asked again at once. */
  told(name: string, nowMs: number): void {
    const watched = this.#units.get(name);
    if (watched === undefined) return;
    watched.failures = 0;
    watched.notBeforeMs = nowMs;
  }

  #watch(target: FetchTarget, nowMs: number): Watched {
    const standsAt = target.recorded === undefined ? '' : `${target.recorded.epoch}:${target.recorded.seq}`;
    const known = this.#units.get(target.name);
    if (known === undefined) {
      const turn = this.#turnOf(target.name, nowMs);
      const watched = { turn, standsAt, sinceMs: nowMs, failures: 0, notBeforeMs: 0, toldOf: '' };
      this.#units.set(target.name, watched);
      return watched;
    }
    if (known.standsAt !== standsAt || !isBehind(target)) {
      known.standsAt = standsAt;
      known.sinceMs = nowMs;
    }
    return known;
  }

  #reason(target: FetchTarget, watched: Watched, nowMs: number): Why | undefined {
    if (!target.online) return undefined;
    const isItsTurn = this.#turnOf(target.name, nowMs) !== watched.turn;
    if (isItsTurn && target.delivery === 'fetch') return 'turn';
    if (nowMs < watched.notBeforeMs) return undefined;
    if (isItsTurn && !target.pinged && watched.standsAt !== watched.toldOf) return 'tell';
    if (target.hasGap) return 'gap';
    const stands = target.delivery === 'push' && isBehind(target) && nowMs - watched.sinceMs >= BEHIND_GRACE_MS;
    return stands ? 'behind' : undefined;
  }

  #turnOf(name: string, nowMs: number): number {
    const part = Number.parseInt(unitHash(name).slice(0, SPREAD_LETTERS), 16) / SPREAD;
    return Math.floor(nowMs / this.#intervalMs - part);
  }
}

function isBehind({ reported, recorded }: FetchTarget): boolean {
  if (reported === undefined || reported.seq === 0) return false;
  return recorded?.epoch !== reported.epoch || recorded.seq < reported.seq;
}

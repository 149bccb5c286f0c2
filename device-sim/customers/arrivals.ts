/**
 * Arrivals of customers as an open-loop Poisson process: each arrival has a due time that does not depend on when an earlier one
 * began. A turn begins every arrival that is due, since a timer fires at most once in a millisecond, and late on a busy machine.
 */

import type { Random } from '../environment/random.ts';
import type { Timers } from '../environment/timers.ts';

const MS_PER_MINUTE = 60_000;
/** Most arrivals that begin in one turn of the event loop: more would delay the answers of the units. */
export const MAX_ARRIVALS_PER_TURN = 1_000;
/** Most customers who wait for the commit of their rental. Further arrivals begin when the store has caught up. */
export const MAX_CONCURRENT_ARRIVALS = 10_000;
/** Longest wait for the next turn. */
const MAX_WAIT_MS = 1_000;
/** The arrivals of a longer gap between two turns are left out: the machine was suspended, or its clock was set. */
const MAX_CATCH_UP_MS = 10_000;

export interface ArrivalCount {
  /** How many arrivals the rates since the beginning have asked for. */
  readonly asked: number;
  readonly begun: number;
  /** The time in which they were asked for. */
  readonly elapsedMs: number;
}

export interface ArrivalsDependencies {
  readonly timers: Timers;
  readonly random: Random;
  /** Resolves when the customer has rented a locker, or was turned away. */
  readonly begin: () => Promise<void>;
}

export class Arrivals {
  readonly #deps: ArrivalsDependencies;
  #perMinute = 0;
  #isStopped = false;
  #cancelTurn: () => void = () => undefined;
  /** When the last turn began. */
  #seenMs: number;
  /** The time that the turns have counted. It never goes back, unlike the clock. */
  #elapsedMs = 0;
  /** When the next arrival is due, on the scale of `#elapsedMs`. */
  #dueMs = Number.POSITIVE_INFINITY;
  /** Arrivals that were due before the rate changed, and have not begun. */
  #owed = 0;
  #asked = 0;
  #begun = 0;
  #concurrent = 0;

  constructor(deps: ArrivalsDependencies) {
    this.#deps = deps;
    this.#seenMs = deps.timers.nowMs();
  }

  /** Sets the rate from now on. The exponential distribution is memoryless, so the next arrival can be drawn anew. */
  setRate(perMinute: number): void {
    if (this.#isStopped) return;
    this.#countTime();
    for (; this.#dueMs <= this.#elapsedMs; this.#dueMs = this.#nextDueMs(this.#dueMs)) this.#owed += 1;
    this.#perMinute = perMinute;
    this.#dueMs = this.#nextDueMs(this.#elapsedMs);
    this.#scheduleTurn();
  }

  reached(): ArrivalCount {
    if (!this.#isStopped) this.#countTime();
    return { asked: this.#asked, begun: this.#begun, elapsedMs: this.#elapsedMs };
  }

  stop(): void {
    if (!this.#isStopped) this.#countTime();
    this.#isStopped = true;
    this.#cancelTurn();
  }

  #countTime(): void {
    const nowMs = this.#deps.timers.nowMs();
    const passedMs = Math.min(Math.max(0, nowMs - this.#seenMs), MAX_CATCH_UP_MS);
    this.#seenMs = nowMs;
    this.#elapsedMs += passedMs;
    this.#asked += (passedMs * this.#perMinute) / MS_PER_MINUTE;
  }

  #nextDueMs(afterMs: number): number {
    if (this.#perMinute <= 0) return Number.POSITIVE_INFINITY;
    return afterMs + this.#deps.random.exponential(MS_PER_MINUTE / this.#perMinute);
  }

  #scheduleTurn(): void {
    this.#cancelTurn();
    const waitMs = this.#owed > 0 ? 0 : Math.max(0, this.#dueMs - this.#elapsedMs);
    this.#cancelTurn = this.#deps.timers.after(Math.min(waitMs, MAX_WAIT_MS), () => this.#turn());
  }

  #turn(): void {
    if (this.#isStopped) return;
    this.#countTime();
    for (let begun = 0; begun < MAX_ARRIVALS_PER_TURN && this.#concurrent < MAX_CONCURRENT_ARRIVALS; begun++) {
      if (!this.#takeDue()) break;
      void this.#begin();
    }
    this.#scheduleTurn();
  }

  /** @returns whether an arrival is due; it counts as begun then */
  #takeDue(): boolean {
    if (this.#owed > 0) this.#owed -= 1;
    else if (this.#dueMs <= this.#elapsedMs) this.#dueMs = this.#nextDueMs(this.#dueMs);
    else return false;
    return true;
  }

  async #begin(): Promise<void> {
    this.#begun += 1;
    this.#concurrent += 1;
    try {
      await this.#deps.begin();
    } finally {
      this.#concurrent -= 1;
    }
  }
}

/**
 * Budgets of units: a token bucket for each unit, in the memory of one process. A unit may go on while its balance is positive, and what
 * it did is charged afterwards, so the balance can become negative. Thus work of any size is possible, and the average rate holds.
 */

import { LRUCache } from 'lru-cache';

/** Bytes of the balances, enough for some 70,000 units. Beyond it the unit that was charged longest ago has its full burst again. */
const MAX_BALANCES_BYTES = 16 * 1024 * 1024;
/** An estimate of the bytes of a balance without the name of its unit. */
const BALANCE_BYTES = 200;
const MS_PER_S = 1_000;

interface Balance {
  readonly tokens: number;
  readonly atMs: number;
}

export interface UnitBudgetsOptions {
  /** Tokens of a unit that used none for long. */
  readonly burst: number;
  /** Tokens that a unit gets back in a second. */
  readonly perS: number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
}

export class UnitBudgets {
  readonly #burst: number;
  readonly #perMs: number;
  readonly #monotonic: () => number;
  readonly #balances = new LRUCache<string, Balance>({
    maxSize: MAX_BALANCES_BYTES,
    sizeCalculation: (_, unit) => BALANCE_BYTES + unit.length,
  });

  constructor({ burst, perS, monotonic }: UnitBudgetsOptions) {
    this.#burst = burst;
    this.#perMs = perS / MS_PER_S;
    this.#monotonic = monotonic;
  }

  /** Milliseconds until the unit may go on; 0 when it may now. */
  waitMs(unit: string): number {
    const tokens = this.#tokensOf(this.#balances.peek(unit));
    return tokens > 0 ? 0 : Math.floor(-tokens / this.#perMs) + 1;
  }

  charge(unit: string, tokens: number): void {
    const left = this.#tokensOf(this.#balances.peek(unit)) - tokens;
    this.#balances.set(unit, { tokens: left, atMs: this.#monotonic() });
  }

  /** Units that must wait now. */
  countWaiting(): number {
    let count = 0;
    for (const balance of this.#balances.values()) if (this.#tokensOf(balance) <= 0) count += 1;
    return count;
  }

  #tokensOf(balance: Balance | undefined): number {
    if (balance === undefined) return this.#burst;
    return Math.min(this.#burst, balance.tokens + (this.#monotonic() - balance.atMs) * this.#perMs);
  }
}

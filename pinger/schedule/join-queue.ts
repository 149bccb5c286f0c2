/**
 * Join pings: a unit that this process has not pinged yet, because the unit or the process is new, is pinged within a tick
 * instead of at its next phase, and again a few times until it answers. The rate is bounded, so that a start with many units does
 * not cause a burst.
 */

/** Most join pings in one tick. */
export const MAX_JOIN_PINGS_PER_TICK = 100;
/** Most join pings of one unit. */
export const MAX_JOIN_ATTEMPTS = 5;
/** Ticks between two join pings of one unit. */
export const JOIN_RETRY_TICKS = 10;

export class JoinQueue {
  /** Units that await a join ping, in the order in which they are due. */
  readonly #waiting = new Map<string, { readonly attempts: number; readonly dueTick: number }>();

  add(unit: string): void {
    if (!this.#waiting.has(unit)) this.#waiting.set(unit, { attempts: 0, dueTick: 0 });
  }

  /** Ends the join pings of a unit that has answered or has left. */
  remove(unit: string): void {
    this.#waiting.delete(unit);
  }

  /** @returns the units that are due at `tick`, a counter that ascends from call to call */
  takeDue(tick: number): string[] {
    const due: string[] = [];
    for (const [unit, { attempts, dueTick }] of this.#waiting) {
      if (dueTick > tick || due.length >= MAX_JOIN_PINGS_PER_TICK) break;
      due.push(unit);
      this.#waiting.delete(unit);
      if (attempts + 1 < MAX_JOIN_ATTEMPTS) {
        this.#waiting.set(unit, { attempts: attempts + 1, dueTick: tick + JOIN_RETRY_TICKS });
      }
    }
    return due;
  }
}

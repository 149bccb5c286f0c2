/**
 * Units that were not pinged yet, because they or this process are new: they are pinged soon instead of at their own
 * instant, a few times. Bounded per slot, so that a start with many units is no storm.
 */

/** Most such pings in one slot. */
export const MAX_JOIN_PINGS_PER_SLOT = 100;
/** How often a unit is asked in this way. */
export const MAX_JOIN_ATTEMPTS = 5;
/** Slots between two of them. */
export const JOIN_RETRY_SLOTS = 10;

export class JoinQueue {
  /** By unit, the one that is due first in front. */
  readonly #waiting = new Map<string, { readonly attempts: number; readonly dueSlot: number }>();

  add(unit: string): void {
    if (!this.#waiting.has(unit)) this.#waiting.set(unit, { attempts: 0, dueSlot: 0 });
  }

  /** It answered, or it has left. */
  remove(unit: string): void {
    this.#waiting.delete(unit);
  }

  /** The units to ping in this slot. */
  takeDue(slot: number): string[] {
    const due: string[] = [];
    for (const [unit, { attempts, dueSlot }] of this.#waiting) {
      if (dueSlot > slot || due.length >= MAX_JOIN_PINGS_PER_SLOT) break;
      due.push(unit);
      this.#waiting.delete(unit);
      if (attempts + 1 < MAX_JOIN_ATTEMPTS) {
        this.#waiting.set(unit, { attempts: attempts + 1, dueSlot: slot + JOIN_RETRY_SLOTS });
      }
    }
    return due;
  }
}

/**
 * Who else is there, from what was heard of them and when. Times are the reader's own monotonic clock: nobody's clock has to
 * agree with anybody else's.
 *
 *            heartbeat                  silent for EXPIRY_MS, or it said that it leaves
 *   unknown ───────────────► there ─────────────────────────────────────────────────────► unknown
 *
 * Silence counts only while the reader itself was in touch; after it was not, everybody gets the whole time again.
 */

import type { Member } from './deal.ts';

/** How often a member says that it is there. */
export const HEARTBEAT_MS = 1_000;
/** A member that was silent for so long is gone: three heartbeats. */
export const EXPIRY_MS = 3 * HEARTBEAT_MS;

interface Heard {
  readonly fixed: Member['fixed'];
  readonly atMs: number;
}

export class Membership {
  readonly #heard = new Map<string, Heard>();

  /** @returns whether that changed who is there, or what it is fixed to */
  recordHeartbeat({ id, fixed }: Member, atMs: number): boolean {
    const known = this.#heard.get(id);
    this.#heard.set(id, { fixed, atMs: Math.max(atMs, known?.atMs ?? atMs) });
    return known === undefined || known.fixed?.join() !== fixed?.join();
  }

  /** @returns whether it was there */
  remove(id: string): boolean {
    return this.#heard.delete(id);
  }

  /** Begins everybody's time anew: the silence was the reader's. */
  restartExpiry(nowMs: number): void {
    for (const [id, { fixed }] of this.#heard) this.#heard.set(id, { fixed, atMs: nowMs });
  }

  /** Drops those whose time is up. @returns their ids */
  removeExpired(nowMs: number): readonly string[] {
    const gone = [...this.#heard].filter(([, { atMs }]) => nowMs - atMs >= EXPIRY_MS).map(([id]) => id);
    for (const id of gone) this.#heard.delete(id);
    return gone;
  }

  /** When the time of the first is up. Infinity when nobody is there. */
  get nextExpiryMs(): number {
    return Math.min(...[...this.#heard.values()].map(({ atMs }) => atMs + EXPIRY_MS));
  }

  get members(): readonly Member[] {
    return [...this.#heard].map(([id, { fixed }]) => ({ id, fixed }));
  }
}

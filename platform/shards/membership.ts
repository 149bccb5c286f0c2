/**
 * The other members of a group, by their last heartbeat. Times are of the monotonic clock of this process, so that the clocks
 * of the members need not agree.
 *
 *            heartbeat                  no heartbeat for EXPIRY_MS, or it left
 *   unknown ───────────────► present ──────────────────────────────────────────► unknown
 *
 * Silence counts only while this process is connected. After a disconnection, `restartExpiry` gives every member its whole time
 * again.
 */

import type { Member } from './assign-shards.ts';

/** Interval of a member's heartbeats. */
export const HEARTBEAT_MS = 1_000;
/** A member without a heartbeat for this time is gone: three intervals. */
export const EXPIRY_MS = 3 * HEARTBEAT_MS;

interface LastHeartbeat {
  readonly fixed: Member['fixed'];
  readonly atMs: number;
}

export class Membership {
  readonly #heartbeats = new Map<string, LastHeartbeat>();

  /** @returns whether the member is new or is fixed to other prefixes than before */
  recordHeartbeat({ id, fixed }: Member, atMs: number): boolean {
    const known = this.#heartbeats.get(id);
    this.#heartbeats.set(id, { fixed, atMs: Math.max(atMs, known?.atMs ?? atMs) });
    return known === undefined || known.fixed?.join() !== fixed?.join();
  }

  /** @returns whether the member was present */
  remove(id: string): boolean {
    return this.#heartbeats.delete(id);
  }

  /** Restarts the expiry of every member, after this process was disconnected. */
  restartExpiry(nowMs: number): void {
    for (const [id, { fixed }] of this.#heartbeats) this.#heartbeats.set(id, { fixed, atMs: nowMs });
  }

  /** Removes the members that have expired. @returns their ids */
  removeExpired(nowMs: number): readonly string[] {
    const gone = [...this.#heartbeats].filter(([, { atMs }]) => nowMs - atMs >= EXPIRY_MS).map(([id]) => id);
    for (const id of gone) this.#heartbeats.delete(id);
    return gone;
  }

  /** When the next member expires, on the monotonic clock; Infinity without other members. */
  get nextExpiryMs(): number {
    return Math.min(...[...this.#heartbeats.values()].map(({ atMs }) => atMs + EXPIRY_MS));
  }

  get members(): readonly Member[] {
    return [...this.#heartbeats].map(([id, { fixed }]) => ({ id, fixed }));
  }
}

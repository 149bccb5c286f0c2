/** What is known about each unit (`watch.ts`), as columns. */

import { type Believed, type Evidence, NEW_WATCH, type Watch } from './watch.ts';

export const BELIEVED: readonly Believed[] = ['unknown', 'never-seen', 'online', 'offline'];
const ONLINE = BELIEVED.indexOf('online');
const EVIDENCE: readonly (Evidence | undefined)[] = [undefined, 'ping', 'heartbeat', 'command'];
const SILENT = 1;
const UNPINGABLE = 2;
const MAX_MISSES = 0xff_ff;

export class WatchTable {
  /** By `BELIEVED`. */
  readonly #statuses: Uint8Array;
  readonly #misses: Uint16Array;
  readonly #flags: Uint8Array;
  readonly #missingSinceMs: Float64Array;
  /** By `EVIDENCE`. */
  readonly #evidences: Uint8Array;
  readonly #provenMs: Float64Array;

  constructor(capacity: number) {
    this.#statuses = new Uint8Array(capacity);
    this.#misses = new Uint16Array(capacity);
    this.#flags = new Uint8Array(capacity);
    this.#missingSinceMs = new Float64Array(capacity);
    this.#evidences = new Uint8Array(capacity);
    this.#provenMs = new Float64Array(capacity);
  }

  read(index: number): Watch {
    const status = BELIEVED[this.#statuses[index] ?? 0] ?? NEW_WATCH.status;
    const misses = this.#misses[index] ?? 0;
    const flags = this.#flags[index] ?? 0;
    const isSilent = (flags & SILENT) !== 0;
    const lastProof = this.lastProof(index);
    return {
      status,
      misses,
      silent: isSilent,
      pingable: (flags & UNPINGABLE) === 0,
      ...(misses > 0 || isSilent ? { missingSinceMs: this.#missingSinceMs[index] ?? 0 } : {}),
      ...(lastProof === undefined ? {} : { lastProof }),
    };
  }

  write(index: number, { status, misses, missingSinceMs, silent, pingable, lastProof }: Watch): void {
    this.#statuses[index] = BELIEVED.indexOf(status);
    this.#misses[index] = Math.min(misses, MAX_MISSES);
    this.#flags[index] = (silent ? SILENT : 0) | (pingable ? 0 : UNPINGABLE);
    this.#missingSinceMs[index] = missingSinceMs ?? 0;
    this.#evidences[index] = EVIDENCE.indexOf(lastProof?.evidence);
    this.#provenMs[index] = lastProof?.atMs ?? 0;
  }

  status(index: number): Believed {
    return BELIEVED[this.#statuses[index] ?? 0] ?? NEW_WATCH.status;
  }

  isPingable(index: number): boolean {
    return ((this.#flags[index] ?? 0) & UNPINGABLE) === 0;
  }

  lastProof(index: number): Watch['lastProof'] {
    const evidence = EVIDENCE[this.#evidences[index] ?? 0];
    return evidence === undefined ? undefined : { evidence, atMs: this.#provenMs[index] ?? 0 };
  }

  /**
   * Notes a further proof of a unit of which nobody doubts that it is there. Tens of thousands come in a second.
   * @returns false when there is something else to say about it
   */
  confirm(index: number, evidence: Evidence, atMs: number): boolean {
    const isUndisputed =
      this.#statuses[index] === ONLINE &&
      this.#misses[index] === 0 &&
      this.#flags[index] === 0 &&
      this.#evidences[index] !== 0;
    if (!isUndisputed) return false;
    this.#evidences[index] = EVIDENCE.indexOf(evidence);
    this.#provenMs[index] = Math.max(atMs, this.#provenMs[index] ?? 0);
    return true;
  }
}

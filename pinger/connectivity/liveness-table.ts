/** What is known about each unit (`watch.ts`), as columns. */

import { type BelievedStatus, type Evidence, UNKNOWN_LIVENESS, type UnitLiveness } from './unit-liveness.ts';

export const BELIEVED_STATUSES: readonly BelievedStatus[] = ['unknown', 'never-seen', 'online', 'offline'];
const ONLINE = BELIEVED_STATUSES.indexOf('online');
const EVIDENCE: readonly (Evidence | undefined)[] = [undefined, 'ping', 'heartbeat', 'command'];
const SILENT = 1;
const UNPINGABLE = 2;
const MAX_MISSES = 0xff_ff;

export class LivenessTable {
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

  read(index: number): UnitLiveness {
    const status = BELIEVED_STATUSES[this.#statuses[index] ?? 0] ?? UNKNOWN_LIVENESS.status;
    const misses = this.#misses[index] ?? 0;
    const flags = this.#flags[index] ?? 0;
    const isSilent = (flags & SILENT) !== 0;
    const lastProof = this.lastProof(index);
    return {
      status,
      misses,
      isSilent: isSilent,
      isPingEvidence: (flags & UNPINGABLE) === 0,
      ...(misses > 0 || isSilent ? { missingSinceMs: this.#missingSinceMs[index] ?? 0 } : {}),
      ...(lastProof === undefined ? {} : { lastProof }),
    };
  }

  write(
    index: number,
    { status, misses, missingSinceMs, isSilent: withSilence, isPingEvidence: pingable, lastProof }: UnitLiveness,
  ): void {
    this.#statuses[index] = BELIEVED_STATUSES.indexOf(status);
    this.#misses[index] = Math.min(misses, MAX_MISSES);
    this.#flags[index] = (withSilence ? SILENT : 0) | (pingable ? 0 : UNPINGABLE);
    this.#missingSinceMs[index] = missingSinceMs ?? 0;
    this.#evidences[index] = EVIDENCE.indexOf(lastProof?.evidence);
    this.#provenMs[index] = lastProof?.atMs ?? 0;
  }

  status(index: number): BelievedStatus {
    return BELIEVED_STATUSES[this.#statuses[index] ?? 0] ?? UNKNOWN_LIVENESS.status;
  }

  isPingEvidence(index: number): boolean {
    return ((this.#flags[index] ?? 0) & UNPINGABLE) === 0;
  }

  lastProof(index: number): UnitLiveness['lastProof'] {
    const evidence = EVIDENCE[this.#evidences[index] ?? 0];
    return evidence === undefined ? undefined : { evidence, atMs: this.#provenMs[index] ?? 0 };
  }

  /**
   * Notes a further proof of a unit of which nobody doubts that it is there. Tens of thousands come in a second.
   * @returns false when there is something else to say about it
   */
  refreshProof(index: number, evidence: Evidence, atMs: number): boolean {
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

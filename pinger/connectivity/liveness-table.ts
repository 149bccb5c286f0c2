/** The `UnitLiveness` of every unit, as columns by unit index. */

import { type BelievedStatus, type Evidence, UNKNOWN_LIVENESS, type UnitLiveness } from './unit-liveness.ts';

const STATUSES: readonly BelievedStatus[] = ['unknown', 'never-seen', 'online', 'offline'];
const ONLINE = STATUSES.indexOf('online');
const EVIDENCES: readonly (Evidence | undefined)[] = [undefined, 'ping', 'heartbeat', 'command'];
/** Bits of a unit's flags. */
const SILENT = 1;
const MISSES_IGNORED = 2;
const MAX_MISSES = 0xff_ff;

export class LivenessTable {
  /** Positions in `STATUSES`. */
  readonly #statuses: Uint8Array;
  readonly #misses: Uint16Array;
  readonly #flags: Uint8Array;
  readonly #missingSinceMs: Float64Array;
  /** Positions in `EVIDENCES`. */
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
    const status = this.status(index);
    const misses = this.#misses[index] ?? 0;
    const isSilent = ((this.#flags[index] ?? 0) & SILENT) !== 0;
    const lastProof = this.lastProof(index);
    return {
      status,
      misses,
      isSilent,
      areMissesCounted: this.areMissesCounted(index),
      ...(misses > 0 || isSilent ? { missingSinceMs: this.#missingSinceMs[index] ?? 0 } : {}),
      ...(lastProof === undefined ? {} : { lastProof }),
    };
  }

  write(index: number, { status, misses, missingSinceMs, isSilent, areMissesCounted, lastProof }: UnitLiveness): void {
    this.#statuses[index] = STATUSES.indexOf(status);
    this.#misses[index] = Math.min(misses, MAX_MISSES);
    this.#flags[index] = (isSilent ? SILENT : 0) | (areMissesCounted ? 0 : MISSES_IGNORED);
    this.#missingSinceMs[index] = missingSinceMs ?? 0;
    this.#evidences[index] = EVIDENCES.indexOf(lastProof?.evidence);
    this.#provenMs[index] = lastProof?.atMs ?? 0;
  }

  status(index: number): BelievedStatus {
    return STATUSES[this.#statuses[index] ?? 0] ?? UNKNOWN_LIVENESS.status;
  }

  areMissesCounted(index: number): boolean {
    return ((this.#flags[index] ?? 0) & MISSES_IGNORED) === 0;
  }

  lastProof(index: number): UnitLiveness['lastProof'] {
    const evidence = EVIDENCES[this.#evidences[index] ?? 0];
    return evidence === undefined ? undefined : { evidence, atMs: this.#provenMs[index] ?? 0 };
  }

  /**
   * Updates the last proof of a unit that is online without a miss, which is the case for tens of thousands of proofs a second, without
   * building a `UnitLiveness`.
   * @returns false, and changes nothing, when the unit is in any other state
   */
  refreshProof(index: number, evidence: Evidence, atMs: number): boolean {
    const isSteadilyOnline =
      this.#statuses[index] === ONLINE &&
      this.#misses[index] === 0 &&
      this.#flags[index] === 0 &&
      this.#evidences[index] !== 0;
    if (!isSteadilyOnline) return false;
    this.#evidences[index] = EVIDENCES.indexOf(evidence);
    this.#provenMs[index] = Math.max(atMs, this.#provenMs[index] ?? 0);
    return true;
  }
}

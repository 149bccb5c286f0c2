/**
 * Which thread a unit is pinged on: always the same one, which may have a connection to it.
 *
 * A thread costs most when it wakes up for few pings at a time, so the first units all go to the first thread, the next ones to
 * the second, each as many as a thread takes with ease. What is beyond that is dealt evenly to all.
 */

import { MAX_CONNECTIONS } from '../probes/http-probe.ts';
import { PROBE_NUMBERS } from '../units/unit-table.ts';

/** Pings that a thread takes with ease: HTTP on new connections keeps it busy for little more than half of the time. */
const EASY_PINGS_PER_S = 5_000;
const MS_PER_S = 1_000;

export interface ThreadAssignmentOptions {
  readonly threads: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

export class ThreadAssignment {
  readonly #threads: number;
  readonly #easyUnits: number;
  /** So many have a connection each, even when none of them answers. */
  readonly #easyHttpUnits: number;

  constructor({ threads, intervalMs, timeoutMs }: ThreadAssignmentOptions) {
    this.#threads = threads;
    this.#easyUnits = Math.max(1, Math.floor((EASY_PINGS_PER_S * intervalMs) / MS_PER_S));
    const connectedUnits = Math.max(1, Math.floor((MAX_CONNECTIONS * intervalMs) / timeoutMs));
    this.#easyHttpUnits = Math.min(this.#easyUnits, connectedUnits);
  }

  /** `index`: of the unit in the table. `probe`: a number of `PROBE`. */
  threadOf(index: number, probe: number): number {
    const easy = Math.floor(index / (probe === PROBE_NUMBERS.http ? this.#easyHttpUnits : this.#easyUnits));
    return easy < this.#threads ? easy : index % this.#threads;
  }
}

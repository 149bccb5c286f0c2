/**
 * Assigns each unit to the thread that pings it. The assignment is fixed, because a thread keeps connections to its units.
 *
 * Waking a thread for a few pings costs more CPU than the pings. The first units therefore all go to the first thread, the next
 * ones to the second, each thread up to its comfortable load; units beyond that are distributed evenly over all threads
 * (ADR 0017).
 */

import { MAX_CONNECTIONS } from '../probes/http-probe.ts';
import { PROBE_NUMBERS } from '../units/unit-table.ts';

/** The comfortable load of a thread: HTTP pings on new connections then use little more than half of a core. */
const COMFORTABLE_PINGS_PER_S = 5_000;
const MS_PER_S = 1_000;

export interface ThreadAssignmentOptions {
  readonly threads: number;
  readonly intervalMs: number;
  readonly timeoutMs: number;
}

export class ThreadAssignment {
  readonly #threads: number;
  readonly #unitsPerThread: number;
  /** Lower, so that each HTTP unit of a thread has a connection even when none of them answers. */
  readonly #httpUnitsPerThread: number;

  constructor({ threads, intervalMs, timeoutMs }: ThreadAssignmentOptions) {
    this.#threads = threads;
    this.#unitsPerThread = Math.max(1, Math.floor((COMFORTABLE_PINGS_PER_S * intervalMs) / MS_PER_S));
    const connectedUnits = Math.max(1, Math.floor((MAX_CONNECTIONS * intervalMs) / timeoutMs));
    this.#httpUnitsPerThread = Math.min(this.#unitsPerThread, connectedUnits);
  }

  /** The number of the thread of a unit. `index`: of the unit in the table. `probe`: one of `PROBE_NUMBERS`. */
  threadOf(index: number, probe: number): number {
    const unitsPerThread = probe === PROBE_NUMBERS.http ? this.#httpUnitsPerThread : this.#unitsPerThread;
    const thread = Math.floor(index / unitsPerThread);
    return thread < this.#threads ? thread : index % this.#threads;
  }
}

/**
 * Decides which units may have events recorded now. Two kinds of units wait: one that has used up its budget of events, and one whose dead
 * letters are full. Their batches stay in `UNIT_INBOX`, which slows such a unit down, and go back to NATS before any work is done for
 * them, so that they take no place of other units. Nothing is lost.
 */

import { LRUCache } from 'lru-cache';
import type { Source } from '../../../platform/observability/metrics.ts';
import { type BackoffBounds, backoffMs } from '../../../platform/retry/backoff.ts';
import type { UnitBudgets } from '../../../platform/unit-log/unit-budgets.ts';

/**
 * Events of a unit that are recorded without delay after a quiet time: as many as it must be able to keep while it is cut off
 * (clause 12.15 of the unit protocol), so that the return of a unit is not slowed down.
 */
export const EVENT_BURST = 10_000;
/** Pause of a suspended unit, by the number of its suspensions in a row. */
const SUSPENSION: BackoffBounds = { firstMs: 60_000, maxMs: 300_000 };
/** Bytes of the suspensions, enough for some 70,000 units. A forgotten one is suspended again by its next batch. */
const MAX_SUSPENSIONS_BYTES = 16 * 1024 * 1024;
/** An estimate of the bytes of a suspension without the name of its unit. */
const SUSPENSION_BYTES = 200;

interface Suspension {
  readonly count: number;
  readonly untilMs: number;
}

export interface IngestAdmissionOptions {
  /** What units may still have recorded, in events. */
  readonly events: UnitBudgets;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
}

export class IngestAdmission {
  readonly #events: UnitBudgets;
  readonly #monotonic: () => number;
  readonly #suspensions = new LRUCache<string, Suspension>({
    maxSize: MAX_SUSPENSIONS_BYTES,
    sizeCalculation: (_, unit) => SUSPENSION_BYTES + unit.length,
  });
  #delayed = 0;

  constructor({ events, monotonic }: IngestAdmissionOptions) {
    this.#events = events;
    this.#monotonic = monotonic;
  }

  /** Milliseconds until the next batch of a unit may be recorded; 0 when it may be recorded now. */
  waitMs(unit: string): number {
    const suspendedMs = (this.#suspensions.get(unit)?.untilMs ?? 0) - this.#monotonic();
    const waitMs = Math.max(Math.ceil(suspendedMs), this.#events.waitMs(unit));
    if (waitMs <= 0) return 0;
    this.#delayed += 1;
    return waitMs;
  }

  chargeEvents(unit: string, count: number): void {
    this.#events.charge(unit, count);
  }

  /** Lets a unit wait whose events cannot be recorded before an operator acts. */
  suspend(unit: string): void {
    const { count: before, untilMs } = this.#suspensions.get(unit) ?? { count: 0, untilMs: Number.NEGATIVE_INFINITY };
    // Batches of the unit that were being handled meanwhile belong to the same suspension.
    if (untilMs > this.#monotonic()) return;
    const count = before + 1;
    this.#suspensions.set(unit, { count, untilMs: this.#monotonic() + backoffMs(count, SUSPENSION) });
  }

  resume(unit: string): void {
    this.#suspensions.delete(unit);
  }

  metrics(): Source<'ingest_delayed_batches_total' | 'ingest_throttled_units' | 'ingest_suspended_units'> {
    return {
      name: 'ingest',
      families: {
        ingest_delayed_batches_total: {
          type: 'counter',
          help: 'deliveries of batches that went back to the inbox because their unit must wait',
        },
        ingest_throttled_units: { type: 'gauge', help: 'units that have used up their budget of events' },
        ingest_suspended_units: {
          type: 'gauge',
          help: 'units that wait for an operator, because their dead letters are full',
        },
      },
      read: () => ({
        ingest_delayed_batches_total: this.#delayed,
        ingest_throttled_units: this.#events.countWaiting(),
        ingest_suspended_units: this.#suspensions.size,
      }),
    };
  }
}

/**
 * The settlement worker settles units when time alone changes something at them: a hold that ends, a beginning that meets an occupied
 * locker, a no-show. `nextSettlementAtMs` is the only rule about when.
 *
 * There is no stored timer. The workers of this process note when a unit is due after each commit that they handle. The read model
 * `bookings` has the same times for every unit, and the owner of a shard looks there once a second, so that a unit is settled also
 * after a crash of the process that knew it. Settling is idempotent, so two processes may settle one unit.
 */

import { LRUCache } from 'lru-cache';
import { nextSettlementAtMs, settleBookings } from '../../../domain/booking/settlement.ts';
import { lastSequenceOf, type UnitState } from '../../../domain/unit/unit.ts';
import { chunksOf } from '../../../platform/batching/chunks-of.ts';
import { errorMessage } from '../../../platform/observability/error-message.ts';
import type { Log } from '../../../platform/observability/log.ts';
import { type BackoffBounds, backoffMs } from '../../../platform/retry/backoff.ts';
import { poll } from '../../../platform/retry/poll.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';
import type { DueUnit } from '../../../projections/bookings/queries.ts';
import { DueUnits, MAX_KNOWN_UNITS } from './due-units.ts';

/** Length of the shard prefixes by which the processes divide the units that they look for in the read model. */
export const SETTLEMENT_SHARD_LETTERS = 2;
/** Pause between two looks at the units in memory. */
const TICK_MS = 200;
/** From one look at the read model to the next. */
const SWEEP_INTERVAL_MS = 1_000;
const MAX_UNITS_PER_PAGE = 1_000;
/** Units that are settled at the same time. */
const MAX_CONCURRENT_SETTLEMENTS = 32;
/** Units whose state is loaded at the same time to compute when they are due. */
const MAX_CONCURRENT_LOADS = 256;
/** Units whose failures in a row are counted. */
const MAX_FAILING_UNITS = 10_000;
/** Pause before a settlement that failed is repeated. */
const FAILURE_BACKOFF: BackoffBounds = { firstMs: 500, maxMs: 30_000 };

export interface SettlementWorkerOptions {
  readonly decider: UnitDecider;
  /** Reads a page of the units that are due, the longest due first. */
  readonly readDue: (page: {
    readonly nowMs: number;
    readonly after?: DueUnit;
    readonly limit: number;
  }) => Promise<readonly DueUnit[]>;
  /** Whether this process looks for that unit in the read model. */
  readonly owns: (unit: string) => boolean;
  readonly newId: () => string;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

export class SettlementWorker {
  readonly #options: SettlementWorkerOptions;
  readonly #due = new DueUnits();
  /** Units that have changed since the last tick. */
  #changed = new Set<string>();
  readonly #settling = new Map<string, Promise<void>>();
  /** Settlements of a unit that failed in a row. */
  readonly #failures = new LRUCache<string, number>({ max: MAX_FAILING_UNITS });

  constructor(options: SettlementWorkerOptions) {
    this.#options = options;
  }

  /**
   * Notes that a unit has changed, so that `run` computes anew when it is due. Computing reads every reservation of the unit, so it
   * happens once for all changes between two ticks. The read model has the time of a unit that a crash makes this process forget.
   */
  noteChange(unit: string): void {
    if (this.#changed.size < MAX_KNOWN_UNITS) this.#changed.add(unit);
  }

  /** Settles a unit now, and notes when it is due next. @throws as `UnitDecider.decideInChunks` */
  async settle(unit: string): Promise<UnitState> {
    const { decider, newId, clock } = this.#options;
    const meta = { commandId: newId(), actor: 'platform:reactor', source: '/lockfleet/server' };
    const nowMs = clock();
    const { state } = await decider.decideInChunks(unit, 'booking', meta, (present) => settleBookings(present, nowMs));
    this.#due.note(unit, lastSequenceOf(state), nextSettlementAtMs(state, nowMs));
    return state;
  }

  /** Runs until `signal` aborts, then waits for the settlements that still run. */
  async run(): Promise<void> {
    const { signal, sleep, monotonic, log } = this.#options;
    const sweeping = poll(
      {
        name: 'reading which units are due',
        consequence: 'Units that no worker of this process knows are settled when it works again.',
        intervalMs: SWEEP_INTERVAL_MS,
        clock: monotonic,
        signal,
        sleep,
        log,
      },
      () => this.#sweep(),
    );
    let noting: Promise<void> | undefined;
    while (!signal.aborted) {
      noting ??= this.#noteChanges().finally(() => {
        noting = undefined;
      });
      await this.#settleDue();
      await sleep(TICK_MS);
    }
    await Promise.all([sweeping, noting]);
    await Promise.all(this.#settling.values());
  }

  /** Computes when the changed units are due. */
  async #noteChanges(): Promise<void> {
    const changed = [...this.#changed];
    this.#changed = new Set();
    for (const units of chunksOf(changed, MAX_CONCURRENT_LOADS)) {
      await Promise.all(units.map((unit) => this.#noteDueTime(unit)));
    }
  }

  async #noteDueTime(unit: string): Promise<void> {
    const { decider, log } = this.#options;
    try {
      const state = await decider.getState(unit);
      this.#due.note(unit, lastSequenceOf(state), nextSettlementAtMs(state));
    } catch (error) {
      const text = `When unit ${unit} is due could not be computed; the read model has it.`;
      log.debug(text, { unit, error: errorMessage(error) });
    }
  }

  async #settleDue(): Promise<void> {
    const { clock, signal } = this.#options;
    while (!signal.aborted) {
      if (this.#settling.size >= MAX_CONCURRENT_SETTLEMENTS) await Promise.race(this.#settling.values());
      const unit = this.#due.takeDue(clock());
      if (unit === undefined) return;
      this.#start(unit);
    }
  }

  /** Settles the units of this process's shards that are due in the read model, unless more is known of them. */
  async #sweep(): Promise<void> {
    const { readDue, owns, clock, signal } = this.#options;
    const nowMs = clock();
    let after: DueUnit | undefined;
    do {
      const page = await readDue({ nowMs, limit: MAX_UNITS_PER_PAGE, ...(after === undefined ? {} : { after }) });
      for (const { unit, position } of page) {
        if (!owns(unit) || this.#settling.has(unit) || this.#due.isKnownSince(unit, position)) continue;
        if (this.#settling.size >= MAX_CONCURRENT_SETTLEMENTS) await Promise.race(this.#settling.values());
        this.#start(unit);
      }
      after = page.length < MAX_UNITS_PER_PAGE ? undefined : page.at(-1);
    } while (after !== undefined && !signal.aborted);
  }

  #start(unit: string): void {
    if (this.#settling.has(unit)) return;
    const settled = this.#settleLogged(unit).finally(() => this.#settling.delete(unit));
    this.#settling.set(unit, settled);
  }

  async #settleLogged(unit: string): Promise<void> {
    const { clock, log } = this.#options;
    try {
      await this.settle(unit);
      this.#failures.delete(unit);
    } catch (error) {
      const failures = (this.#failures.get(unit) ?? 0) + 1;
      this.#failures.set(unit, failures);
      const text = `Unit ${unit} is due and could not be settled; it is repeated with exponential backoff.`;
      log[failures === 1 ? 'warn' : 'debug'](text, { unit, failures, error: errorMessage(error) });
      this.#due.retry(unit, clock() + backoffMs(failures, FAILURE_BACKOFF));
    }
  }
}

/**
 * The threads that ping. A task is (a part of) a slot; one thread has many slots under way, as each lasts as long as its
 * slowest unit.
 *
 * `atomics: 'disabled'`: with the default, the event loop of an idle thread stands still, and with it every open socket.
 * A thread that dies takes its tasks with it: piscina starts another one, and they are run once more. When a task hangs,
 * all threads are started anew. Tasks have no abort signal: piscina gives an abortable task a thread of its own, and units
 * that do not answer would make the others wait.
 */

import { Piscina } from 'piscina';
import type { Log } from '../platform/log.ts';
import type { SlotResult, SlotTarget, SlotTask } from './tasks.ts';

/** Most units in one task. */
export const MAX_TARGETS_PER_TASK = 500;
/** Tasks that one thread has under way. */
const MAX_TASKS_PER_THREAD = 64;
/** How much longer than the time-out of a ping its task may take before its thread is taken for dead. */
const TASK_GRACE_MS = 3_000;
/** How often a task is run when its thread dies. */
const MAX_TASK_ATTEMPTS = 2;

class HungTaskError extends Error {
  override readonly name = 'HungTaskError';

  constructor() {
    super('the task did not end in time');
  }
}

export interface PingPoolOptions {
  /** The file that a thread runs; it exports `pingSlot`. */
  readonly worker: URL;
  readonly threads: number;
  readonly timeoutMs: number;
  readonly log: Log;
}

export class PingPool {
  readonly #options: PingPoolOptions;
  #piscina: Piscina<SlotTask, SlotResult>;
  /** Threads that are on their way out. */
  readonly #ending = new Set<Promise<void>>();
  #underWay = 0;
  #stopped = false;
  #replaced = 0;

  constructor(options: PingPoolOptions) {
    this.#options = options;
    this.#piscina = this.#start();
  }

  /** How many threads have died and been replaced. */
  get replacedThreads(): number {
    return this.#replaced;
  }

  /** Whether there is no place for another task now. */
  get full(): boolean {
    return this.#underWay >= this.#options.threads * MAX_TASKS_PER_THREAD;
  }

  /**
   * Pings units, `MAX_TARGETS_PER_TASK` at most.
   * @returns what came of it, or `undefined` when the threads could not do it: then nothing is known about the units.
   */
  async ping(targets: readonly SlotTarget[]): Promise<SlotResult | undefined> {
    if (this.full || this.#stopped) return undefined;
    this.#underWay += 1;
    try {
      for (let attempt = 1; attempt <= MAX_TASK_ATTEMPTS && !this.#stopped; attempt += 1) {
        const result = await this.#attempt(targets, attempt);
        if (result !== undefined) return result;
      }
      return undefined;
    } finally {
      this.#underWay -= 1;
    }
  }

  async #attempt(targets: readonly SlotTarget[], attempt: number): Promise<SlotResult | undefined> {
    const { timeoutMs, log } = this.#options;
    const piscina = this.#piscina;
    const hung = Promise.withResolvers<never>();
    const deadline = setTimeout(() => hung.reject(new HungTaskError()), timeoutMs + TASK_GRACE_MS);
    try {
      return await Promise.race([piscina.run({ timeoutMs, targets }), hung.promise]);
    } catch (error) {
      if (this.#stopped) return undefined;
      log.warn('a thread of the pinger did not finish its slot', { attempt, units: targets.length, error });
      // Threads that fail while they start are not replaced by piscina.
      if (error instanceof HungTaskError || piscina.threads.length === 0) this.#startAnew(piscina);
      return undefined;
    } finally {
      clearTimeout(deadline);
    }
  }

  /** Ends the threads; tasks under way give `undefined`. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([this.#piscina.destroy(), ...this.#ending]);
  }

  /** Replaces the threads, unless somebody has done it already. */
  #startAnew(old: Piscina<SlotTask, SlotResult>): void {
    if (old !== this.#piscina) return;
    this.#piscina = this.#start();
    const ending = old.destroy().finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }

  #start(): Piscina<SlotTask, SlotResult> {
    const { worker, threads, log } = this.#options;
    const piscina = new Piscina<SlotTask, SlotResult>({
      filename: worker.href,
      name: 'pingSlot',
      minThreads: threads,
      maxThreads: threads,
      idleTimeout: Number.POSITIVE_INFINITY,
      concurrentTasksPerWorker: MAX_TASKS_PER_THREAD,
      atomics: 'disabled',
      recordTiming: false,
    });
    piscina.on('error', (error) => log.warn('a thread of the pinger failed', { error }));
    piscina.on('workerDestroy', () => {
      if (!this.#stopped) this.#replaced += 1;
    });
    return piscina;
  }
}

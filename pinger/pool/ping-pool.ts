/**
 * The threads that ping. A task is a thread's part of a slot; one thread has many slots under way, as each lasts as long as
 * its slowest unit.
 *
 * A unit always meets the same thread, which may have a connection to it: so each thread is a pool of one. `atomics:
 * 'disabled'`: with the default, the event loop of an idle thread stands still, and with it every open socket. A thread that
 * dies takes its tasks with it: it is replaced, and they are run once more; so is one whose task hangs. Tasks have no abort
 * signal: piscina gives an abortable task a thread of its own, and units that do not answer would make the others wait.
 */

import { Piscina } from 'piscina';
import { FailureLog } from '../../platform/observability/failure-log.ts';
import type { Log } from '../../platform/observability/log.ts';
import { SlotResults } from './slot-results.ts';
import type { SlotTask, ThreadSettings } from './slot-task.ts';

/** Tasks that one thread has under way. */
const MAX_TASKS_PER_THREAD = 128;
/** How much longer than a slot and the time-out of a ping a task may take before its thread is taken for dead. */
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
  /** At most; each is started by its first task. */
  readonly threads: number;
  /** Milliseconds from the beginning of the first slot of a task to its end, at most. */
  readonly taskMs: number;
  readonly settings: ThreadSettings;
  readonly log: Log;
}

export class PingPool {
  readonly #options: PingPoolOptions;
  readonly #threads = new Map<number, PingThread>();
  #stopped = false;

  constructor(options: PingPoolOptions) {
    this.#options = options;
  }

  /** How many threads have been needed so far. */
  get threads(): number {
    return this.#threads.size;
  }

  /** How many threads have died and been replaced. */
  get replacedThreads(): number {
    return [...this.#threads.values()].reduce((sum, { replaced }) => sum + replaced, 0);
  }

  /**
   * Pings units on a thread, by its number.
   * @returns what came of it, or `undefined` when the thread could not do it, or has no place for it: then nothing is known.
   */
  async ping(thread: number, task: SlotTask): Promise<SlotResults | undefined> {
    if (this.#stopped || thread >= this.#options.threads) return undefined;
    const pinging = this.#threads.get(thread) ?? new PingThread(this.#options);
    this.#threads.set(thread, pinging);
    return await pinging.ping(task);
  }

  /** Ends the threads; tasks under way give `undefined`. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#threads.values()].map((thread) => thread.stop()));
  }
}

class PingThread {
  readonly #options: PingPoolOptions;
  readonly #outage: FailureLog;
  #piscina: Piscina<SlotTask, ArrayBuffer>;
  /** Threads that are on their way out. */
  readonly #ending = new Set<Promise<void>>();
  #underWay = 0;
  #stopped = false;
  replaced = 0;

  constructor(options: PingPoolOptions) {
    this.#options = options;
    this.#outage = new FailureLog('pinging on a thread', options.log);
    this.#piscina = this.#start();
  }

  async ping(task: SlotTask): Promise<SlotResults | undefined> {
    if (this.#underWay >= MAX_TASKS_PER_THREAD) return undefined;
    this.#underWay += 1;
    try {
      for (let attempt = 1; attempt <= MAX_TASK_ATTEMPTS && !this.#stopped; attempt += 1) {
        const results = await this.#attempt(task);
        if (results !== undefined) return results;
      }
      return undefined;
    } finally {
      this.#underWay -= 1;
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([this.#piscina.destroy(), ...this.#ending]);
  }

  async #attempt(task: SlotTask): Promise<SlotResults | undefined> {
    const piscina = this.#piscina;
    const hung = Promise.withResolvers<never>();
    const deadline = setTimeout(() => hung.reject(new HungTaskError()), this.#options.taskMs + TASK_GRACE_MS);
    try {
      const buffer = await Promise.race([piscina.run(task), hung.promise]);
      this.#outage.recordSuccess();
      return new SlotResults(buffer);
    } catch (error) {
      if (this.#stopped) return undefined;
      this.#outage.recordFailure(error);
      // A thread that fails while it starts is not replaced by piscina.
      if (error instanceof HungTaskError || piscina.threads.length === 0) this.#startAnew(piscina);
      return undefined;
    } finally {
      clearTimeout(deadline);
    }
  }

  /** Replaces the thread, unless another task has done it already. */
  #startAnew(old: Piscina<SlotTask, ArrayBuffer>): void {
    if (old !== this.#piscina) return;
    this.#piscina = this.#start();
    const ending = old.destroy().finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }

  #start(): Piscina<SlotTask, ArrayBuffer> {
    const { worker, settings, log } = this.#options;
    const piscina = new Piscina<SlotTask, ArrayBuffer>({
      filename: worker.href,
      name: 'pingSlot',
      minThreads: 1,
      maxThreads: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      concurrentTasksPerWorker: MAX_TASKS_PER_THREAD,
      atomics: 'disabled',
      recordTiming: false,
      workerData: settings,
    });
    piscina.on('error', (error) => log.warn('a thread of the pinger failed', { error }));
    piscina.on('workerDestroy', () => {
      if (!this.#stopped) this.replaced += 1;
    });
    return piscina;
  }
}

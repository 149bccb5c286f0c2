/**
 * The pool of threads that ping. A task is one thread's part of a slot. A thread runs many tasks at a time, because each task lasts
 * as long as its slowest unit.
 *
 * A unit is always pinged by one thread, which may keep a connection to it; the pool therefore holds one piscina pool of one thread
 * for each thread. Three settings of piscina matter:
 *
 * - `atomics: 'disabled'`: by default an idle thread blocks its event loop, and with it every open socket.
 * - No abort signals: piscina gives an abortable task a whole thread, and unresponsive units would delay all others.
 * - `concurrentTasksPerWorker` lets one thread run many tasks. The pool discards further tasks instead of queueing them: a ping
 *   that leaves late measures nothing.
 *
 * A thread that exits, or whose task hangs, is replaced, and its tasks run once more on the new thread.
 */

import { Piscina } from 'piscina';
import { FailureLog } from '../../platform/observability/failure-log.ts';
import type { Log } from '../../platform/observability/log.ts';
import { TaskSet } from '../runtime/task-set.ts';
import { SlotResults } from './slot-results.ts';
import type { SlotTask, ThreadSettings } from './slot-task.ts';

/** Most tasks of one thread at a time; further tasks are discarded. */
const MAX_TASKS_PER_THREAD = 128;
/** A task hangs when it exceeds `taskMs` by this much. */
const TASK_GRACE_MS = 3_000;
/** Most runs of one task: it runs a second time when the first run fails. */
const MAX_TASK_ATTEMPTS = 2;

class HungTaskError extends Error {
  override readonly name = 'HungTaskError';

  constructor(afterMs: number) {
    super(`a slot did not end within ${afterMs} ms`);
  }
}

export interface PingPoolOptions {
  /** The file that a thread runs; it exports `pingSlot`. */
  readonly worker: URL;
  /** Most threads; each starts with its first task. */
  readonly threads: number;
  /** The longest regular duration of a task, in milliseconds. */
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

  /** How many threads have started. */
  get startedThreads(): number {
    return this.#threads.size;
  }

  /** How many threads have died or hung and been replaced. */
  get replacedThreads(): number {
    return [...this.#threads.values()].reduce((sum, { replaced }) => sum + replaced, 0);
  }

  /**
   * Runs a task on the thread with this number. Never rejects.
   * @returns the results, or `undefined` when the thread failed or has no capacity: then nothing is known about the units
   */
  async ping(thread: number, task: SlotTask): Promise<SlotResults | undefined> {
    if (this.#stopped || thread >= this.#options.threads) return undefined;
    const pingThread = this.#threads.get(thread) ?? new PingThread(this.#options);
    this.#threads.set(thread, pingThread);
    return await pingThread.ping(task);
  }

  /** Ends all threads. Tasks that are running resolve to `undefined`. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#threads.values()].map((thread) => thread.stop()));
  }
}

/** One thread and its replacements. */
class PingThread {
  readonly #options: PingPoolOptions;
  readonly #failures: FailureLog;
  #piscina: Piscina<SlotTask, ArrayBuffer>;
  /** Replaced threads that are shutting down. */
  readonly #shutdowns = new TaskSet();
  #runningTasks = 0;
  #stopped = false;
  replaced = 0;

  constructor(options: PingPoolOptions) {
    this.#options = options;
    this.#failures = new FailureLog({
      operation: 'pinging on a thread',
      consequence:
        'The slot runs once more, on a new thread when the old one died or hung. No unit is judged by a slot that fails twice.',
      log: options.log,
    });
    this.#piscina = this.#start();
  }

  async ping(task: SlotTask): Promise<SlotResults | undefined> {
    if (this.#runningTasks >= MAX_TASKS_PER_THREAD) return undefined;
    this.#runningTasks += 1;
    try {
      for (let attempt = 1; attempt <= MAX_TASK_ATTEMPTS && !this.#stopped; attempt += 1) {
        const results = await this.#attempt(task);
        if (results !== undefined) return results;
      }
      return undefined;
    } finally {
      this.#runningTasks -= 1;
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([this.#piscina.destroy(), this.#shutdowns.settled()]);
  }

  async #attempt(task: SlotTask): Promise<SlotResults | undefined> {
    const piscina = this.#piscina;
    const hung = Promise.withResolvers<never>();
    const deadlineMs = this.#options.taskMs + TASK_GRACE_MS;
    const deadline = setTimeout(() => hung.reject(new HungTaskError(deadlineMs)), deadlineMs);
    try {
      const buffer = await Promise.race([piscina.run(task), hung.promise]);
      this.#failures.recordSuccess();
      return new SlotResults(buffer);
    } catch (error) {
      if (this.#stopped) return undefined;
      this.#failures.recordFailure(error);
      // Piscina does not replace a thread that fails while it starts.
      if (error instanceof HungTaskError || piscina.threads.length === 0) this.#replace(piscina);
      return undefined;
    } finally {
      clearTimeout(deadline);
    }
  }

  /** Replaces the thread, unless another task of it already has. */
  #replace(failed: Piscina<SlotTask, ArrayBuffer>): void {
    if (failed !== this.#piscina) return;
    this.#piscina = this.#start();
    this.#shutdowns.add(failed.destroy());
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
    piscina.on('error', (error) =>
      log.warn('A ping thread failed outside of a task. Piscina replaces the thread if it died.', { error }),
    );
    piscina.on('workerDestroy', () => {
      if (!this.#stopped) this.replaced += 1;
    });
    return piscina;
  }
}

/** One reader of the store, and the runs that it feeds. It is stopped and made anew when runs or lanes change. */

import type { EventStore } from '../../platform/event-store/store.ts';
import { isRetryable, type RetryPolicy, retryWithBackoff } from '../../platform/retry/retry-policy.ts';
import { MessageQueue } from './consume/message-queue.ts';
import { monitorStoreEnd, readIntoQueues, requirePositionInStore } from './consume/store-reader.ts';
import type { Filler } from './fill/batch-filler.ts';
import { sleepUnless } from './sleep.ts';

export interface ReaderGroupOptions extends Pick<RetryPolicy, 'signal' | 'log'> {
  readonly store: EventStore;
  /** Made when the group begins, with the signal that ends it. */
  readonly createFillers: (retryPolicy: RetryPolicy) => readonly Filler[];
  /** Works beside them, until the signal. */
  readonly backgroundTask?: (fillers: readonly Filler[], retryPolicy: RetryPolicy) => Promise<void>;
}

export class ReaderGroup {
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;
  #fillers: readonly Filler[] = [];
  #hasEnded = false;
  #failure: unknown;

  constructor(options: ReaderGroupOptions) {
    this.#ended = this.#run(options).then(
      () => undefined,
      (error: unknown) => {
        // What passes by itself is only thrown where it was stopped in the middle of trying again.
        if (!isRetryable(error)) this.#failure = error;
      },
    );
    void this.#ended.then(() => {
      this.#hasEnded = true;
    });
  }

  /** Those that know where their lanes are. */
  get fillers(): readonly Filler[] {
    return this.#fillers;
  }

  /** Whether it has ended, by itself or because it was told to. @throws what ended it */
  get hasEnded(): boolean {
    if (this.#failure !== undefined) throw this.#failure;
    return this.#hasEnded;
  }

  /** Ends it, and waits for the transactions that are under way. What it failed with, `hasEnded` throws. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  async #run(options: ReaderGroupOptions): Promise<void> {
    const { store, log } = options;
    const signal = AbortSignal.any([options.signal, this.#stop.signal]);
    const retryPolicy: RetryPolicy = { signal, log, sleep: (ms) => sleepUnless(signal, ms) };
    const fillers: Filler[] = [];
    for (const filler of options.createFillers(retryPolicy)) {
      if (await retryWithBackoff('reading checkpoints', retryPolicy, () => filler.reload())) fillers.push(filler);
    }
    if (fillers.length === 0) return;
    for (const filler of fillers)
      await retryWithBackoff('reading the event store', retryPolicy, () =>
        requirePositionInStore(store, filler.highestPosition),
      );
    this.#fillers = fillers;
    for (const { run, lowestPosition: appliedTo } of fillers)
      log.info('filling a projection', { projection: run.projection, schema: run.schema, from: appliedTo });
    const fed = fillers.map((filler) => ({ filler, intake: new MessageQueue(filler.lowestPosition) }));
    const intakes = fed.map(({ intake }) => intake);
    const tasks = [
      readIntoQueues(intakes, store, retryPolicy),
      monitorStoreEnd(intakes, store, retryPolicy),
      ...fed.map(({ filler, intake }) => filler.fillFrom(intake)),
      ...(options.backgroundTask === undefined ? [] : [options.backgroundTask(fillers, retryPolicy)]),
    ];
    // The first that ends stops the others; all have ended before this does.
    const guarded = tasks.map((task) => task.finally(() => this.#stop.abort()));
    await Promise.allSettled(guarded);
    await Promise.all(guarded);
  }
}

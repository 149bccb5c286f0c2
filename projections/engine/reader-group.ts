import type { EventStore } from '../../platform/event-store/store.ts';
import { isRetryable, type RetryPolicy, retryWithBackoff } from '../../platform/retry/retry-policy.ts';
import { abortableSleep } from './abortable-sleep.ts';
import { MessageQueue } from './consume/message-queue.ts';
import { monitorStoreEnd, readIntoQueues, requirePositionInStore } from './consume/store-reader.ts';
import type { Filler } from './fill/filler.ts';

export interface ReaderGroupOptions extends Pick<RetryPolicy, 'signal' | 'log'> {
  readonly store: EventStore;
  /** Creates the fillers when the group starts. The signal of the policy aborts when the group stops. */
  readonly createFillers: (retryPolicy: RetryPolicy) => readonly Filler[];
  /** Runs beside the fillers until the signal of the policy aborts. */
  readonly backgroundTask?: (fillers: readonly Filler[], retryPolicy: RetryPolicy) => Promise<void>;
}

/** One reader of the store and the fillers that it feeds. A group never changes: the engine stops it and starts another one. */
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
        // A retryable error arrives here only when the group was stopped between two attempts.
        if (!isRetryable(error)) this.#failure = error;
      },
    );
    void this.#ended.then(() => {
      this.#hasEnded = true;
    });
  }

  /** The fillers that have read their checkpoints. */
  get fillers(): readonly Filler[] {
    return this.#fillers;
  }

  /** Whether the group has ended, by itself or by `stop`. @throws the terminal error that ended it */
  get hasEnded(): boolean {
    if (this.#failure !== undefined) throw this.#failure;
    return this.#hasEnded;
  }

  /** Stops the group and waits for its running transactions. It does not throw: `hasEnded` throws what ended the group. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  async #run(options: ReaderGroupOptions): Promise<void> {
    const { store, log } = options;
    const signal = AbortSignal.any([options.signal, this.#stop.signal]);
    const retryPolicy: RetryPolicy = { signal, log, sleep: (ms) => abortableSleep(signal, ms) };
    const fillers: Filler[] = [];
    for (const filler of options.createFillers(retryPolicy)) {
      if (await retryWithBackoff('reading checkpoints', retryPolicy, () => filler.reload())) fillers.push(filler);
    }
    if (fillers.length === 0) return;
    for (const filler of fillers)
      await retryWithBackoff('reading the end of the event store', retryPolicy, () =>
        requirePositionInStore(store, filler.highestPosition),
      );
    this.#fillers = fillers;
    for (const { run, lowestPosition } of fillers)
      log.info('filling a read model', { projection: run.projection, schema: run.schema, from: lowestPosition });
    const fed = fillers.map((filler) => ({ filler, queue: new MessageQueue(filler.lowestPosition) }));
    const queues = fed.map(({ queue }) => queue);
    const tasks = [
      readIntoQueues(queues, store, retryPolicy),
      monitorStoreEnd(queues, store, retryPolicy),
      ...fed.map(({ filler, queue }) => filler.fillFrom(queue)),
      ...(options.backgroundTask === undefined ? [] : [options.backgroundTask(fillers, retryPolicy)]),
    ];
    // The first task that ends stops the others; the group ends when all have ended.
    const guarded = tasks.map((task) => task.finally(() => this.#stop.abort()));
    await Promise.allSettled(guarded);
    await Promise.all(guarded);
  }
}

/** One reader of the store, and the runs that it feeds. It is stopped and made anew when runs or lanes change. */

import type { EventStore } from '../../platform/event-store/store.ts';
import { isRetryable, type RetryPolicy, retryWithBackoff } from '../../platform/retry/retry-policy.ts';
import { Intake } from './intake.ts';
import { readInto, requireInStore, watchEnd } from './reader.ts';
import type { Filler } from './runner.ts';
import { sleepUnless } from './sleep.ts';

export interface GroupOptions extends Pick<RetryPolicy, 'signal' | 'log'> {
  readonly store: EventStore;
  /** Made when the group begins, with the signal that ends it. */
  readonly fillers: (patience: RetryPolicy) => readonly Filler[];
  /** Works beside them, until the signal. */
  readonly beside?: (fillers: readonly Filler[], patience: RetryPolicy) => Promise<void>;
}

export class Group {
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;
  #fillers: readonly Filler[] = [];
  #hasEnded = false;
  #failure: unknown;

  constructor(options: GroupOptions) {
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

  async #run(options: GroupOptions): Promise<void> {
    const { store, log } = options;
    const signal = AbortSignal.any([options.signal, this.#stop.signal]);
    const patience: RetryPolicy = { signal, log, sleep: (ms) => sleepUnless(signal, ms) };
    const fillers: Filler[] = [];
    for (const filler of options.fillers(patience)) {
      if (await retryWithBackoff('reading checkpoints', patience, () => filler.reload())) fillers.push(filler);
    }
    if (fillers.length === 0) return;
    for (const filler of fillers)
      await retryWithBackoff('reading the event store', patience, () => requireInStore(store, filler.reachedTo));
    this.#fillers = fillers;
    for (const { run, appliedTo } of fillers)
      log.info('filling a projection', { projection: run.projection, schema: run.schema, from: appliedTo });
    const fed = fillers.map((filler) => ({ filler, intake: new Intake(filler.appliedTo) }));
    const intakes = fed.map(({ intake }) => intake);
    const tasks = [
      readInto(intakes, store, patience),
      watchEnd(intakes, store, patience),
      ...fed.map(({ filler, intake }) => filler.fillFrom(intake)),
      ...(options.beside === undefined ? [] : [options.beside(fillers, patience)]),
    ];
    // The first that ends stops the others; all have ended before this does.
    const guarded = tasks.map((task) => task.finally(() => this.#stop.abort()));
    await Promise.allSettled(guarded);
    await Promise.all(guarded);
  }
}

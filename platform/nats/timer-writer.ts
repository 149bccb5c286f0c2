/** Write-behind for timers: each write costs an fsync, so timers that arrive within `GATHER_MS` are written in one atomic batch. */

import type { Nats } from './connection.ts';
import { setTimers, type Timer } from './timers.ts';

/** How long a timer waits for others before it is written; far shorter than any hold. */
const GATHER_MS = 200;
const MAX_GATHERED_TIMERS = 500;

export class TimerWriter {
  readonly #nats: Nats;
  readonly #newId: () => string;
  readonly #sleep: (ms: number) => Promise<void>;
  #waiting: Timer[] = [];
  #written: Promise<void> | undefined;
  #full = Promise.withResolvers<void>();

  constructor(nats: Nats, newId: () => string, sleep: (ms: number) => Promise<void>) {
    this.#nats = nats;
    this.#newId = newId;
    this.#sleep = sleep;
  }

  /** Resolves when the timer is stored durably. The concurrency limits of its callers bound how many timers wait. */
  set(timer: Timer): Promise<void> {
    this.#waiting.push(timer);
    this.#written ??= this.#write();
    const written = this.#written;
    if (this.#waiting.length >= MAX_GATHERED_TIMERS) this.#full.resolve();
    return written;
  }

  async #write(): Promise<void> {
    await Promise.race([this.#sleep(GATHER_MS), this.#full.promise]);
    this.#full = Promise.withResolvers();
    const timers = this.#waiting;
    this.#waiting = [];
    this.#written = undefined;
    await setTimers(this.#nats, timers, this.#newId);
  }
}

/** A group of timers that end together: after `stop` no callback of the group runs. */

import type { Clock } from './clock.ts';

export class Timers {
  readonly #clock: Clock;
  readonly #pending = new Set<{ readonly cancel: () => void; readonly onStop: () => void }>();
  #isStopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  /** Runs a callback once after a delay. The function that it returns cancels the timer. */
  after(delayMs: number, run: () => void): () => void {
    return this.#schedule(delayMs, run, () => undefined);
  }

  /** Resolves after a delay, or at once when the group is stopped: the caller checks `isStopped` after every pause. */
  pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isStopped || delayMs <= 0) resolve();
      else this.#schedule(delayMs, resolve, resolve);
    });
  }

  stop(): void {
    this.#isStopped = true;
    for (const { cancel, onStop } of [...this.#pending]) {
      cancel();
      onStop();
    }
    this.#pending.clear();
  }

  #schedule(delayMs: number, run: () => void, onStop: () => void): () => void {
    if (this.#isStopped) return () => undefined;
    const cancel = this.#clock.after(delayMs, () => {
      this.#pending.delete(entry);
      run();
    });
    const entry = { cancel, onStop };
    this.#pending.add(entry);
    return () => {
      cancel();
      this.#pending.delete(entry);
    };
  }
}

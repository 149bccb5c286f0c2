/**
 * Acknowledges messages of a work queue in the order of the stream, whichever consumer brought them.
 *
 * A message that is deleted while it is the first of the stream costs nothing; each one that is deleted out of order costs a
 * record of its own and, with `sync_interval: always`, a sync. Consumers handle acknowledgements side by side, so the order
 * holds only if few are on the way at once: measured, a stream that is written to and emptied at the same time is then two to
 * three times as fast. Two processes with different consumers disturb one another's order; that costs syncs, nothing else.
 */

import type { JsMsg } from 'nats';
import type { Nats } from './connection.ts';

/** How long acknowledgements gather before they are put in order. */
const GATHER_MS = 20;
/** Acknowledgements on the way at once: enough to hide the way, few enough to keep their order. */
const MAX_ON_THE_WAY = 16;
/** Beyond so many, order is given up: those that come are acknowledged at once. */
const MAX_WAITING = 20_000;
const ACK_TIMEOUT_MS = 4_000;
const ACK = '+ACK';

/** What is kept of a message: not its payload, of which there may be megabytes. */
interface Acknowledgement {
  readonly sequence: number;
  readonly subject: string;
}

export class OrderedAcks {
  readonly #nats: Nats;
  readonly #sleep: (ms: number) => Promise<void>;
  #waiting: Acknowledgement[] = [];
  #running: Promise<void> | undefined;

  constructor(nats: Nats, sleep: (ms: number) => Promise<void>) {
    this.#nats = nats;
    this.#sleep = sleep;
  }

  add(message: JsMsg): void {
    if (this.#waiting.length >= MAX_WAITING) {
      message.ack();
      return;
    }
    // The package's type does not tell of the subject, which every message of a consumer has.
    const { reply: subject } = message as JsMsg & { readonly reply: string };
    this.#waiting.push({ sequence: message.seq, subject });
    this.#running ??= this.#run();
  }

  /** Resolves when all that were added are acknowledged, as far as NATS can be reached. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      await this.#sleep(GATHER_MS);
      const gathered = this.#waiting.sort((a, b) => a.sequence - b.sequence);
      this.#waiting = [];
      const next = gathered.values();
      await Promise.all(Array.from({ length: MAX_ON_THE_WAY }, () => this.#acknowledge(next)));
    }
    this.#running = undefined;
  }

  async #acknowledge(acknowledgements: IterableIterator<Acknowledgement>): Promise<void> {
    for (const { subject } of acknowledgements) {
      try {
        await this.#nats.request(subject, ACK, { timeoutMs: ACK_TIMEOUT_MS });
      } catch {
        // NATS is away or slow: what it has not heard comes again, and is recognised.
        return;
      }
    }
  }
}

import type { StoredMessage } from '../../../platform/event-store/store.ts';

/** Bounds of one queue. The reader waits while any queue that it feeds has reached a bound. */
const MAX_QUEUED_MESSAGES = 10_000;
/** Bytes as stored; a parsed message takes about five times as much memory. */
const MAX_QUEUED_BYTES = 8 * 1024 * 1024;

/** Messages that the reader has delivered to one filler, in the order of the store, and that the filler has not applied yet. */
export class MessageQueue {
  readonly #messages: StoredMessage[] = [];
  #bytes = 0;
  #readTo: number;
  #isClosed = false;
  #changed = Promise.withResolvers<void>();
  #hasSpace = Promise.withResolvers<void>();

  /** `after`: the filler has applied everything up to this sequence. */
  constructor(after: number) {
    this.#readTo = after;
  }

  /** The reader has delivered every commit of the store up to this sequence. */
  get readTo(): number {
    return this.#readTo;
  }

  get messages(): readonly StoredMessage[] {
    return this.#messages;
  }

  get isFull(): boolean {
    return this.#messages.length >= MAX_QUEUED_MESSAGES || this.#bytes >= MAX_QUEUED_BYTES;
  }

  /** Appends the next message. A message that was delivered before is ignored. */
  enqueue(message: StoredMessage): void {
    if (this.#isClosed || message.sequence <= this.#readTo) return;
    this.#readTo = message.sequence;
    this.#messages.push(message);
    this.#bytes += message.bytes;
    this.notify();
  }

  /** Advances `readTo` over a message that is no commit and that no filler applies. */
  skipTo(sequence: number): void {
    if (sequence <= this.#readTo) return;
    this.#readTo = sequence;
    this.notify();
  }

  /** Removes the oldest messages once they are applied. */
  removeFirst(count: number): void {
    for (const { bytes } of this.#messages.splice(0, count)) this.#bytes -= bytes;
    if (this.isFull) return;
    this.#hasSpace.resolve();
    this.#hasSpace = Promise.withResolvers();
  }

  /** The filler has stopped: the queue drops its messages and further ones, so that it never makes the reader wait. */
  close(): void {
    this.#isClosed = true;
    this.removeFirst(this.#messages.length);
  }

  /** Resolves every `waitForChange`. */
  notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Resolves when a message arrives, `readTo` advances, or `timeoutMs` have passed. @default no timeout */
  async waitForChange(timeoutMs?: number): Promise<void> {
    const { promise } = this.#changed;
    if (timeoutMs === undefined) return promise;
    const timer = setTimeout(() => this.notify(), timeoutMs);
    await promise;
    clearTimeout(timer);
  }

  /** Resolves when the queue is below its bounds, or when the signal aborts. */
  async waitForSpace(signal: AbortSignal): Promise<void> {
    if (!this.isFull || signal.aborted) return;
    const { promise, resolve } = this.#hasSpace;
    const stop = () => resolve();
    signal.addEventListener('abort', stop, { once: true });
    await promise;
    signal.removeEventListener('abort', stop);
  }
}

import type { StoredMessage } from '../../../platform/event-store/store.ts';

/** Messages, and their bytes, that wait for one projection; when one intake is full, the reader waits. */
const MAX_INTAKE_MESSAGES = 10_000;
/** Parsed, they take some five times as much memory. */
const MAX_INTAKE_BYTES = 8 * 1024 * 1024;

/** What the reader has brought and a projection has not applied yet. Messages come in the order of the store. */
export class MessageQueue {
  readonly #messages: StoredMessage[] = [];
  #bytes = 0;
  /** Everything up to here was brought, or was no commit. */
  #seenTo: number;
  #isClosed = false;
  #changed = Promise.withResolvers<void>();
  #emptied = Promise.withResolvers<void>();

  constructor(after: number) {
    this.#seenTo = after;
  }

  get readTo(): number {
    return this.#seenTo;
  }

  get messages(): readonly StoredMessage[] {
    return this.#messages;
  }

  get isFull(): boolean {
    return this.#messages.length >= MAX_INTAKE_MESSAGES || this.#bytes >= MAX_INTAKE_BYTES;
  }

  /** Takes the next message; one that was brought before is ignored. */
  enqueue(message: StoredMessage): void {
    if (this.#isClosed || message.sequence <= this.#seenTo) return;
    this.#seenTo = message.sequence;
    this.#messages.push(message);
    this.#bytes += message.bytes;
    this.notify();
  }

  /** Takes note that the store has nothing to apply up to a sequence. */
  skipTo(sequence: number): void {
    if (sequence <= this.#seenTo) return;
    this.#seenTo = sequence;
    this.notify();
  }

  /** Forgets the first messages: they are applied. */
  removeFirst(count: number): void {
    for (const { bytes } of this.#messages.splice(0, count)) this.#bytes -= bytes;
    if (this.isFull) return;
    this.#emptied.resolve();
    this.#emptied = Promise.withResolvers();
  }

  /** Nobody takes anything from here any more: it holds up no reader. */
  close(): void {
    this.#isClosed = true;
    this.removeFirst(this.#messages.length);
  }

  /** Ends all waiting. */
  notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** Waits until something comes, or until `timeoutMs` have passed. */
  async waitForChange(timeoutMs?: number): Promise<void> {
    const { promise } = this.#changed;
    if (timeoutMs === undefined) return promise;
    const timer = setTimeout(() => this.notify(), timeoutMs);
    await promise;
    clearTimeout(timer);
  }

  /** Waits until the intake is no longer full. */
  async waitForSpace(signal: AbortSignal): Promise<void> {
    if (!this.isFull || signal.aborted) return;
    const { promise, resolve } = this.#emptied;
    const stop = () => resolve();
    signal.addEventListener('abort', stop, { once: true });
    await promise;
    signal.removeEventListener('abort', stop);
  }
}

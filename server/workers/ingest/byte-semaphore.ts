/**
 * Lets batches in one by one, each in a turn of the event loop of its own, and only so many bytes of them at once. A batch
 * takes a fraction of a millisecond, and ten times its size in memory while it is under way; many arrive together. Whoever
 * else shares the process gets a turn between two of them.
 */
export class ByteSemaphore {
  readonly #maxBytes: number;
  readonly #waiting: { readonly bytes: number; readonly enter: () => void }[] = [];
  #bytes = 0;
  #coming = false;

  /** `maxBytes`: of the batches under way, except that one is always let in. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Runs when it is this batch's turn, in the order of the calls. */
  async run<T>(bytes: number, run: () => Promise<T>): Promise<T> {
    await new Promise<void>((enter) => {
      this.#waiting.push({ bytes, enter });
      this.#call();
    });
    try {
      return await run();
    } finally {
      this.#bytes -= bytes;
      this.#call();
    }
  }

  #call(): void {
    if (this.#coming) return;
    const [first] = this.#waiting;
    if (first === undefined || (this.#bytes > 0 && this.#bytes + first.bytes > this.#maxBytes)) return;
    this.#coming = true;
    setImmediate(() => {
      this.#coming = false;
      this.#waiting.shift();
      this.#bytes += first.bytes;
      first.enter();
      this.#call();
    });
  }
}

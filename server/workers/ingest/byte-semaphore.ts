/**
 * Limits how many bytes of batches ingest processes concurrently, because a batch takes ten times its size in memory. Each batch
 * starts in its own turn of the event loop, so that other work of the process runs between two batches that arrive together.
 */
export class ByteSemaphore {
  readonly #maxBytes: number;
  readonly #waiting: { readonly bytes: number; readonly start: () => void }[] = [];
  #bytes = 0;
  #isStartScheduled = false;

  /** `maxBytes` bounds the total size of the running batches. A larger batch runs alone. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Calls `run` once `bytes` more fit, in the order of the calls, and holds the bytes until its promise settles. */
  async run<T>(bytes: number, run: () => Promise<T>): Promise<T> {
    await new Promise<void>((start) => {
      this.#waiting.push({ bytes, start });
      this.#scheduleStart();
    });
    try {
      return await run();
    } finally {
      this.#bytes -= bytes;
      this.#scheduleStart();
    }
  }

  #scheduleStart(): void {
    if (this.#isStartScheduled) return;
    const [first] = this.#waiting;
    if (first === undefined || (this.#bytes > 0 && this.#bytes + first.bytes > this.#maxBytes)) return;
    this.#isStartScheduled = true;
    setImmediate(() => {
      this.#isStartScheduled = false;
      this.#waiting.shift();
      this.#bytes += first.bytes;
      first.start();
      this.#scheduleStart();
    });
  }
}

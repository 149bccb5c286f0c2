/** Runs tasks of one key one after another, in the order of the calls, and tasks of different keys at the same time. */

interface Queue {
  tail: Promise<unknown>;
  /** The running task and those that wait. */
  length: number;
}

/** Too many tasks wait for one key. Retryable when some of them have ended. */
export class QueueFullError extends Error {
  override readonly name = 'QueueFullError';
}

export class KeyedQueue {
  readonly #maxTasksPerKey: number;
  readonly #queues = new Map<string, Queue>();

  /** `maxTasksPerKey` counts the running task and those that wait. */
  constructor(maxTasksPerKey: number) {
    this.#maxTasksPerKey = maxTasksPerKey;
  }

  /** Keys with tasks. A queue without tasks is forgotten. */
  get keys(): number {
    return this.#queues.size;
  }

  /**
   * Runs `task` when all earlier tasks of its key have ended, also those that failed.
   * @throws QueueFullError when `maxTasksPerKey` tasks have not ended; otherwise what `task` throws
   */
  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const queue = this.#queues.get(key) ?? { tail: Promise.resolve(), length: 0 };
    if (queue.length >= this.#maxTasksPerKey) {
      throw new QueueFullError(`${this.#maxTasksPerKey} tasks of ${key} have not ended`);
    }
    this.#queues.set(key, queue);
    queue.length += 1;
    const result = queue.tail.then(task);
    queue.tail = result.catch(() => undefined);
    try {
      return await result;
    } finally {
      queue.length -= 1;
      if (queue.length === 0) this.#queues.delete(key);
    }
  }
}

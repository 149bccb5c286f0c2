/** Promises that are in flight, so that a part can bound them and `stop` can wait for them. */
export class TaskSet {
  readonly #tasks = new Set<Promise<unknown>>();

  /** How many tasks are in flight. */
  get size(): number {
    return this.#tasks.size;
  }

  /** Keeps `task` until it settles. A rejected task must be handled by the caller. */
  add(task: Promise<unknown>): void {
    const kept = task.finally(() => this.#tasks.delete(kept));
    this.#tasks.add(kept);
  }

  /** Waits for all tasks that are in flight now. @throws what the first rejected task throws */
  async settled(): Promise<void> {
    await Promise.all(this.#tasks);
  }
}

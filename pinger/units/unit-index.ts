/**
 * Assigns each unit of this process an index. Everything that the pinger knows about a unit is in typed-array columns at its index:
 * with one object for each of several hundred thousand units, the heap would grow by a hundred megabytes and each garbage
 * collection by a second.
 *
 * A freed index is reused only when no task is in flight that may still refer to the removed unit.
 */

/** Most units that proved themselves before the target list contained them; proofs of further ones are ignored. */
const MAX_UNLISTED_UNITS = 1_000;

export class UnitIndex {
  /** Most units. */
  readonly capacity: number;
  readonly #indexes = new Map<string, number>();
  readonly #names: (string | undefined)[] = [];
  readonly #unlisted = new Set<string>();
  readonly #free: number[] = [];
  /** Freed indexes that a task in flight may refer to, with the newest task at that time. */
  readonly #quarantined: { readonly index: number; readonly newestTask: number }[] = [];
  readonly #tasks = new Set<number>();
  #newestTask = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  indexOf(name: string): number | undefined {
    return this.#indexes.get(name);
  }

  /** The unit at an index; `undefined` when it was removed. */
  nameOf(index: number): string | undefined {
    return this.#names[index];
  }

  /** Adds a unit of the target list. @returns its index, new or known; `undefined` when all indexes are taken */
  add(name: string): number | undefined {
    this.#unlisted.delete(name);
    return this.#indexes.get(name) ?? this.#assign(name);
  }

  /**
   * Adds a unit that the target list does not contain yet.
   * @returns its index, new or known; `undefined` when there are `MAX_UNLISTED_UNITS` of them, or all indexes are taken
   */
  addUnlisted(name: string): number | undefined {
    const known = this.#indexes.get(name);
    if (known !== undefined || this.#unlisted.size >= MAX_UNLISTED_UNITS) return known;
    const index = this.#assign(name);
    if (index !== undefined) this.#unlisted.add(name);
    return index;
  }

  remove(name: string): void {
    const index = this.#indexes.get(name);
    if (index === undefined) return;
    this.#unlisted.delete(name);
    this.#indexes.delete(name);
    this.#names[index] = undefined;
    this.#quarantined.push({ index, newestTask: this.#newestTask });
  }

  /** Registers a task that refers to units by their indexes, until `endTask`. @returns its number */
  beginTask(): number {
    this.#newestTask += 1;
    this.#tasks.add(this.#newestTask);
    return this.#newestTask;
  }

  endTask(task: number): void {
    this.#tasks.delete(task);
  }

  #assign(name: string): number | undefined {
    const index = this.#takeFreeIndex();
    if (index === undefined) return undefined;
    this.#indexes.set(name, index);
    this.#names[index] = name;
    return index;
  }

  #takeFreeIndex(): number | undefined {
    const [oldestTask = this.#newestTask + 1] = this.#tasks;
    while ((this.#quarantined[0]?.newestTask ?? Number.POSITIVE_INFINITY) < oldestTask) {
      const released = this.#quarantined.shift();
      if (released !== undefined) this.#free.push(released.index);
    }
    const free = this.#free.pop();
    if (free !== undefined) return free;
    return this.#names.length < this.capacity ? this.#names.length : undefined;
  }
}

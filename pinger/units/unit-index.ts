/**
 * The units that this process watches, numbered. What is kept of a unit stands in columns at its index: an object for each of
 * hundreds of thousands would be a hundred megabytes, and a second of every collection of garbage.
 *
 * An index is given to another unit only when no task is under way that may still name it.
 */

/** Units that have proved themselves before the list of targets names them. */
const MAX_GUESTS = 1_000;

export class UnitIndex {
  /** Most units. */
  readonly capacity: number;
  readonly #indexes = new Map<string, number>();
  readonly #names: (string | undefined)[] = [];
  readonly #guests = new Set<string>();
  readonly #free: number[] = [];
  /** Freed while the task with this number was the newest. */
  readonly #freed: { readonly index: number; readonly newestTask: number }[] = [];
  readonly #tasks = new Set<number>();
  #newestTask = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  indexOf(name: string): number | undefined {
    return this.#indexes.get(name);
  }

  /** The unit of an index; `undefined` when it was removed. */
  nameOf(index: number): string | undefined {
    return this.#names[index];
  }

  /** @returns the index of a unit, which may be there already; `undefined` when there is no place */
  add(name: string): number | undefined {
    this.#guests.delete(name);
    return this.#indexes.get(name) ?? this.#enter(name);
  }

  /** The same for a unit that nobody has named yet: few of those are taken. */
  addUnlisted(name: string): number | undefined {
    const known = this.#indexes.get(name);
    if (known !== undefined || this.#guests.size >= MAX_GUESTS) return known;
    const index = this.#enter(name);
    if (index !== undefined) this.#guests.add(name);
    return index;
  }

  remove(name: string): void {
    const index = this.#indexes.get(name);
    if (index === undefined) return;
    this.#guests.delete(name);
    this.#indexes.delete(name);
    this.#names[index] = undefined;
    this.#freed.push({ index, newestTask: this.#newestTask });
  }

  /** A task that names units by their indexes is under way, until `endTask`. @returns its number */
  beginTask(): number {
    this.#newestTask += 1;
    this.#tasks.add(this.#newestTask);
    return this.#newestTask;
  }

  endTask(task: number): void {
    this.#tasks.delete(task);
  }

  #enter(name: string): number | undefined {
    const index = this.#freeIndex();
    if (index === undefined) return undefined;
    this.#indexes.set(name, index);
    this.#names[index] = name;
    return index;
  }

  #freeIndex(): number | undefined {
    // The oldest task that is under way.
    const [oldest = this.#newestTask + 1] = this.#tasks;
    while ((this.#freed[0]?.newestTask ?? Number.POSITIVE_INFINITY) < oldest) {
      const freed = this.#freed.shift();
      if (freed !== undefined) this.#free.push(freed.index);
    }
    const free = this.#free.pop();
    if (free !== undefined) return free;
    return this.#names.length < this.capacity ? this.#names.length : undefined;
  }
}

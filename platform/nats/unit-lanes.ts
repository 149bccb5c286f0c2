/**
 * Decides which of the held messages runs next, so that no unit takes the places of others: units take turns, each has a bounded
 * number of running messages, and all units together have another bound.
 */

interface Lane<T> {
  readonly waiting: T[];
  running: number;
}

export interface LaneBounds {
  /** Messages that run at the same time. */
  readonly maxRunning: number;
  /** Messages of one unit that run at the same time. */
  readonly maxRunningPerUnit: number;
}

export class UnitLanes<T> {
  readonly #bounds: LaneBounds;
  readonly #lanes = new Map<string, Lane<T>>();
  /** Units with a waiting message and a free place, in the order of their turns. */
  readonly #ready = new Set<string>();
  #running = 0;

  constructor(bounds: LaneBounds) {
    this.#bounds = bounds;
  }

  get running(): number {
    return this.#running;
  }

  /** Waiting and running messages of a unit. */
  countOf(unit: string): number {
    const lane = this.#lanes.get(unit);
    return lane === undefined ? 0 : lane.waiting.length + lane.running;
  }

  hasWaiting(unit: string): boolean {
    return (this.#lanes.get(unit)?.waiting.length ?? 0) > 0;
  }

  add(unit: string, message: T): void {
    const lane = this.#lanes.get(unit) ?? { waiting: [], running: 0 };
    this.#lanes.set(unit, lane);
    lane.waiting.push(message);
    this.#updateReady(unit, lane);
  }

  /** Removes and returns the messages of a unit that wait. */
  removeWaiting(unit: string): T[] {
    const lane = this.#lanes.get(unit);
    if (lane === undefined) return [];
    const removed = lane.waiting.splice(0);
    this.#updateReady(unit, lane);
    return removed;
  }

  /** Starts the next message, or returns `undefined` while every place is taken or nothing waits. */
  start(): T | undefined {
    if (this.#running >= this.#bounds.maxRunning) return undefined;
    const [unit] = this.#ready;
    const lane = unit === undefined ? undefined : this.#lanes.get(unit);
    if (unit === undefined || lane === undefined) return undefined;
    const message = lane.waiting.shift();
    lane.running += 1;
    this.#running += 1;
    this.#ready.delete(unit);
    this.#updateReady(unit, lane);
    return message;
  }

  /** Frees the place of a message that was started. */
  end(unit: string): void {
    const lane = this.#lanes.get(unit);
    if (lane === undefined) return;
    lane.running -= 1;
    this.#running -= 1;
    this.#updateReady(unit, lane);
  }

  #updateReady(unit: string, lane: Lane<T>): void {
    const isReady = lane.waiting.length > 0 && lane.running < this.#bounds.maxRunningPerUnit;
    if (isReady) this.#ready.add(unit);
    else this.#ready.delete(unit);
    if (lane.waiting.length === 0 && lane.running === 0) this.#lanes.delete(unit);
  }
}

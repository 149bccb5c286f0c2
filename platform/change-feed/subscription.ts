/**
 * The subscribing end of the change feed. It collects the names of changed units until its owner takes them, and answers `all`
 * wherever it cannot tell which units changed: at first, after the connection was lost, when a message was lost, and when too
 * many units wait. Its owner then reads every unit, as it also does from time to time on its own.
 */

import { LRUCache } from 'lru-cache';
import type { Nats } from '../nats/connection.ts';
import { decodeUnitChanges, UNIT_CHANGES_SUBJECT } from './message.ts';

/** Names that wait to be taken; with more, reading all units costs less than reading those by name. */
export const MAX_WAITING_UNITS = 50_000;
/** Publishers whose last number is remembered; one that was dropped counts as new. */
const MAX_PUBLISHERS = 256;

/** `all`: any unit may have changed. */
export type UnitChanges = 'all' | ReadonlySet<string>;

type FeedConnection = Pick<Nats, 'subscribe' | 'onConnection' | 'flush'>;

export interface UnitChangeSubscription {
  /** Whether there is something to take. */
  readonly hasChanges: boolean;
  /** Takes what has collected; an empty set when nothing has changed. */
  take(): UnitChanges;
  /** Puts back what was taken and could not be read. */
  putBack(changes: UnitChanges): void;
  close(): void;
}

export function subscribeToUnitChanges(nats: FeedConnection): UnitChangeSubscription {
  return new NatsUnitChanges(nats);
}

class NatsUnitChanges implements UnitChangeSubscription {
  /** The number of the last message of each publisher. */
  readonly #numbers = new LRUCache<string, number>({ max: MAX_PUBLISHERS });
  readonly #cleanups: readonly (() => void)[];
  #waiting = new Set<string>();
  #isAll = true;

  constructor(nats: FeedConnection) {
    this.#cleanups = [
      nats.subscribe(UNIT_CHANGES_SUBJECT, ({ data }) => this.#receive(data)),
      nats.onConnection((isConnected) => {
        if (isConnected) void this.#resynchronise(nats);
      }),
    ];
    void this.#resynchronise(nats);
  }

  get hasChanges(): boolean {
    return this.#isAll || this.#waiting.size > 0;
  }

  take(): UnitChanges {
    const taken = this.#isAll ? 'all' : this.#waiting;
    this.#isAll = false;
    this.#waiting = new Set();
    return taken;
  }

  putBack(changes: UnitChanges): void {
    if (changes === 'all') this.#isAll = true;
    else this.#add(changes);
  }

  close(): void {
    for (const cleanup of this.#cleanups) cleanup();
  }

  /**
   * What was published before the server knew of the subscription is lost. So the units are read once more after the server has
   * answered, which it does in the order in which it was asked.
   */
  async #resynchronise(nats: FeedConnection): Promise<void> {
    this.#numbers.clear();
    try {
      await nats.flush();
    } catch {
      // The connection was lost again: its return resynchronises anew.
    }
    this.#isAll = true;
  }

  #receive(data: Uint8Array): void {
    const message = decodeUnitChanges(data);
    if (message === undefined) {
      this.#isAll = true;
      return;
    }
    const { publisherId, number, units, all = false } = message;
    const last = this.#numbers.get(publisherId);
    this.#numbers.set(publisherId, number);
    // The messages of one connection keep their order, so a first message of a publisher says nothing of lost ones.
    if (all || (last !== undefined && number !== last + 1)) this.#isAll = true;
    else this.#add(units);
  }

  #add(units: Iterable<string>): void {
    for (const unit of units) this.#waiting.add(unit);
    if (this.#waiting.size <= MAX_WAITING_UNITS) return;
    this.#waiting = new Set();
    this.#isAll = true;
  }
}

/**
 * The subscribing end of the change feed. It collects the names of changed units until its owner takes them, and answers `all`
 * wherever it cannot tell which units changed: at first, after the connection was lost, when a message was lost, and when too
 * many units wait. Its owner then reads every unit, as it also does from time to time on its own.
 */

import { LRUCache } from 'lru-cache';
import type { Nats } from '../nats/connection.ts';
import { decodeUnitChanges, UNIT_CHANGES_SUBJECT } from './message.ts';

/** Most names that wait for the owner. Above it, reading all units costs less than reading the units by name. */
export const MAX_WAITING_UNITS = 50_000;
/** Publishers whose last number is remembered. A forgotten publisher counts as new. */
const MAX_PUBLISHERS = 256;

/** `all`: any unit may have changed. */
export type UnitChanges = 'all' | ReadonlySet<string>;

type FeedConnection = Pick<Nats, 'subscribe' | 'onConnection' | 'flush'>;

export interface UnitChangeSubscription {
  /** Whether changes wait. */
  readonly hasChanges: boolean;
  /** Removes and returns the changes that wait; an empty set when nothing has changed. */
  take(): UnitChanges;
  /** Adds changes to those that wait, such as changes whose units could not be read. */
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
   * Messages that were published before the server processed the subscription are lost, so the owner must read every unit. The
   * server processes the requests of a connection in order: when it answers `flush`, it has processed the subscription.
   */
  async #resynchronise(nats: FeedConnection): Promise<void> {
    this.#numbers.clear();
    try {
      await nats.flush();
    } catch {
      // The connection was lost again. When it is restored, `onConnection` resynchronises again.
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

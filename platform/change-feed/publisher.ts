/**
 * The publishing end of the change feed. The projections process calls it after a transaction has committed, so that a
 * subscriber that reads the named units sees the change.
 */

import type { Nats } from '../nats/connection.ts';
import { encodeUnitChanges, MAX_UNITS_PER_MESSAGE, UNIT_CHANGES_SUBJECT } from './message.ts';

/** Interval of `heartbeat` calls. A subscriber notices the loss of a message after this time at the latest. */
export const CHANGE_HEARTBEAT_INTERVAL_MS = 5_000;

export class UnitChangePublisher {
  readonly #nats: Pick<Nats, 'connected' | 'publish'>;
  readonly #publisherId: string;
  #number = 0;
  /** Whether a change could not be published: the next message then says that any unit may have changed. */
  #hasLost = false;

  /** `publisherId` is new with every start of the process. */
  constructor(nats: Pick<Nats, 'connected' | 'publish'>, publisherId: string) {
    this.#nats = nats;
    this.#publisherId = publisherId;
  }

  /** Publishes the names of units whose rows were committed. Never throws: changes lost without NATS become one `all`. */
  unitsChanged(units: Iterable<string>): void {
    let chunk: string[] = [];
    for (const unit of units) {
      chunk.push(unit);
      if (chunk.length < MAX_UNITS_PER_MESSAGE) continue;
      this.#publish(chunk, false);
      chunk = [];
    }
    if (chunk.length > 0) this.#publish(chunk, false);
  }

  /** Publishes that any unit may have changed: another run serves, or this process took over the lanes of a process that died. */
  allChanged(): void {
    this.#publish([], true);
  }

  /**
   * Publishes an empty message, or `all` when a change could not be published while NATS was away. A subscriber notices by the
   * number of the message that the message before it was lost.
   */
  heartbeat(): void {
    this.#publish([], false);
  }

  #publish(units: readonly string[], all: boolean): void {
    const number = this.#number + 1;
    const isAll = all || this.#hasLost;
    this.#hasLost = isAll || units.length > 0;
    if (!this.#nats.connected) return;
    const head = { publisherId: this.#publisherId, number, units: [...units] };
    this.#nats.publish(UNIT_CHANGES_SUBJECT, encodeUnitChanges(isAll ? { ...head, all: true } : head));
    this.#number = number;
    this.#hasLost = false;
  }
}

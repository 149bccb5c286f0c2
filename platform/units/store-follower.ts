/** Follows the commits of the event store, by their positions alone, for as long as the process runs. */

import { type EventStore, GapError, type Notice } from '../event-store/store.ts';
import type { Log } from '../observability/log.ts';

/** Pause before the follower reads on after an error. */
const FOLLOW_RETRY_MS = 500;
export const NOT_A_COMMIT = 'A message of the stream EVENTS is not a commit; the unit decider skips it.';

export interface StoreFollowerOptions {
  readonly store: EventStore;
  readonly onCommit: (notice: Notice) => void;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

export class StoreFollower {
  readonly #options: StoreFollowerOptions;
  #position: number | undefined;

  constructor(options: StoreFollowerOptions) {
    this.#options = options;
  }

  /** The follower has passed every commit up to here; undefined before it has begun. */
  get position(): number | undefined {
    return this.#position;
  }

  /**
   * Follows the store until `signal` aborts. Reads on after errors.
   * @throws GapError when a commit that must exist is missing: data loss
   */
  async follow(signal: AbortSignal): Promise<void> {
    const { store, onCommit, log, sleep } = this.#options;
    const onAlarm = (alarm: object) => log.error(NOT_A_COMMIT, { ...alarm });
    while (!signal.aborted) {
      try {
        this.#position ??= await store.lastSequence();
        for await (const notice of store.watch({ after: this.#position, signal, onAlarm })) {
          this.#position = notice.sequence;
          onCommit(notice);
        }
      } catch (error) {
        if (error instanceof GapError) throw error;
        log.warn(`The unit decider could not follow EVENTS; it reads on in ${FOLLOW_RETRY_MS} ms.`, { error });
      }
      if (!signal.aborted) await sleep(FOLLOW_RETRY_MS);
    }
  }
}

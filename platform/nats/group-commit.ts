/**
 * Group commit: independent appends that wait at the same moment share one fsync.
 *
 * One group is under way at a time. What arrives meanwhile waits and makes the next group: the busier it gets, the larger
 * the groups, the fewer fsyncs per append. A group of a few is published message by message, because an atomic batch costs
 * as much as several single messages. A larger group is one atomic batch, one message a subject. When the server refuses
 * the batch, because one append in it lost its race or had been stored before, each is published on its own and gets its
 * own answer.
 */

import type { Nats } from './connection.ts';
import { JetStreamError, type OutgoingMessage, type PubAck, publishAtomically, publishStored } from './jetstream.ts';

/** Below this many, single messages are faster: an atomic batch stages its messages in a store of its own, at 2 to 3 ms. */
const MIN_ATOMIC_MESSAGES = 12;
const MAX_GROUP_MESSAGES = 256;
/** Larger groups would hold up the appends behind them (p99 of single appends, FACTS of the store). */
const MAX_GROUP_BYTES = 1024 * 1024;
/** More appends than this may not wait: the store is then too slow for what is asked of it. */
export const MAX_WAITING_APPENDS = 20_000;
export const APPEND_TIMEOUT_MS = 4_000;

interface Waiting {
  readonly message: OutgoingMessage;
  readonly bytes: number;
  readonly resolve: (ack: PubAck) => void;
  readonly reject: (error: unknown) => void;
}

/** The queue of waiting appends is full. Retryable later. */
export class StoreOverloadedError extends Error {
  override readonly name = 'StoreOverloadedError';
}

export class GroupCommit {
  readonly #nats: Nats;
  readonly #newId: () => string;
  #waiting: Waiting[] = [];
  #busy = false;

  constructor(nats: Nats, newId: () => string) {
    this.#nats = nats;
    this.#newId = newId;
  }

  /** Stores a message. @throws JetStreamError, NatsUnavailableError, StoreOverloadedError */
  store(message: OutgoingMessage): Promise<PubAck> {
    if (this.#waiting.length >= MAX_WAITING_APPENDS) {
      return Promise.reject(new StoreOverloadedError(`${MAX_WAITING_APPENDS} appends are waiting`));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ message, bytes: Buffer.byteLength(message.payload), resolve, reject });
      if (!this.#busy) void this.#work();
    });
  }

  async #work(): Promise<void> {
    this.#busy = true;
    // Appends that are made in the same turn of the event loop belong together.
    await Promise.resolve();
    while (this.#waiting.length > 0) await this.#commit(this.#takeGroup());
    this.#busy = false;
  }

  /** The waiting appends that fit in one group; of a subject only the first, the others keep their order. */
  #takeGroup(): Waiting[] {
    const group: Waiting[] = [];
    const left: Waiting[] = [];
    const subjects = new Set<string>();
    let bytes = 0;
    for (const waiting of this.#waiting) {
      const full = group.length > 0 && (group.length >= MAX_GROUP_MESSAGES || bytes + waiting.bytes > MAX_GROUP_BYTES);
      if (full || subjects.has(waiting.message.subject)) {
        left.push(waiting);
        subjects.add(waiting.message.subject);
        continue;
      }
      subjects.add(waiting.message.subject);
      bytes += waiting.bytes;
      group.push(waiting);
    }
    this.#waiting = left;
    return group;
  }

  async #commit(group: readonly Waiting[]): Promise<void> {
    if (group.length < MIN_ATOMIC_MESSAGES) return this.#commitSingly(group);
    try {
      const messages = group.map((waiting) => waiting.message);
      const first = await publishAtomically(this.#nats, messages, this.#newId(), APPEND_TIMEOUT_MS);
      for (const [index, waiting] of group.entries()) waiting.resolve({ seq: first + index, duplicate: false });
    } catch (error) {
      if (error instanceof JetStreamError) return this.#commitSingly(group);
      for (const waiting of group) waiting.reject(error);
    }
  }

  async #commitSingly(group: readonly Waiting[]): Promise<void> {
    await Promise.all(
      group.map(({ message, resolve, reject }) =>
        publishStored(this.#nats, message, APPEND_TIMEOUT_MS).then(resolve, reject),
      ),
    );
  }
}

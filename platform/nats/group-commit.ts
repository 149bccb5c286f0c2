/**
 * Group commit: independent appends that wait at the same moment share one fsync.
 *
 * The store commits one group at a time. Appends that arrive meanwhile wait and form the next group, so that the groups grow
 * with the load and the number of fsyncs per append falls. A group of fewer than `MIN_ATOMIC_MESSAGES` is published message by
 * message, because an atomic batch costs as much as several single messages. A larger group is one atomic batch with at most
 * one message a subject. The server refuses a whole batch when one append in it lost its race or had been stored before; the
 * group then publishes each append on its own, and each caller gets the answer to its own append.
 *
 * Interactive appends fill a group first, background appends (the facts of units, thousands of events a second) the rest of it.
 * In the second after an interactive append, background groups are small, and after each the store stays idle for as long as
 * that group took: an interactive append that arrives in the pause is committed at once. Background appends do not starve,
 * because a pause always ends with a background group.
 */

import type { AppendPriority } from '../event-store/store.ts';
import type { Nats } from './connection.ts';
import { JetStreamError, type OutgoingMessage, type PubAck, publishAtomically, publishStored } from './jetstream.ts';

/** Fewer messages than this are faster one by one: the server stages an atomic batch before it commits it. */
const MIN_ATOMIC_MESSAGES = 12;
const MAX_GROUP_MESSAGES = 256;
/** Most bytes of a group. It bounds how long the next group waits. */
const MAX_GROUP_BYTES = 1024 * 1024;
/** Bound of background appends in a group when there was no interactive append in the last `INTERACTIVE_WINDOW_MS`. */
const MAX_BACKGROUND_GROUP_BYTES = 512 * 1024;
/** Bound of background appends in a group within `INTERACTIVE_WINDOW_MS` of an interactive append. */
const MAX_YIELDING_GROUP_BYTES = 128 * 1024;
/** For this time after an interactive append, background groups are small and pauses follow them. */
const INTERACTIVE_WINDOW_MS = 1_000;
/** Appends of one priority that may wait. Further appends are refused: load shedding. */
export const MAX_WAITING_APPENDS = 20_000;
export const APPEND_TIMEOUT_MS = 4_000;

interface PendingAppend {
  readonly message: OutgoingMessage;
  readonly bytes: number;
  readonly resolve: (ack: PubAck) => void;
  readonly reject: (error: unknown) => void;
}

/** Load shedding: `MAX_WAITING_APPENDS` appends of this priority are waiting already. Retryable later. */
export class StoreOverloadedError extends Error {
  override readonly name = 'StoreOverloadedError';
}

export class GroupCommit {
  readonly #nats: Nats;
  readonly #newId: () => string;
  readonly #monotonic: () => number;
  #interactive: PendingAppend[] = [];
  #background: PendingAppend[] = [];
  #isCommitting = false;
  #lastInteractiveMs = Number.NEGATIVE_INFINITY;
  /** Before this moment no group takes background appends. */
  #yieldUntilMs = 0;
  /** Resolves when an interactive append arrives. */
  #interactiveArrival = Promise.withResolvers<void>();

  /** `monotonic`: milliseconds of a clock that never jumps. */
  constructor(nats: Nats, newId: () => string, monotonic: () => number) {
    this.#nats = nats;
    this.#newId = newId;
    this.#monotonic = monotonic;
  }

  /**
   * Stores a message durably.
   * @throws JetStreamError when the server refuses it, as when the subject is not at the expected sequence
   * @throws NatsUnavailableError when it is not known whether it is stored
   * @throws StoreOverloadedError
   */
  store(message: OutgoingMessage, priority: AppendPriority = 'interactive'): Promise<PubAck> {
    const isInteractive = priority === 'interactive';
    const queue = isInteractive ? this.#interactive : this.#background;
    if (isInteractive) this.#lastInteractiveMs = this.#monotonic();
    if (queue.length >= MAX_WAITING_APPENDS) {
      return Promise.reject(
        new StoreOverloadedError(
          `The event store has ${MAX_WAITING_APPENDS} ${priority} appends waiting and takes no more. Nothing was stored; retry later.`,
        ),
      );
    }
    return new Promise((resolve, reject) => {
      queue.push({ message, bytes: Buffer.byteLength(message.payload), resolve, reject });
      if (isInteractive) this.#interactiveArrival.resolve();
      if (!this.#isCommitting) void this.#commitGroups();
    });
  }

  async #commitGroups(): Promise<void> {
    this.#isCommitting = true;
    // Appends of one turn of the event loop are committed together.
    await Promise.resolve();
    while (this.#interactive.length + this.#background.length > 0) {
      const startedMs = this.#monotonic();
      const isYielding = startedMs - this.#lastInteractiveMs < INTERACTIVE_WINDOW_MS;
      const group = new Group();
      this.#interactive = group.fill(this.#interactive, MAX_GROUP_BYTES);
      if (!isYielding) this.#background = group.fill(this.#background, MAX_BACKGROUND_GROUP_BYTES);
      else if (startedMs >= this.#yieldUntilMs)
        this.#background = group.fill(this.#background, MAX_YIELDING_GROUP_BYTES);
      if (group.members.length === 0) {
        await this.#waitForInteractive(this.#yieldUntilMs - startedMs);
        continue;
      }
      await this.#commit(group.members);
      const nowMs = this.#monotonic();
      if (startedMs >= this.#yieldUntilMs) this.#yieldUntilMs = nowMs + (nowMs - startedMs);
    }
    this.#isCommitting = false;
  }

  /** Waits `ms`, or until an interactive append arrives. */
  async #waitForInteractive(ms: number): Promise<void> {
    this.#interactiveArrival = Promise.withResolvers<void>();
    const timer = setTimeout(this.#interactiveArrival.resolve, ms);
    await this.#interactiveArrival.promise;
    clearTimeout(timer);
  }

  async #commit(group: readonly PendingAppend[]): Promise<void> {
    if (group.length < MIN_ATOMIC_MESSAGES) return this.#commitOneByOne(group);
    try {
      const messages = group.map(({ message }) => message);
      const first = await publishAtomically(this.#nats, messages, this.#newId(), APPEND_TIMEOUT_MS);
      for (const [index, append] of group.entries()) append.resolve({ seq: first + index, duplicate: false });
    } catch (error) {
      if (error instanceof JetStreamError) return this.#commitOneByOne(group);
      for (const append of group) append.reject(error);
    }
  }

  async #commitOneByOne(group: readonly PendingAppend[]): Promise<void> {
    await Promise.all(
      group.map(({ message, resolve, reject }) =>
        publishStored(this.#nats, message, APPEND_TIMEOUT_MS).then(resolve, reject),
      ),
    );
  }
}

/** Appends that are committed together: at most one a subject, so that the appends of a subject keep their order. */
class Group {
  readonly members: PendingAppend[] = [];
  readonly #subjects = new Set<string>();
  #bytes = 0;

  /** Moves the appends that fit from the queue into the group. @returns the others, in order */
  fill(queue: readonly PendingAppend[], maxBytes: number): PendingAppend[] {
    const remaining: PendingAppend[] = [];
    for (const append of queue) {
      const { subject } = append.message;
      const isFull =
        this.members.length > 0 && (this.members.length >= MAX_GROUP_MESSAGES || this.#bytes + append.bytes > maxBytes);
      if (isFull || this.#subjects.has(subject)) remaining.push(append);
      else {
        this.#bytes += append.bytes;
        this.members.push(append);
      }
      this.#subjects.add(subject);
    }
    return remaining;
  }
}

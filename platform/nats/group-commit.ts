/**
 * Group commit: independent appends that wait at the same moment share one fsync.
 *
 * One group is under way at a time. What arrives meanwhile waits and makes the next group: the busier it gets, the larger
 * the groups, the fewer fsyncs per append. A group of a few is published message by message, because an atomic batch costs
 * as much as several single messages. A larger group is one atomic batch, one message a subject. When the server refuses
 * the batch, because one append in it lost its race or had been stored before, each is published on its own and gets its
 * own answer.
 *
 * Appends that somebody waits for go first. What is patient (the facts of units, thousands of events a second) fills what is
 * left of a group. While appends that hurry come, it makes small groups, and leaves the store alone between two of them for as
 * long as the last one took: whoever comes then finds it free.
 */

import type { Nats } from './connection.ts';
import { JetStreamError, type OutgoingMessage, type PubAck, publishAtomically, publishStored } from './jetstream.ts';

/** Below this many, single messages are faster: an atomic batch stages its messages in a store of its own, at 2 to 3 ms. */
const MIN_ATOMIC_MESSAGES = 12;
const MAX_GROUP_MESSAGES = 256;
/** Larger groups would hold up the appends behind them. */
const MAX_GROUP_BYTES = 1024 * 1024;
/** The same for what is patient, while nobody hurries and while somebody does. */
const MAX_PATIENT_GROUP_BYTES = 512 * 1024;
const MAX_YIELDING_GROUP_BYTES = 128 * 1024;
/** After an append that hurried, the next one is expected for so long. */
const HURRY_MS = 1_000;
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
  readonly #monotonic: () => number;
  #hurried: Waiting[] = [];
  #patient: Waiting[] = [];
  #busy = false;
  #hurriedAtMs = Number.NEGATIVE_INFINITY;
  /** What is patient waits until then. */
  #yieldUntilMs = 0;
  #hurry = Promise.withResolvers<void>();

  /** `monotonic`: milliseconds of a clock that never jumps. */
  constructor(nats: Nats, newId: () => string, monotonic: () => number) {
    this.#nats = nats;
    this.#newId = newId;
    this.#monotonic = monotonic;
  }

  /** Stores a message. `patient`: others go first. @throws JetStreamError, NatsUnavailableError, StoreOverloadedError */
  store(message: OutgoingMessage, patient = false): Promise<PubAck> {
    const queue = patient ? this.#patient : this.#hurried;
    if (!patient) this.#hurriedAtMs = this.#monotonic();
    if (queue.length >= MAX_WAITING_APPENDS) {
      return Promise.reject(new StoreOverloadedError(`${MAX_WAITING_APPENDS} appends are waiting`));
    }
    return new Promise((resolve, reject) => {
      queue.push({ message, bytes: Buffer.byteLength(message.payload), resolve, reject });
      if (!patient) this.#hurry.resolve();
      if (!this.#busy) void this.#work();
    });
  }

  async #work(): Promise<void> {
    this.#busy = true;
    // Appends that are made in the same turn of the event loop belong together.
    await Promise.resolve();
    while (this.#hurried.length + this.#patient.length > 0) {
      const startedMs = this.#monotonic();
      const isYielding = startedMs - this.#hurriedAtMs < HURRY_MS;
      const group = new Group();
      this.#hurried = group.fill(this.#hurried, MAX_GROUP_BYTES);
      if (!isYielding) this.#patient = group.fill(this.#patient, MAX_PATIENT_GROUP_BYTES);
      else if (startedMs >= this.#yieldUntilMs) this.#patient = group.fill(this.#patient, MAX_YIELDING_GROUP_BYTES);
      if (group.members.length === 0) {
        await this.#pause(this.#yieldUntilMs - startedMs);
        continue;
      }
      await this.#commit(group.members);
      const nowMs = this.#monotonic();
      if (startedMs >= this.#yieldUntilMs) this.#yieldUntilMs = nowMs + (nowMs - startedMs);
    }
    this.#busy = false;
  }

  /** Waits, but not for what hurries. */
  async #pause(ms: number): Promise<void> {
    this.#hurry = Promise.withResolvers<void>();
    const timer = setTimeout(this.#hurry.resolve, ms);
    await this.#hurry.promise;
    clearTimeout(timer);
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

/** Appends that are committed together: of a subject only the first, so that the others keep their order. */
class Group {
  readonly members: Waiting[] = [];
  readonly #subjects = new Set<string>();
  #bytes = 0;

  /** Takes what fits. @returns what is left, in order */
  fill(queue: readonly Waiting[], maxBytes: number): Waiting[] {
    const left: Waiting[] = [];
    for (const waiting of queue) {
      const { subject } = waiting.message;
      const full =
        this.members.length > 0 &&
        (this.members.length >= MAX_GROUP_MESSAGES || this.#bytes + waiting.bytes > maxBytes);
      if (full || this.#subjects.has(subject)) left.push(waiting);
      else {
        this.#bytes += waiting.bytes;
        this.members.push(waiting);
      }
      this.#subjects.add(subject);
    }
    return left;
  }
}

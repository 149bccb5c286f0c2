/** The event store in memory: for tests of what decides and for benchmarks of everything but the store. */

import type { Aggregate } from '../../domain/events/cloud-event.ts';
import { laneOf } from '../../domain/shard.ts';
import {
  type Append,
  type Appended,
  ConcurrencyError,
  decodeCommit,
  type EventStore,
  encodeCommit,
  type Notice,
  type PageBounds,
  type ReadOptions,
  type StoredMessage,
} from './store.ts';

export class MemoryEventStore implements EventStore {
  readonly #messages: StoredMessage[] = [];
  readonly #lastOfSubject = new Map<string, number>();
  readonly #clock: () => number;
  #arrivals = Promise.withResolvers<void>();

  /** `clock` gives the recording time, milliseconds since 1970. */
  constructor(clock: () => number) {
    this.#clock = clock;
  }

  async append(append: Append): Promise<Appended> {
    const json = encodeCommit(append);
    const subject = subjectOf(append.unit, append.aggregate);
    const last = this.#lastOfSubject.get(subject) ?? 0;
    const earlier = this.#messages.find(
      (message) =>
        message.commandId === append.commandId &&
        message.unit === append.unit &&
        message.aggregate === append.aggregate,
    );
    if (earlier !== undefined) return { sequence: earlier.sequence, duplicate: true };
    if (last !== append.expectedSequence) {
      throw new ConcurrencyError(`${subject} is at ${last}, not at ${append.expectedSequence}`);
    }
    const sequence = this.#messages.length + 1;
    this.#messages.push({
      sequence,
      unit: append.unit,
      aggregate: append.aggregate,
      lane: laneOf(append.unit),
      recordedAtMs: this.#clock(),
      commandId: append.commandId,
      bytes: Buffer.byteLength(json),
      events: () => decodeCommit(json),
    });
    this.#lastOfSubject.set(subject, sequence);
    this.#arrivals.resolve();
    this.#arrivals = Promise.withResolvers<void>();
    return { sequence, duplicate: false };
  }

  async tail(unit: string, after: number): Promise<readonly StoredMessage[]> {
    return this.#messages.slice(after).filter((message) => message.unit === unit);
  }

  async tailPage(unit: string, after: number, bounds: PageBounds): Promise<readonly StoredMessage[]> {
    const tail = (await this.tail(unit, after)).slice(0, bounds.messages);
    let bytes = 0;
    return tail.filter((message, index) => {
      bytes += message.bytes;
      return index === 0 || bytes <= bounds.bytes;
    });
  }

  async tailFromLeader(unit: string, after: number, limit?: number): Promise<readonly StoredMessage[]> {
    return (await this.tail(unit, after)).slice(0, limit);
  }

  async lastSequenceOf(unit: string): Promise<number> {
    return this.#messages.findLast((message) => message.unit === unit)?.sequence ?? 0;
  }

  async lastSequence(): Promise<number> {
    return this.#messages.length;
  }

  async *read({ after, signal }: ReadOptions): AsyncIterable<StoredMessage> {
    const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    for (let next = after; !signal.aborted; ) {
      const message = this.#messages[next];
      if (message !== undefined) {
        next += 1;
        yield message;
      } else {
        await Promise.race([this.#arrivals.promise, aborted]);
      }
    }
  }

  watch(options: ReadOptions): AsyncIterable<Notice> {
    return this.read(options);
  }
}

function subjectOf(unit: string, aggregate: Aggregate): string {
  return `${unit}/${aggregate}`;
}

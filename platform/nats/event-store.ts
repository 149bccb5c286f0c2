/** The event store in JetStream: one commit is one message of the stream `EVENTS`, guarded by its subject's sequence. */

import type { CloudEvent } from '../../domain/events/cloud-event.ts';
import {
  type Append,
  type Appended,
  ConcurrencyError,
  decodeCommit,
  type EventStore,
  encodeCommit,
  GapError,
  type Notice,
  type PageBounds,
  type ReadOptions,
  type StoredMessage,
  StoreUnavailableError,
} from '../event-store/store.ts';
import { errorMessage } from '../observability/error-message.ts';
import { type Nats, NatsUnavailableError } from './connection.ts';
import { GroupCommit, StoreOverloadedError } from './group-commit.ts';
import { api, JetStreamError, readDirectly, readFromLeader } from './jetstream.ts';
import { type PullBounds, readStream, type StreamMessage, type StreamReading } from './stream-reader.ts';
import { eventSubject, parseEventSubject, unitEventsFilter } from './subjects.ts';

const CONTENT_TYPE = 'application/cloudevents-batch+json';
/** Messages of one direct read. A longer tail takes several reads. */
const TAIL_READ_MESSAGES = 256;
/** Bounds of the messages that a reader of events requests in advance: backpressure. */
const READ_AHEAD: PullBounds = { messages: 2_000, bytes: 8 * 1024 * 1024 };
/** The same bounds for `watch`, whose messages arrive without their events. */
const WATCH_AHEAD: PullBounds = { messages: 4_000, bytes: 4 * 1024 * 1024 };

/** The subject is not at the expected sequence. A stream with one replica also answers a repeated append with this code. */
const WRONG_LAST_SEQUENCE = 10071;
/** An atomic batch has a message whose id was stored before. */
const DUPLICATE_IN_BATCH = 10201;

export class NatsEventStore implements EventStore {
  readonly #nats: Nats;
  readonly #commits: GroupCommit;

  /**
   * @param newId makes ids of atomic batches, unique in the stream
   * @param monotonic milliseconds of a clock that never jumps
   */
  constructor(nats: Nats, newId: () => string, monotonic: () => number) {
    this.#nats = nats;
    this.#commits = new GroupCommit(nats, newId, monotonic);
  }

  async append(append: Append): Promise<Appended> {
    const message = {
      subject: eventSubject(append.unit, append.aggregate),
      payload: encodeCommit(append),
      headers: {
        'Content-Type': CONTENT_TYPE,
        'Nats-Msg-Id': append.commandId,
        'Nats-Expected-Last-Subject-Sequence': String(append.expectedSequence),
      },
    };
    try {
      const { seq, duplicate } = await this.#commits.store(message, append.priority);
      return { sequence: seq, duplicate };
    } catch (error) {
      if (error instanceof StoreOverloadedError) throw new StoreUnavailableError(error.message, { cause: error });
      return this.#afterFailure(append, error);
    }
  }

  /** Finds out whether a failed append is stored: it is when the tail of its subject has a commit with its command id. */
  async #afterFailure(append: Append, error: unknown): Promise<Appended> {
    const lostRace =
      error instanceof JetStreamError && (error.code === WRONG_LAST_SEQUENCE || error.code === DUPLICATE_IN_BATCH);
    if (!lostRace && !(error instanceof NatsUnavailableError)) {
      throw new StoreUnavailableError(
        `The event store refused a commit on ${eventSubject(append.unit, append.aggregate)}: ${errorMessage(error)}`,
        { cause: error },
      );
    }
    const subject = eventSubject(append.unit, append.aggregate);
    const own = await this.#findCommand(subject, append);
    if (own !== undefined) return { sequence: own.sequence, duplicate: true };
    if (lostRace)
      throw new ConcurrencyError(
        `Another commit was appended to ${subject} after sequence ${append.expectedSequence}.`,
      );
    throw new StoreUnavailableError(errorMessage(error), { cause: error });
  }

  /** The commit of a command behind the expected sequence. The last message of the subject is asked for first: it often answers both. */
  async #findCommand(
    subject: string,
    { commandId, expectedSequence }: Append,
  ): Promise<{ readonly sequence: number } | undefined> {
    const last = await this.#lastOn(subject);
    if (last === undefined || last.sequence <= expectedSequence) return undefined;
    if (last.commandId === commandId) return last;
    const tail = await this.#tail(subject, expectedSequence);
    return tail.find((message) => message.commandId === commandId);
  }

  /** The last commit on a subject, as the leader of the stream has it. */
  async #lastOn(subject: string): Promise<{ readonly sequence: number; readonly commandId: string } | undefined> {
    try {
      const last = await readFromLeader(this.#nats, 'EVENTS', { last_by_subj: subject });
      return last && { sequence: last.sequence, commandId: last.header('Nats-Msg-Id') ?? '' };
    } catch (error) {
      throw new StoreUnavailableError(errorMessage(error), { cause: error });
    }
  }

  tail(unit: string, after: number): Promise<readonly StoredMessage[]> {
    return this.#tail(unitEventsFilter(unit), after);
  }

  async tailPage(unit: string, after: number, bounds: PageBounds): Promise<readonly StoredMessage[]> {
    const { messages: limit, ...others } = bounds;
    const query = { sequence: after + 1, filter: unitEventsFilter(unit), limit, ...others };
    try {
      const { messages } = await readDirectly(this.#nats, 'EVENTS', query);
      return messages.flatMap(
        (message) => toStored(message.sequence, message.subject, message.timestampMs, message) ?? [],
      );
    } catch (error) {
      throw new StoreUnavailableError(errorMessage(error), { cause: error });
    }
  }

  /** Reads one message after the other: the leader has no batch reads, and callers lack few commits. */
  async tailFromLeader(
    unit: string,
    after: number,
    limit = Number.POSITIVE_INFINITY,
  ): Promise<readonly StoredMessage[]> {
    const tail: StoredMessage[] = [];
    const filter = unitEventsFilter(unit);
    try {
      for (let sequence = after + 1; tail.length < limit; ) {
        const message = await readFromLeader(this.#nats, 'EVENTS', { seq: sequence, next_by_subj: filter });
        if (message === undefined) return tail;
        const stored = toStored(message.sequence, message.subject, message.timestampMs, message);
        if (stored !== undefined) tail.push(stored);
        sequence = message.sequence + 1;
      }
      return tail;
    } catch (error) {
      throw new StoreUnavailableError(errorMessage(error), { cause: error });
    }
  }

  async #tail(filter: string, after: number): Promise<StoredMessage[]> {
    const tail: StoredMessage[] = [];
    try {
      for (let sequence = after + 1; ; ) {
        const page = await readDirectly(this.#nats, 'EVENTS', { sequence, filter, limit: TAIL_READ_MESSAGES });
        for (const message of page.messages) {
          const stored = toStored(message.sequence, message.subject, message.timestampMs, message);
          if (stored !== undefined) tail.push(stored);
        }
        const last = page.messages.at(-1);
        if (last === undefined || !page.more) return tail;
        sequence = last.sequence + 1;
      }
    } catch (error) {
      throw new StoreUnavailableError(errorMessage(error), { cause: error });
    }
  }

  async lastSequenceOf(unit: string): Promise<number> {
    return (await this.#lastOn(unitEventsFilter(unit)))?.sequence ?? 0;
  }

  async lastSequence(): Promise<number> {
    try {
      const { state } = await api<{ state: { last_seq: number } }>(this.#nats, 'STREAM.INFO.EVENTS');
      return state.last_seq;
    } catch (error) {
      throw new StoreUnavailableError(errorMessage(error), { cause: error });
    }
  }

  read(options: ReadOptions): AsyncIterable<StoredMessage> {
    return this.#each(options, { headersOnly: false, pull: READ_AHEAD }, (message) =>
      toStored(message.sequence, message.subject, message.timestampMs, message),
    );
  }

  watch(options: ReadOptions): AsyncIterable<Notice> {
    return this.#each(options, { headersOnly: true, pull: WATCH_AHEAD }, noticeOf);
  }

  async *#each<M>(
    { after, signal, onAlarm }: ReadOptions,
    how: Pick<StreamReading, 'headersOnly' | 'pull'>,
    toMessage: (message: StreamMessage) => M | undefined,
  ): AsyncIterable<M> {
    let expected = after + 1;
    try {
      for await (const message of readStream(this.#nats, 'EVENTS', { after, signal, ...how })) {
        const { sequence, subject } = message;
        if (sequence !== expected)
          throw new GapError(
            `The stream EVENTS has no message ${expected}: the next one is ${sequence}. The store has lost data.`,
          );
        expected += 1;
        const stored = toMessage(message);
        if (stored === undefined) onAlarm({ sequence, reason: `${subject} is not the subject of a commit` });
        else yield stored;
      }
    } catch (error) {
      if (!(error instanceof NatsUnavailableError) && !(error instanceof JetStreamError)) throw error;
      throw new StoreUnavailableError(`The stream EVENTS cannot be read: ${errorMessage(error)}`, { cause: error });
    }
  }
}

function noticeOf({ subject, sequence }: StreamMessage): Notice | undefined {
  const parsed = parseEventSubject(subject);
  return parsed === undefined ? undefined : { ...parsed, sequence };
}

function toStored(
  sequence: number,
  subject: string,
  recordedAtMs: number,
  content: { readonly data: Uint8Array; header(name: string): string | undefined },
): StoredMessage | undefined {
  const parsed = parseEventSubject(subject);
  if (parsed === undefined) return undefined;
  let events: readonly CloudEvent[] | undefined;
  return {
    ...parsed,
    sequence,
    recordedAtMs,
    bytes: content.data.length,
    // Parsed on demand: few readers use it, and parsing headers is slow.
    get commandId() {
      return content.header('Nats-Msg-Id') ?? '';
    },
    events: () => {
      events ??= decodeCommit(new TextDecoder().decode(content.data));
      return events;
    },
  };
}

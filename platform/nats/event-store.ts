/** The event store in JetStream: one commit is one message of the stream `EVENTS`, guarded by its subject's sequence. */

import type { Consumer, ConsumerMessages, JsMsg } from 'nats';
import { DeliverPolicy } from 'nats';
import type { CloudEvent } from '../../domain/envelope.ts';
import {
  type Append,
  type Appended,
  ConcurrencyError,
  decodeCommit,
  type EventStore,
  encodeCommit,
  GapError,
  type ReadOptions,
  type StoredMessage,
  StoreUnavailableError,
} from '../event-store/store.ts';
import { messageOf } from '../message-of.ts';
import { type Nats, NatsUnavailableError } from './connection.ts';
import { GroupCommit, StoreOverloadedError } from './group-commit.ts';
import { api, JetStreamError, readDirectly } from './jetstream.ts';
import { eventSubject, parseEventSubject, unitEventsFilter } from './subjects.ts';

const CONTENT_TYPE = 'application/cloudevents-batch+json';
/** Messages that one direct read brings; a longer tail is read in several. */
const TAIL_READ_MESSAGES = 256;
/** Messages that the reader asks for ahead of the one it works on. */
const READ_AHEAD_MESSAGES = 2_000;
const NS_PER_MS = 1_000_000;

/** The expected last sequence of the subject does not match; on an unreplicated stream also for a repeated append. */
const WRONG_LAST_SEQUENCE = 10071;
/** A message of an atomic batch has an id that was stored before. */
const DUPLICATE_IN_BATCH = 10201;

export class NatsEventStore implements EventStore {
  readonly #nats: Nats;
  readonly #commits: GroupCommit;

  /** `newId` makes ids of atomic batches, unique in the stream. */
  constructor(nats: Nats, newId: () => string) {
    this.#nats = nats;
    this.#commits = new GroupCommit(nats, newId);
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
      const { seq, duplicate } = await this.#commits.store(message);
      return { sequence: seq, duplicate };
    } catch (error) {
      if (error instanceof StoreOverloadedError) throw new StoreUnavailableError(error.message, { cause: error });
      return this.#afterFailure(append, error);
    }
  }

  /** The append may have succeeded all the same: its own id in the tail of the subject tells. */
  async #afterFailure(append: Append, error: unknown): Promise<Appended> {
    const lostRace =
      error instanceof JetStreamError && (error.code === WRONG_LAST_SEQUENCE || error.code === DUPLICATE_IN_BATCH);
    if (!lostRace && !(error instanceof NatsUnavailableError)) {
      throw new StoreUnavailableError(`the store refused: ${messageOf(error)}`, { cause: error });
    }
    const subject = eventSubject(append.unit, append.aggregate);
    const own = (await this.#tail(subject, append.expectedSequence)).find(
      (message) => message.commandId === append.commandId,
    );
    if (own !== undefined) return { sequence: own.sequence, duplicate: true };
    if (lostRace) throw new ConcurrencyError(`another commit came after ${append.expectedSequence} on ${subject}`);
    throw new StoreUnavailableError(messageOf(error), { cause: error });
  }

  tail(unit: string, after: number): Promise<readonly StoredMessage[]> {
    return this.#tail(unitEventsFilter(unit), after);
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
      throw new StoreUnavailableError(messageOf(error), { cause: error });
    }
  }

  async lastSequence(): Promise<number> {
    try {
      const { state } = await api<{ state: { last_seq: number } }>(this.#nats, 'STREAM.INFO.EVENTS');
      return state.last_seq;
    } catch (error) {
      throw new StoreUnavailableError(messageOf(error), { cause: error });
    }
  }

  async *read({ after, signal, onAlarm }: ReadOptions): AsyncIterable<StoredMessage> {
    const messages = await this.#follow(after);
    const stop = () => messages.stop();
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    let expected = after + 1;
    try {
      for await (const message of messages) {
        if (message.seq !== expected) throw new GapError(`EVENTS ${expected} is missing, ${message.seq} came instead`);
        expected += 1;
        const stored = fromJsMsg(message);
        if (stored === undefined) onAlarm({ sequence: message.seq, reason: `no commit subject: ${message.subject}` });
        else yield stored;
      }
    } finally {
      signal.removeEventListener('abort', stop);
      stop();
    }
  }

  async #follow(after: number): Promise<ConsumerMessages> {
    try {
      const consumer: Consumer = await this.#nats.client
        .jetstream()
        .consumers.get('EVENTS', { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: after + 1 });
      return await consumer.consume({ max_messages: READ_AHEAD_MESSAGES });
    } catch (error) {
      throw new StoreUnavailableError(`EVENTS cannot be read: ${messageOf(error)}`, { cause: error });
    }
  }
}

function fromJsMsg(message: JsMsg): StoredMessage | undefined {
  return toStored(message.seq, message.subject, Math.floor(message.info.timestampNanos / NS_PER_MS), {
    data: message.data,
    header: (name) => message.headers?.get(name) || undefined,
  });
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
    // Few readers ask for it, and headers are costly to parse.
    get commandId() {
      return content.header('Nats-Msg-Id') ?? '';
    },
    events: () => {
      events ??= decodeCommit(new TextDecoder().decode(content.data));
      return events;
    },
  };
}

/**
 * Reads a stream in order, from a sequence on and without end, with backpressure.
 *
 * The ordered consumer of the `nats` package requests more messages as they arrive, not as they are read, so that a reader
 * slower than the stream would hold all of it in memory. This reader pulls a bounded number of messages and bytes, and pulls
 * again when the caller has read half of them. It acknowledges nothing: the caller knows the last sequence that it read, and
 * begins again behind it when the reader throws.
 */

import { createInbox, type Msg, type MsgHdrs } from 'nats';
import { errorMessage } from '../observability/error-message.ts';
import { type Nats, NatsUnavailableError } from './connection.ts';
import { api } from './jetstream.ts';
import type { StreamName } from './streams.ts';

/** Bounds of one pull. A second pull may be in flight while the caller reads the messages of the first. */
export interface PullBounds {
  readonly messages: number;
  readonly bytes: number;
}

export interface StreamMessage {
  readonly sequence: number;
  readonly subject: string;
  readonly timestampMs: number;
  readonly data: Uint8Array;
  header(name: string): string | undefined;
}

export interface StreamReading {
  /** Messages after this sequence. */
  readonly after: number;
  /** Whether messages arrive without their payload. */
  readonly headersOnly: boolean;
  readonly pull: PullBounds;
  readonly signal: AbortSignal;
}

/** The server ends a pull after this time, even if it is not filled; the reader then pulls again. */
const PULL_EXPIRES_MS = 30_000;
/** Interval of the server's heartbeats while a pull is in flight. */
const HEARTBEAT_MS = 5_000;
const SILENCE_MS = 2.5 * HEARTBEAT_MS;
/** The server deletes the consumer of a reader that has not pulled for this time. */
const INACTIVE_MS = 60_000;
const NS_PER_MS = 1_000_000;
const STATUS_HEARTBEAT = 100;
const STATUS_DONE = new Set([404, 408]);
const STATUS_ENDED = 409;
/** The description of status 409 when a pull has used up its bytes or its messages. */
const PULL_FILLED = /exceeds maxbytes|batch completed/i;

/**
 * Yields the messages of a stream until the signal aborts.
 * @throws NatsUnavailableError when the connection or the consumer fails, or a message is lost on the way
 */
export async function* readStream(
  nats: Nats,
  stream: StreamName,
  reading: StreamReading,
): AsyncGenerator<StreamMessage> {
  const consumer = await createConsumer(nats, stream, reading);
  const pulls = new PullBuffer(nats, `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, reading.pull);
  const stop = () => pulls.stop();
  reading.signal.addEventListener('abort', stop, { once: true });
  if (reading.signal.aborted) stop();
  try {
    for (;;) {
      const message = pulls.next() ?? (await pulls.waitForNext());
      if (message === undefined) return;
      yield message;
    }
  } finally {
    reading.signal.removeEventListener('abort', stop);
    stop();
    api(nats, `CONSUMER.DELETE.${stream}.${consumer}`).catch(() => undefined);
  }
}

async function createConsumer(nats: Nats, stream: StreamName, { after, headersOnly }: StreamReading): Promise<string> {
  const config = {
    deliver_policy: 'by_start_sequence',
    opt_start_seq: after + 1,
    ack_policy: 'none',
    replay_policy: 'instant',
    headers_only: headersOnly,
    mem_storage: true,
    num_replicas: 1,
    inactive_threshold: INACTIVE_MS * NS_PER_MS,
  };
  const { name } = await api<{ name: string }>(nats, `CONSUMER.CREATE.${stream}`, { stream_name: stream, config });
  return name;
}

/** Messages that were pulled and that the caller has not read yet. */
class PullBuffer {
  readonly #nats: Nats;
  readonly #subject: string;
  readonly #bounds: PullBounds;
  readonly #inbox = createInbox();
  readonly #subscription: { unsubscribe(): void };
  readonly #unwatch: () => void;
  /** The number of the last message that arrived, as the server counts what it sends to this consumer. */
  #lastNumber = 0;
  #queue: StreamMessage[] = [];
  #read = 0;
  /** Messages that the pull in flight may still bring; 0 when no pull is in flight. */
  #outstanding = 0;
  #arrived = Promise.withResolvers<void>();
  #failure: Error | undefined;
  #stopped = false;
  #silence: ReturnType<typeof setTimeout> | undefined;

  constructor(nats: Nats, subject: string, bounds: PullBounds) {
    this.#nats = nats;
    this.#subject = subject;
    this.#bounds = bounds;
    this.#subscription = nats.client.subscribe(this.#inbox, {
      callback: (error, message) => (error === null ? this.#receive(message) : this.#fail(errorMessage(error))),
    });
    // Messages that the server sent while the connection was down are lost, and the server does not send them again.
    this.#unwatch = nats.onConnection(() => this.#fail('the connection was lost'));
    this.#pull();
  }

  /** The next message; undefined when none has arrived yet. */
  next(): StreamMessage | undefined {
    if (this.#stopped) return undefined;
    const message = this.#queue[this.#read];
    if (message === undefined) return undefined;
    this.#read += 1;
    if (this.#read * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#read);
      this.#read = 0;
      if (this.#outstanding === 0) this.#pull();
    }
    return message;
  }

  /** Waits for the next message; undefined after `stop`. @throws NatsUnavailableError */
  async waitForNext(): Promise<StreamMessage | undefined> {
    for (;;) {
      if (this.#stopped) return undefined;
      const message = this.next();
      if (message !== undefined) return message;
      if (this.#failure !== undefined) throw this.#failure;
      await this.#arrived.promise;
    }
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#silence);
    this.#subscription.unsubscribe();
    this.#unwatch();
    this.#wake();
  }

  #pull(): void {
    if (this.#stopped || this.#failure !== undefined) return;
    this.#outstanding = this.#bounds.messages;
    const request = {
      batch: this.#bounds.messages,
      max_bytes: this.#bounds.bytes,
      expires: PULL_EXPIRES_MS * NS_PER_MS,
      idle_heartbeat: HEARTBEAT_MS * NS_PER_MS,
    };
    try {
      if (!this.#nats.connected) throw new NatsUnavailableError('the connection to NATS is down');
      this.#nats.client.publish(this.#subject, JSON.stringify(request), { reply: this.#inbox });
      this.#restartSilenceTimer();
    } catch (error) {
      this.#fail(errorMessage(error));
    }
  }

  #receive(message: Msg): void {
    this.#restartSilenceTimer();
    if (message.subject === this.#inbox) this.#handleStatus(message.headers);
    else this.#enqueue(message);
  }

  #enqueue(message: Msg): void {
    const delivery = deliveryOf(message.reply ?? '');
    if (delivery.number !== this.#lastNumber + 1)
      this.#fail(`message ${this.#lastNumber + 1} of the consumer was lost on the way`);
    if (this.#failure !== undefined) return;
    this.#lastNumber = delivery.number;
    this.#queue.push(toStreamMessage(message, delivery));
    this.#outstanding -= 1;
    this.#wake();
    if (this.#outstanding === 0 && this.#read * 2 >= this.#queue.length) this.#pull();
  }

  #handleStatus(headers: MsgHdrs | undefined): void {
    const code = headers?.code ?? 0;
    const description = headers?.description ?? '';
    if (code === STATUS_HEARTBEAT) return;
    const done = STATUS_DONE.has(code) || (code === STATUS_ENDED && PULL_FILLED.test(description));
    if (!done) this.#fail(`status ${code} ${description}`);
    this.#outstanding = 0;
    if (this.#queue.length === 0) this.#pull();
  }

  /** While a pull is in flight, the server sends messages or heartbeats; the reader fails when neither arrives in time. */
  #restartSilenceTimer(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      if (this.#outstanding > 0) this.#fail(`the server sent neither messages nor heartbeats for ${SILENCE_MS} ms`);
    }, SILENCE_MS);
  }

  #fail(reason: string): void {
    this.#failure ??= new NatsUnavailableError(`Reading a stream failed: ${reason}.`);
    this.#wake();
  }

  #wake(): void {
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers<void>();
  }
}

interface Delivery {
  readonly sequence: number;
  /** Counts the messages that the server sent to this consumer, from 1. */
  readonly number: number;
  readonly timestampMs: number;
}

/** `$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.NUMBER.TIME.PENDING`, with a domain in front and a token behind: twelve parts. */
function deliveryOf(reply: string): Delivery {
  const parts = reply.split('.');
  const behind = parts.length > 9 ? 1 : 0;
  const fromEnd = (index: number) => Number(parts[parts.length - index - behind]);
  return { sequence: fromEnd(4), number: fromEnd(3), timestampMs: Math.floor(fromEnd(2) / NS_PER_MS) };
}

function toStreamMessage(message: Msg, { sequence, timestampMs }: Delivery): StreamMessage {
  const { subject, data } = message;
  return { sequence, subject, timestampMs, data, header: (name) => message.headers?.get(name) || undefined };
}

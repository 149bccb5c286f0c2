/**
 * Reads a stream from a place on, in order and without end, at the pace of whoever reads.
 *
 * The ordered consumer of the `nats` package asks for more as messages arrive, not as they are read: a reader that is slower
 * than the stream would have all of it in memory. Here a pull asks for a bounded part, and the next one goes out when half of
 * the last has been read. Nothing is acknowledged: a reader knows where it is, and begins again there when anything breaks.
 */

import { createInbox, type Msg, type MsgHdrs } from 'nats';
import { errorMessage } from '../observability/error-message.ts';
import { type Nats, NatsUnavailableError } from './connection.ts';
import { api } from './jetstream.ts';
import type { StreamName } from './streams.ts';

/** What one pull asks for; a second one may be on the way while it is read. */
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
  /** Leave the payloads where they are. */
  readonly headersOnly: boolean;
  readonly pull: PullBounds;
  readonly signal: AbortSignal;
}

/** A pull that is not filled ends after this long, and another follows. */
const PULL_EXPIRES_MS = 30_000;
/** The server says this often that it is there. */
const HEARTBEAT_MS = 5_000;
const SILENCE_MS = 2.5 * HEARTBEAT_MS;
/** The server forgets a reader that has not pulled for so long. */
const INACTIVE_MS = 60_000;
const NS_PER_MS = 1_000_000;
const STATUS_HEARTBEAT = 100;
const STATUS_DONE = new Set([404, 408]);
const STATUS_ENDED = 409;
/** A pull ends with this when its bytes are spent, or its messages. */
const SPENT = /exceeds maxbytes|batch completed/i;

/** @throws NatsUnavailableError when anything breaks: begin again behind the last message. */
export async function* readStream(
  nats: Nats,
  stream: StreamName,
  reading: StreamReading,
): AsyncGenerator<StreamMessage> {
  const consumer = await createConsumer(nats, stream, reading);
  const pulls = new Pulls(nats, `$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, reading.pull);
  const stop = () => pulls.stop();
  reading.signal.addEventListener('abort', stop, { once: true });
  if (reading.signal.aborted) stop();
  try {
    for (;;) {
      const message = pulls.next() ?? (await pulls.arrival());
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

/** What was pulled and has not been read yet. */
class Pulls {
  readonly #nats: Nats;
  readonly #subject: string;
  readonly #bounds: PullBounds;
  readonly #inbox = createInbox();
  readonly #subscription: { unsubscribe(): void };
  readonly #unwatch: () => void;
  /** Counts what the server has sent to this reader. */
  #sent = 0;
  #queue: StreamMessage[] = [];
  #read = 0;
  /** Messages that the pull on the way may still bring; 0 when there is none. */
  #asked = 0;
  #arrived = Promise.withResolvers<void>();
  #failure: Error | undefined;
  #stopped = false;
  #silence: ReturnType<typeof setTimeout> | undefined;

  constructor(nats: Nats, subject: string, bounds: PullBounds) {
    this.#nats = nats;
    this.#subject = subject;
    this.#bounds = bounds;
    this.#subscription = nats.client.subscribe(this.#inbox, {
      callback: (error, message) => (error === null ? this.#hear(message) : this.#fail(errorMessage(error))),
    });
    // What the server sent meanwhile is gone, and it does not know.
    this.#unwatch = nats.onConnection(() => this.#fail('the connection was lost'));
    this.#pull();
  }

  /** The next message, if there is one already. */
  next(): StreamMessage | undefined {
    if (this.#stopped) return undefined;
    const message = this.#queue[this.#read];
    if (message === undefined) return undefined;
    this.#read += 1;
    if (this.#read * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#read);
      this.#read = 0;
      if (this.#asked === 0) this.#pull();
    }
    return message;
  }

  /** Waits for the next message; `undefined` when it was stopped. @throws NatsUnavailableError */
  async arrival(): Promise<StreamMessage | undefined> {
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
    this.#asked = this.#bounds.messages;
    const request = {
      batch: this.#bounds.messages,
      max_bytes: this.#bounds.bytes,
      expires: PULL_EXPIRES_MS * NS_PER_MS,
      idle_heartbeat: HEARTBEAT_MS * NS_PER_MS,
    };
    try {
      if (!this.#nats.connected) throw new NatsUnavailableError('the connection to NATS is down');
      this.#nats.client.publish(this.#subject, JSON.stringify(request), { reply: this.#inbox });
      this.#listen();
    } catch (error) {
      this.#fail(errorMessage(error));
    }
  }

  #hear(message: Msg): void {
    this.#listen();
    if (message.subject === this.#inbox) this.#hearStatus(message.headers);
    else this.#take(message);
  }

  #take(message: Msg): void {
    const place = placeOf(message.reply ?? '');
    if (place.number !== this.#sent + 1) this.#fail(`of what was sent, ${this.#sent + 1} has not arrived`);
    if (this.#failure !== undefined) return;
    this.#sent = place.number;
    this.#queue.push(toStreamMessage(message, place));
    this.#asked -= 1;
    this.#wake();
    if (this.#asked === 0 && this.#read * 2 >= this.#queue.length) this.#pull();
  }

  #hearStatus(headers: MsgHdrs | undefined): void {
    const code = headers?.code ?? 0;
    const description = headers?.description ?? '';
    if (code === STATUS_HEARTBEAT) return;
    const done = STATUS_DONE.has(code) || (code === STATUS_ENDED && SPENT.test(description));
    if (!done) this.#fail(`status ${code} ${description}`);
    this.#asked = 0;
    if (this.#queue.length === 0) this.#pull();
  }

  /** While a pull is on the way, the server is heard of, or it is gone. */
  #listen(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      if (this.#asked > 0) this.#fail('the server has fallen silent');
    }, SILENCE_MS);
  }

  #fail(reason: string): void {
    this.#failure ??= new NatsUnavailableError(`reading a stream: ${reason}`);
    this.#wake();
  }

  #wake(): void {
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers<void>();
  }
}

interface Place {
  readonly sequence: number;
  /** Of the messages that were sent to this consumer, from 1. */
  readonly number: number;
  readonly timestampMs: number;
}

/** `$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.NUMBER.TIME.PENDING`, with a domain in front and a token behind: twelve parts. */
function placeOf(reply: string): Place {
  const parts = reply.split('.');
  const behind = parts.length > 9 ? 1 : 0;
  const fromEnd = (index: number) => Number(parts[parts.length - index - behind]);
  return { sequence: fromEnd(4), number: fromEnd(3), timestampMs: Math.floor(fromEnd(2) / NS_PER_MS) };
}

function toStreamMessage(message: Msg, { sequence, timestampMs }: Place): StreamMessage {
  const { subject, data } = message;
  return { sequence, subject, timestampMs, data, header: (name) => message.headers?.get(name) || undefined };
}

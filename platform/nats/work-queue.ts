/** Durable consumers: messages that are handled at least once, a bounded number at a time. */

import { AckPolicy, type ConsumerConfig, type ConsumerMessages, DeliverPolicy, type JsMsg } from 'nats';
import { errorMessage } from '../observability/error-message.ts';
import type { Log } from '../observability/log.ts';
import type { Nats } from './connection.ts';
import { api, JetStreamError } from './jetstream.ts';
import type { OrderedAcks } from './ordered-acks.ts';
import type { StreamName } from './streams.ts';

const DEFAULT_ACK_WAIT_MS = 30_000;
/** Pause before a message that could not be handled comes again. */
const RETRY_DELAY_MS = 1_000;
/** Pause before a consumer that broke off begins again. */
const RESTART_DELAY_MS = 500;
const NS_PER_MS = 1_000_000;

export interface WorkMessage {
  readonly subject: string;
  readonly data: Uint8Array;
  /** Sequence in the stream. */
  readonly sequence: number;
  /** How often it was delivered, 1 the first time. */
  readonly deliveries: number;
  readonly storedAtMs: number;
  header(name: string): string | undefined;
}

/** `done` acknowledges; `retryInMs` asks for the message again after that time. */
export type WorkResult = 'done' | { readonly retryInMs: number };

export interface WorkerOptions {
  readonly stream: StreamName;
  readonly durable: string;
  readonly filters: readonly string[];
  /** After this long without an acknowledgement a message is delivered again. @default 30_000 */
  readonly ackWaitMs?: number;
  /** Messages that are worked on at once. */
  readonly maxPending: number;
  /** Leave the payloads where they are: `data` is empty. @default false */
  readonly headersOnly?: boolean;
  /**
   * Messages that are delivered and not acknowledged: those that are worked on, and those that were put off.
   * @default maxPending
   */
  readonly maxPutOff?: number;
  /**
   * Keep the consumer's own state in memory: its file costs several syncs each time, beside those of the messages. For streams
   * that delete what is acknowledged: after NATS was started again, what is left comes again, and counts as new.
   * @default false
   */
  readonly forgetful?: boolean;
  /** Acknowledges in the order of the stream, for all the consumers that share it. @default each message when it is done */
  readonly acks?: OrderedAcks;
  /** Must not keep anything of the message when it throws: the message comes again. */
  readonly handle: (message: WorkMessage) => Promise<WorkResult>;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Handles messages until `signal` ends it, then waits for those under way. Comes back by itself after NATS was away. */
export async function work(nats: Nats, options: WorkerOptions): Promise<void> {
  const { signal, sleep, log, durable } = options;
  const underWay = new Set<Promise<void>>();
  while (!signal.aborted) {
    try {
      await consume(nats, options, underWay);
    } catch (error) {
      if (!signal.aborted) log.warn(`consumer ${durable} broke off`, { reason: errorMessage(error) });
    }
    if (!signal.aborted) await sleep(RESTART_DELAY_MS);
  }
  await Promise.all(underWay);
}

async function consume(nats: Nats, options: WorkerOptions, underWay: Set<Promise<void>>): Promise<void> {
  const { stream, durable, signal, maxPending } = options;
  await ensureConsumer(nats, options);
  const consumer = await nats.client.jetstream().consumers.get(stream, durable);
  const messages: ConsumerMessages = await consumer.consume({ max_messages: maxPending });
  const stop = () => messages.stop();
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    for await (const message of messages) {
      const handled = handleOne(message, options).finally(() => underWay.delete(handled));
      underWay.add(handled);
      if (underWay.size >= maxPending) await Promise.race(underWay);
    }
  } finally {
    signal.removeEventListener('abort', stop);
    stop();
  }
}

async function handleOne(message: JsMsg, { handle, log, durable, acks }: WorkerOptions): Promise<void> {
  try {
    const result = await handle({
      subject: message.subject,
      data: message.data,
      sequence: message.seq,
      deliveries: message.info.redeliveryCount,
      storedAtMs: Math.floor(message.info.timestampNanos / NS_PER_MS),
      header: (name) => message.headers?.get(name) || undefined,
    });
    if (result !== 'done') message.nak(result.retryInMs);
    else if (acks === undefined) message.ack();
    else acks.add(message);
  } catch (error) {
    log.warn(`${durable} could not handle a message, it comes again`, { sequence: message.seq, error });
    message.nak(RETRY_DELAY_MS);
  }
}

async function ensureConsumer(nats: Nats, options: WorkerOptions): Promise<void> {
  const {
    stream,
    durable,
    filters,
    maxPending,
    maxPutOff = maxPending,
    forgetful = false,
    headersOnly = false,
  } = options;
  const config: Partial<ConsumerConfig> = {
    durable_name: durable,
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    ack_wait: (options.ackWaitMs ?? DEFAULT_ACK_WAIT_MS) * NS_PER_MS,
    max_ack_pending: Math.max(maxPending, maxPutOff),
    filter_subjects: [...filters],
    mem_storage: forgetful,
    headers_only: headersOnly,
  };
  const create = () => api(nats, `CONSUMER.CREATE.${stream}.${durable}`, { stream_name: stream, config });
  try {
    await create();
  } catch (error) {
    if (!forgetful || !(error instanceof JetStreamError)) throw error;
    // Where a consumer keeps its state cannot be changed. One that may forget can be made anew.
    await api(nats, `CONSUMER.DELETE.${stream}.${durable}`);
    await create();
  }
}

/** Durable consumers of work queues: each message is handled at least once, and a bounded number of them concurrently. */

import { AckPolicy, type ConsumerConfig, type ConsumerMessages, DeliverPolicy, type JsMsg } from 'nats';
import { errorMessage } from '../observability/error-message.ts';
import type { Log } from '../observability/log.ts';
import type { Nats } from './connection.ts';
import { api, JetStreamError } from './jetstream.ts';
import type { OrderedAcks } from './ordered-acks.ts';
import type { StreamName } from './streams.ts';

const DEFAULT_ACK_WAIT_MS = 30_000;
/** When a handler throws, the server delivers the message again after this time. */
const RETRY_DELAY_MS = 1_000;
/** Pause before a consumer that failed is started again. */
const RESTART_DELAY_MS = 500;
const NS_PER_MS = 1_000_000;

export interface WorkMessage {
  readonly subject: string;
  readonly data: Uint8Array;
  /** Sequence in the stream. */
  readonly sequence: number;
  /** How often the message was delivered, including this time. */
  readonly deliveries: number;
  readonly storedAtMs: number;
  header(name: string): string | undefined;
}

/** `done`: the message is acknowledged. `retryInMs`: the server delivers it again after that time. */
export type WorkResult = 'done' | { readonly retryInMs: number };

export interface WorkerOptions {
  readonly stream: StreamName;
  readonly durable: string;
  readonly filters: readonly string[];
  /** The server delivers a message again that is not acknowledged within this time. @default 30_000 */
  readonly ackWaitMs?: number;
  /** Messages that are handled concurrently. */
  readonly maxConcurrent: number;
  /** Whether messages arrive without their payload, so that `data` is empty. @default false */
  readonly headersOnly?: boolean;
  /**
   * Messages that the server has delivered and that are not acknowledged: those that are being handled, and those that wait
   * for their `retryInMs`.
   * @default maxConcurrent
   */
  readonly maxUnacknowledged?: number;
  /**
   * Whether the server keeps the state of the consumer in memory: a state file costs several syncs a change. Suits streams that
   * delete acknowledged messages: after a restart of NATS, the remaining messages are delivered again and count as new.
   * @default false
   */
  readonly isStateInMemory?: boolean;
  /** Acknowledges messages in the order of the stream, for all consumers that share it. @default each message when it is done */
  readonly acks?: OrderedAcks;
  /** Must be idempotent, because a message is delivered again when it throws. */
  readonly handle: (message: WorkMessage) => Promise<WorkResult>;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/**
 * Handles messages until `signal` aborts, then waits for the handlers that still run. Restarts the consumer when it fails, and
 * after each reconnection: a restarted NATS has lost the consumers whose state it kept in memory.
 */
export async function consumeWork(nats: Nats, options: WorkerOptions): Promise<void> {
  const { signal, sleep, log, durable } = options;
  const running = new Set<Promise<void>>();
  while (!signal.aborted) {
    try {
      await consume(nats, options, running);
    } catch (error) {
      if (!signal.aborted)
        log.warn(`The consumer ${durable} failed and is restarted.`, { reason: errorMessage(error) });
    }
    if (!signal.aborted) await sleep(RESTART_DELAY_MS);
  }
  await Promise.all(running);
}

async function consume(nats: Nats, options: WorkerOptions, running: Set<Promise<void>>): Promise<void> {
  const { stream, durable, signal, maxConcurrent } = options;
  await ensureConsumer(nats, options);
  const consumer = await nats.client.jetstream().consumers.get(stream, durable);
  // Without this option the client polls a deleted consumer every 30 s forever, and `consumeWork` does not create it again.
  const messages: ConsumerMessages = await consumer.consume({
    max_messages: maxConcurrent,
    abort_on_missing_resource: true,
  });
  const stop = () => messages.stop();
  signal.addEventListener('abort', stop, { once: true });
  // After a reconnection the client requests messages once, and again only after 30 s if JetStream was not ready.
  const unwatch = nats.onConnection((isConnected) => {
    if (isConnected) stop();
  });
  if (signal.aborted) stop();
  try {
    for await (const message of messages) {
      const handled = handleOne(message, options).finally(() => running.delete(handled));
      running.add(handled);
      if (running.size >= maxConcurrent) await Promise.race(running);
    }
  } finally {
    signal.removeEventListener('abort', stop);
    unwatch();
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
    log.warn(`The consumer ${durable} could not handle a message; NATS delivers it again.`, {
      sequence: message.seq,
      error,
    });
    message.nak(RETRY_DELAY_MS);
  }
}

async function ensureConsumer(nats: Nats, options: WorkerOptions): Promise<void> {
  const {
    stream,
    durable,
    filters,
    maxConcurrent,
    maxUnacknowledged = maxConcurrent,
    isStateInMemory = false,
    headersOnly = false,
  } = options;
  const config: Partial<ConsumerConfig> = {
    durable_name: durable,
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    ack_wait: (options.ackWaitMs ?? DEFAULT_ACK_WAIT_MS) * NS_PER_MS,
    max_ack_pending: Math.max(maxConcurrent, maxUnacknowledged),
    filter_subjects: [...filters],
    mem_storage: isStateInMemory,
    headers_only: headersOnly,
  };
  const create = () => api(nats, `CONSUMER.CREATE.${stream}.${durable}`, { stream_name: stream, config });
  try {
    await create();
  } catch (error) {
    if (!isStateInMemory || !(error instanceof JetStreamError)) throw error;
    // The server refuses to move the state of a consumer to memory. A consumer whose state may be lost is deleted and created.
    await api(nats, `CONSUMER.DELETE.${stream}.${durable}`);
    await create();
  }
}

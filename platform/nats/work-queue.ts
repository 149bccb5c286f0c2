/**
 * Durable consumers of work queues: each message is handled at least once, and no unit takes the places of others.
 *
 * How it works. A handler answers that a message is done, that it waits, that it is retried by a schedule, or that its work is
 * parked. An error that it throws is classified by the table in `work-failures.ts`. A message that waits goes back to NATS, which
 * delivers it again after the pause; parked work is stored in Postgres and then acknowledged (`parked-work.ts`). Units take turns
 * (`unit-lanes.ts`).
 *
 * Invariants. A message is acknowledged only when it is handled, when its work is parked durably, or when a later message of its
 * unit stands for it. A unit has at most `MAX_PLACES_PER_UNIT` unacknowledged messages; further ones are parked. While a handler
 * runs or a message waits for its turn, the consumer tells NATS so every `HEARTBEAT_MS`. After a kill, another process therefore
 * takes the messages over within `DEFAULT_ACK_WAIT_MS`.
 */

import { AckPolicy, type ConsumerConfig, type ConsumerMessages, DeliverPolicy } from 'nats';
import { errorMessage } from '../observability/error-message.ts';
import type { Log } from '../observability/log.ts';
import type { Nats } from './connection.ts';
import { api, JetStreamError } from './jetstream.ts';
import type { OrderedAcks } from './ordered-acks.ts';
import { type ParkedWork, retryParkedWork } from './parked-work.ts';
import type { StreamName } from './streams.ts';
import type { RetrySchedule } from './work-failures.ts';
import { WorkRunner } from './work-runner.ts';

/** NATS delivers a message again after this time without an acknowledgement or a heartbeat. */
const DEFAULT_ACK_WAIT_MS = 5_000;
/** Pause between the heartbeats of held messages. Two may be lost before NATS delivers a message again. */
const HEARTBEAT_MS = 1_500;
/** Pause before a consumer that failed is started again. */
const RESTART_DELAY_MS = 500;
/** Unacknowledged messages of a consumer that hands a unit's newest message to the handler: about one for each unit that waits. */
const MAX_UNACKNOWLEDGED_UNITS = 16_384;
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

/**
 * - `done`: the message is acknowledged.
 * - `retryInMs`: the work is not due yet. The handler runs again after that time; this is no failure.
 * - `retry`: the work failed for `reason`. It is retried by the schedule, and then parked or dropped as the schedule says.
 * - `park`: no retry within minutes can succeed. The work is stored for operators with the reason, and retried at a slow pace.
 */
export type WorkResult =
  | 'done'
  | { readonly retryInMs: number }
  | { readonly retry: RetrySchedule; readonly reason: string }
  | { readonly park: string };

export interface WorkerOptions {
  readonly stream: StreamName;
  readonly durable: string;
  /** The name under which work is parked and counted. @default durable */
  readonly queue?: string;
  readonly filters: readonly string[];
  /** The server delivers a message again that is neither acknowledged nor held within this time. @default 5_000 */
  readonly ackWaitMs?: number;
  /** Messages that are handled concurrently. */
  readonly maxConcurrent: number;
  /** Messages of one unit that are handled concurrently. @default 1 when `newestOnly`, otherwise maxConcurrent */
  readonly maxConcurrentPerUnit?: number;
  /**
   * Whether the handler reads nothing of a message but its subject and decides on the state of the unit, so that the newest message
   * of a unit stands for the earlier ones that wait. @default false
   */
  readonly newestOnly?: boolean;
  /** Whether messages arrive without their payload, so that `data` is empty. @default false */
  readonly headersOnly?: boolean;
  /** Messages that the process holds at the same time. @default without bound but `maxUnacknowledged` */
  readonly maxHeld?: number;
  /**
   * Messages that the server has delivered and that are not acknowledged: those that are being handled, and those that wait.
   * @default twice maxConcurrent, and 16_384 when `newestOnly`
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
  /** Stores work that is parked. Without it, NATS delivers such a message again every minute. */
  readonly parkedWork?: ParkedWork;
  /** Whether a parked message also stays in the stream, because the stream would delete it with its payload. @default false */
  readonly keepsParkedMessages?: boolean;
  /** Whether this consumer also retries the parked work of its queue. @default true */
  readonly retriesParkedWork?: boolean;
  /** Must be idempotent, because a message is delivered again when it throws. */
  readonly handle: (message: WorkMessage) => Promise<WorkResult>;
  /** From 0 to 1: the jitter of retries. @default Math.random */
  readonly random?: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/**
 * Handles messages until `signal` aborts, then waits for the handlers that still run. Restarts the consumer when it fails, and
 * after each reconnection: a restarted NATS has lost the consumers whose state it kept in memory.
 */
export async function consumeWork(nats: Nats, options: WorkerOptions): Promise<void> {
  const { signal, sleep, log, durable, parkedWork, retriesParkedWork = true } = options;
  const runner = new WorkRunner(nats, options);
  const heartbeat = setInterval(() => runner.sendHeartbeats(), HEARTBEAT_MS);
  const retrying =
    parkedWork === undefined || !retriesParkedWork ? undefined : retryParkedWork(nats, { ...options, parkedWork });
  try {
    while (!signal.aborted) {
      try {
        await consume(nats, options, runner);
      } catch (error) {
        if (!signal.aborted)
          log.warn(`The consumer ${durable} failed and is restarted.`, { reason: errorMessage(error) });
      }
      if (!signal.aborted) await sleep(RESTART_DELAY_MS);
    }
    await Promise.all([runner.stop(), retrying]);
  } finally {
    clearInterval(heartbeat);
  }
}

async function consume(nats: Nats, options: WorkerOptions, runner: WorkRunner): Promise<void> {
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
    for await (const message of messages) await runner.take(message);
  } finally {
    signal.removeEventListener('abort', stop);
    unwatch();
    stop();
  }
}

async function ensureConsumer(nats: Nats, options: WorkerOptions): Promise<void> {
  const { stream, durable, filters, isStateInMemory = false, headersOnly = false } = options;
  const config: Partial<ConsumerConfig> = {
    durable_name: durable,
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    ack_wait: (options.ackWaitMs ?? DEFAULT_ACK_WAIT_MS) * NS_PER_MS,
    max_ack_pending: maxUnacknowledged(options),
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

function maxUnacknowledged({ maxConcurrent, maxUnacknowledged: wanted, newestOnly = false }: WorkerOptions): number {
  return Math.max(maxConcurrent, wanted ?? (newestOnly ? MAX_UNACKNOWLEDGED_UNITS : 2 * maxConcurrent));
}

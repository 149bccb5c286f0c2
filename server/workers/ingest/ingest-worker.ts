/**
 * The ingest worker records the batches that units push: from the stream `UNIT_INBOX` to the `device` subject of each unit, each
 * event once and in order.
 *
 * The worker acknowledges a batch only when the store has all of its events. A batch after a gap stays in the stream, which bounds
 * the messages of each unit, and the worker retries it with exponential backoff until an earlier batch or a fetch (`../fetch/`)
 * closes the gap. The worker records a gap that outlasts a grace period.
 *
 * A load peak waits in the stream instead of memory, because each consumer handles a bounded number of batches concurrently. One
 * consumer serves each first letter of the unit hash. The ingest processes divide the letters among them; two processes may own a
 * letter for a moment, because `UnitLogRecorder` records an event only once.
 */

import { setTimeout } from 'node:timers/promises';
import { MAX_BATCH_EVENTS } from '../../../domain/unit-protocol/batch.ts';
import type { Nats } from '../../../platform/nats/connection.ts';
import { OrderedAcks } from '../../../platform/nats/ordered-acks.ts';
import { type ParkedWork, retryParkedWork } from '../../../platform/nats/parked-work.ts';
import { MAX_INBOX_BATCHES_PER_UNIT } from '../../../platform/nats/streams.ts';
import { unitOfUnitSubject } from '../../../platform/nats/subjects.ts';
import { consumeWork, type WorkMessage, type WorkResult } from '../../../platform/nats/work-queue.ts';
import type { Log } from '../../../platform/observability/log.ts';
import { untilAborted } from '../../../platform/process/until-aborted.ts';
import type { Shards } from '../../../platform/shards/join.ts';
import {
  type ParsedBatch,
  parseBatch,
  RefusedBatchError,
  UnreadableBatchError,
} from '../../../platform/unit-log/batch.ts';
import { DeadLetterLimitError } from '../../../platform/unit-log/dead-letter-store.ts';
import type { RecordedBatch, UnitLogRecorder } from '../../../platform/unit-log/unit-log-recorder.ts';
import { ByteSemaphore } from './byte-semaphore.ts';
import type { IngestAdmission } from './ingest-admission.ts';
import {
  hasEarlierEpochStart,
  isFirstBatchOfEpoch,
  type PendingBatch,
  sortByLogPosition,
  type UnitInbox,
} from './unit-inbox.ts';

/** Letters of the unit hash that name a shard. Each shard has one consumer. */
export const INGEST_SHARD_LETTERS = 1;
/** Batches that one consumer handles concurrently. All consumers together fill the group commits of the store. */
const MAX_CONCURRENT_BATCHES = 4;
/** Bytes of the batches that this process handles concurrently. */
const MAX_CONCURRENT_BYTES = 1024 * 1024;
/**
 * Batches of one consumer that wait for a gap, for the budget of their unit or for an operator: as many as two thousand units may have in
 * the stream. NATS keeps some hundred bytes for each. Beyond it the other units of the letter wait too.
 */
export const MAX_UNACKNOWLEDGED_BATCHES = 2_048 * MAX_INBOX_BATCHES_PER_UNIT;
/** Events that are missing for less than this are no gap, because batches may arrive out of order. */
export const GAP_GRACE_MS = 10_000;
/** Shorter than `GAP_GRACE_MS`, so that NATS redelivers the batches of a killed process before their events count as a gap. */
const ACK_WAIT_MS = 8_000;
/** Exponential backoff of a batch that waits for a gap to close: the pause doubles from the first value to the second. */
const FIRST_GAP_RETRY_MS = 500;
const MAX_GAP_RETRY_MS = 8_000;
/** The name under which the consumers of all letters park work. */
const QUEUE = 'ingest';

export interface IngestWorkerOptions {
  readonly nats: Nats;
  /** The first letters of unit hashes that this process owns. */
  readonly shards: Pick<Shards, 'owned' | 'onChange'>;
  readonly recorder: UnitLogRecorder;
  readonly unitInbox: UnitInbox;
  readonly parkedWork: ParkedWork;
  readonly admission: IngestAdmission;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` aborts, then waits for the running handlers. */
export async function runIngestWorker(options: IngestWorkerOptions): Promise<void> {
  const { shards, signal } = options;
  const shared = {
    acks: new OrderedAcks(options.nats, (ms) => setTimeout(ms)),
    semaphore: new ByteSemaphore(MAX_CONCURRENT_BYTES),
  };
  const retrying = retryParkedWork(options.nats, {
    stream: 'UNIT_INBOX',
    durable: QUEUE,
    ...options,
    handle: (message) => retryMessage(message, options),
  });
  const controllers = new Map<string, AbortController>();
  const consumers = new Set<Promise<void>>();
  const startConsumer = (letter: string) => {
    const stop = new AbortController();
    controllers.set(letter, stop);
    const consumer = consume(letter, shared, { ...options, signal: stop.signal }).finally(() =>
      consumers.delete(consumer),
    );
    consumers.add(consumer);
  };
  const startAndStopConsumers = (owned: readonly string[]) => {
    for (const [letter, stop] of controllers) {
      if (owned.includes(letter)) continue;
      stop.abort();
      controllers.delete(letter);
    }
    for (const letter of owned) if (!controllers.has(letter)) startConsumer(letter);
  };
  const unsubscribe = shards.onChange(startAndStopConsumers);
  startAndStopConsumers(shards.owned());
  await untilAborted(signal);
  unsubscribe();
  startAndStopConsumers([]);
  await Promise.all([...consumers, retrying]);
  await shared.acks.settled();
}

function consume(
  letter: string,
  { acks, semaphore }: { readonly acks: OrderedAcks; readonly semaphore: ByteSemaphore },
  options: IngestWorkerOptions,
): Promise<void> {
  const { nats, parkedWork, signal, sleep, log } = options;
  return consumeWork(nats, {
    stream: 'UNIT_INBOX',
    durable: `ingest-${letter}`,
    queue: QUEUE,
    filters: [`unit.${letter}.*.*.events`],
    ackWaitMs: ACK_WAIT_MS,
    maxConcurrent: MAX_CONCURRENT_BATCHES,
    // Batches wait in the stream, not in memory.
    maxHeld: MAX_CONCURRENT_BATCHES,
    maxUnacknowledged: MAX_UNACKNOWLEDGED_BATCHES,
    isStateInMemory: true,
    acks,
    parkedWork,
    // A parked batch stays in the inbox of its unit, whose bound then slows the unit down.
    keepsParkedMessages: true,
    retriesParkedWork: false,
    handle: (message) => semaphore.run(message.data.length, () => ingestMessage(message, options)),
    signal,
    sleep,
    log,
  });
}

/** A message of the stream that holds one pushed batch. */
export type PushedMessage = Pick<WorkMessage, 'subject' | 'data' | 'sequence' | 'storedAtMs' | 'deliveries'>;

/** What the handler of a message needs. */
export type IngestMessageOptions = Pick<IngestWorkerOptions, 'recorder' | 'unitInbox' | 'admission' | 'clock'>;

/** Records the events of a message up to the first gap. @throws as `UnitLogRecorder.recordBatch`; NATS then delivers the message again */
export async function ingestMessage(message: PushedMessage, options: IngestMessageOptions): Promise<WorkResult> {
  const { admission } = options;
  const unit = unitOfUnitSubject(message.subject) ?? '';
  const waitMs = admission.waitMs(unit);
  if (waitMs > 0) return { retryInMs: waitMs };
  return recordUnlessFull(unit, message, options);
}

/** As `ingestMessage`, for a parked message: an operator may have made room for the unit, so it is tried although the unit is suspended. */
function retryMessage(message: PushedMessage, options: IngestMessageOptions): Promise<WorkResult> {
  return recordUnlessFull(unitOfUnitSubject(message.subject) ?? '', message, options);
}

async function recordUnlessFull(
  unit: string,
  message: PushedMessage,
  options: IngestMessageOptions,
): Promise<WorkResult> {
  const { admission } = options;
  try {
    const result = await recordOrReject(unit, message, options);
    admission.resume(unit);
    return result;
  } catch (error) {
    if (!(error instanceof DeadLetterLimitError)) throw error;
    admission.suspend(unit);
    return { park: error.message };
  }
}

/** Stores a batch that cannot be read, or that is beyond the bounds of the unit's log, as a dead letter. */
async function recordOrReject(
  unit: string,
  message: PushedMessage,
  options: IngestMessageOptions,
): Promise<WorkResult> {
  const { recorder, admission } = options;
  const { data, storedAtMs, sequence } = message;
  try {
    return await recordMessage(unit, message, options);
  } catch (error) {
    if (!(error instanceof UnreadableBatchError || error instanceof RefusedBatchError)) throw error;
    await recorder.recordUnreadableBatch({
      unit,
      messageId: `inbox-${storedAtMs}-${sequence}`,
      receivedAtMs: storedAtMs,
      reason: error.message,
      content: data,
    });
    admission.chargeEvents(unit, MAX_BATCH_EVENTS);
    return 'done';
  }
}

async function recordMessage(unit: string, message: PushedMessage, options: IngestMessageOptions): Promise<WorkResult> {
  const { recorder, admission, clock } = options;
  const { data, storedAtMs, deliveries } = message;
  const batch = parseBatch(unit, data);
  if (await hasEarlierPendingEpoch(batch, message, options)) return { retryInMs: FIRST_GAP_RETRY_MS };
  const { waitingFrom } = await recordInOrder(batch, message, options);
  if (waitingFrom === undefined) {
    admission.chargeEvents(unit, batch.events.length);
    return 'done';
  }
  const ageMs = clock() - storedAtMs;
  if (ageMs >= GAP_GRACE_MS) await recorder.recordGap(unit, batch.epoch, waitingFrom);
  return { retryInMs: gapRetryMs(deliveries, ageMs) };
}

/** Returns the pause before the next attempt at a batch that waits for a gap. One attempt falls on the end of the grace period. */
function gapRetryMs(deliveries: number, ageMs: number): number {
  const pauseMs = Math.min(MAX_GAP_RETRY_MS, FIRST_GAP_RETRY_MS * 2 ** (deliveries - 1));
  if (ageMs >= GAP_GRACE_MS) return pauseMs;
  return Math.min(pauseMs, Math.max(FIRST_GAP_RETRY_MS, GAP_GRACE_MS - ageMs));
}

/**
 * Records a batch, and the pending batches of the unit with it if the batch is redelivered or if it fills a gap. The batches that it
 * waits for may themselves wait for their next delivery. Recording them in log order saves a unit whose batches arrived out of order
 * one retry pause for each batch.
 */
async function recordInOrder(
  batch: ParsedBatch,
  { storedAtMs, deliveries }: PushedMessage,
  { recorder, unitInbox: inbox }: Pick<IngestWorkerOptions, 'recorder' | 'unitInbox'>,
): Promise<RecordedBatch> {
  const { unit, epoch } = batch;
  const hadGap = Object.hasOwn((await recorder.getState(unit)).log.gaps, epoch);
  const recorded = await recorder.recordBatch(batch, storedAtMs);
  const mayAffectOthers = recorded.waitingFrom === undefined ? hadGap : deliveries > 1;
  if (!mayAffectOthers || isFirstBatchOfEpoch(recorded.state.device, epoch)) return recorded;
  for (const other of sortByLogPosition(await inbox.listPendingBatches(unit), epoch)) {
    if ((await recordPending(other, recorder))?.waitingFrom !== undefined) break;
  }
  return recorded.waitingFrom === undefined ? recorded : recorder.recordBatch(batch, storedAtMs);
}

/** Records a pending batch. A batch beyond the bounds of the log is rejected at its own delivery. */
async function recordPending(
  { batch, storedAtMs }: PendingBatch,
  recorder: UnitLogRecorder,
): Promise<RecordedBatch | undefined> {
  try {
    return await recorder.recordBatch(batch, storedAtMs);
  } catch (error) {
    if (error instanceof RefusedBatchError) return undefined;
    throw error;
  }
}

/** Whether the batch begins a new epoch while the first batch of an earlier epoch is still pending. */
async function hasEarlierPendingEpoch(
  { unit, epoch }: ParsedBatch,
  { sequence }: PushedMessage,
  { recorder, unitInbox: inbox }: Pick<IngestWorkerOptions, 'recorder' | 'unitInbox'>,
): Promise<boolean> {
  const { device } = await recorder.getState(unit);
  return (
    isFirstBatchOfEpoch(device, epoch) &&
    hasEarlierEpochStart(await inbox.listPendingBatches(unit), device, { epoch, sequence })
  );
}

/**
 * Ingest: batches that units pushed, from `UNIT_INBOX` to the `device` subject of each unit, exactly once and in order.
 *
 * A batch is acknowledged only when all of it stands in the store. What comes after a gap is put off: it stays in the stream,
 * whose bound per unit is the bound of what waits, and is looked at again until the gap has closed, by an earlier batch or by
 * a fetch (`../fetch/`). A gap that stays is reported after a grace period.
 *
 * Peaks wait in the stream, never in memory: each consumer has a bounded number of batches under way. There is one consumer
 * for each first letter of the hash; the letters are dealt between the processes that ingest, and two owners for a moment are
 * harmless (`UnitLogRecorder`).
 */

import { setTimeout } from 'node:timers/promises';
import type { Nats } from '../../../platform/nats/connection.ts';
import { OrderedAcks } from '../../../platform/nats/ordered-acks.ts';
import { unitOfUnitSubject } from '../../../platform/nats/subjects.ts';
import { consumeWork, type WorkMessage, type WorkResult } from '../../../platform/nats/work-queue.ts';
import type { Log } from '../../../platform/observability/log.ts';
import { untilAborted } from '../../../platform/process/until-aborted.ts';
import type { Shards } from '../../../platform/shards/join.ts';
import { type ParsedBatch, parseBatch, UnreadableBatchError } from '../../../platform/unit-log/batch.ts';
import { DeadLetterLimitError } from '../../../platform/unit-log/dead-letter-store.ts';
import type { RecordedBatch, UnitLogRecorder } from '../../../platform/unit-log/unit-log-recorder.ts';
import { ByteSemaphore } from './byte-semaphore.ts';
import { hasEarlierEpochStart, isFirstBatchOfEpoch, sortByLogPosition, type UnitInbox } from './unit-inbox.ts';

/** One consumer a shard of so many letters. */
export const INGEST_SHARD_LETTERS = 1;
/** Batches under way in one consumer: all together, enough for the next groups of commits. */
const MAX_BATCHES_UNDER_WAY = 4;
/** Bytes of batches under way in this process. */
const MAX_BYTES_UNDER_WAY = 1024 * 1024;
/** Batches of one consumer that wait for a gap: all that some hundred units may have in the stream. */
const MAX_BATCHES_PUT_OFF = 16_384;
/** How long events may be missing before it is called a gap: out of order is not yet lost. */
export const GAP_GRACE_MS = 10_000;
/** Shorter than that, so that what a killed process had under way is no gap. */
const ACK_WAIT_MS = 8_000;
/** Pauses before a batch that waits for a gap is looked at again: doubled from the first to the longest. */
const FIRST_GAP_RETRY_MS = 500;
const LONGEST_GAP_RETRY_MS = 8_000;
/** Pause before a unit whose dead letters are full is heard again. */
const FULL_RETRY_MS = 60_000;

export interface IngestWorkerOptions {
  readonly nats: Nats;
  /** The first letters that this process takes. */
  readonly shards: Pick<Shards, 'owned' | 'onChange'>;
  readonly recorder: UnitLogRecorder;
  readonly unitInbox: UnitInbox;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` ends it and what is under way is done. */
export async function runIngestWorker(options: IngestWorkerOptions): Promise<void> {
  const { shards, signal } = options;
  const shared = {
    acks: new OrderedAcks(options.nats, (ms) => setTimeout(ms)),
    turns: new ByteSemaphore(MAX_BYTES_UNDER_WAY),
  };
  const running = new Map<string, AbortController>();
  const underWay = new Set<Promise<void>>();
  const begin = (letter: string) => {
    const stop = new AbortController();
    running.set(letter, stop);
    const consumer = consume(letter, shared, { ...options, signal: stop.signal }).finally(() =>
      underWay.delete(consumer),
    );
    underWay.add(consumer);
  };
  const take = (owned: readonly string[]) => {
    for (const [letter, stop] of running) {
      if (owned.includes(letter)) continue;
      stop.abort();
      running.delete(letter);
    }
    for (const letter of owned) if (!running.has(letter)) begin(letter);
  };
  const unwatch = shards.onChange(take);
  take(shards.owned());
  await untilAborted(signal);
  unwatch();
  take([]);
  await Promise.all(underWay);
  await shared.acks.settled();
}

function consume(
  letter: string,
  { acks, turns }: { readonly acks: OrderedAcks; readonly turns: ByteSemaphore },
  options: IngestWorkerOptions,
): Promise<void> {
  const { nats, signal, sleep, log } = options;
  return consumeWork(nats, {
    stream: 'UNIT_INBOX',
    durable: `ingest-${letter}`,
    filters: [`unit.${letter}.*.*.events`],
    ackWaitMs: ACK_WAIT_MS,
    maxConcurrent: MAX_BATCHES_UNDER_WAY,
    maxUnacknowledged: MAX_BATCHES_PUT_OFF,
    isStateInMemory: true,
    acks,
    handle: (message) => turns.run(message.data.length, () => ingestMessage(message, options)),
    signal,
    sleep,
    log,
  });
}

/** One pushed message, as the stream gave it. */
export type PushedMessage = Pick<WorkMessage, 'subject' | 'data' | 'sequence' | 'storedAtMs' | 'deliveries'>;

/** Records what can be recorded of a message. @throws what `UnitLogRecorder.recordBatch` throws: the message comes again */
export async function ingestMessage(
  message: PushedMessage,
  options: Pick<IngestWorkerOptions, 'recorder' | 'unitInbox' | 'clock' | 'log'>,
): Promise<WorkResult> {
  const unit = unitOfUnitSubject(message.subject) ?? '';
  try {
    return await recordMessage(unit, message, options);
  } catch (error) {
    if (!(error instanceof DeadLetterLimitError)) throw error;
    options.log.error('a unit is not heard until somebody looks at its dead letters', { unit, reason: error.message });
    return { retryInMs: FULL_RETRY_MS };
  }
}

async function recordMessage(
  unit: string,
  message: PushedMessage,
  { recorder, unitInbox: inbox, clock }: Pick<IngestWorkerOptions, 'recorder' | 'unitInbox' | 'clock'>,
): Promise<WorkResult> {
  const { data, storedAtMs, sequence, deliveries } = message;
  let batch: ParsedBatch;
  try {
    batch = parseBatch(unit, data);
  } catch (error) {
    if (!(error instanceof UnreadableBatchError)) throw error;
    const messageId = `inbox-${storedAtMs}-${sequence}`;
    await recorder.recordUnreadableBatch({
      unit,
      messageId,
      receivedAtMs: storedAtMs,
      reason: error.message,
      content: data,
    });
    return 'done';
  }
  if (await hasEarlierPendingEpoch(batch, message, { recorder, unitInbox: inbox }))
    return { retryInMs: FIRST_GAP_RETRY_MS };
  const { waitingFrom } = await recordInOrder(batch, message, { recorder, unitInbox: inbox });
  if (waitingFrom === undefined) return 'done';
  const ageMs = clock() - storedAtMs;
  if (ageMs >= GAP_GRACE_MS) await recorder.recordGap(unit, batch.epoch, waitingFrom);
  return { retryInMs: gapRetryMs(deliveries, ageMs) };
}

/** The pause before the next look at a batch that waits: one of them comes when the grace period ends. */
function gapRetryMs(deliveries: number, ageMs: number): number {
  const pauseMs = Math.min(LONGEST_GAP_RETRY_MS, FIRST_GAP_RETRY_MS * 2 ** (deliveries - 1));
  if (ageMs >= GAP_GRACE_MS) return pauseMs;
  return Math.min(pauseMs, Math.max(FIRST_GAP_RETRY_MS, GAP_GRACE_MS - ageMs));
}

/**
 * Records a batch. What it waits for may wait itself, put off for another while or delivered to a process that is gone: a
 * batch that is looked at again takes the unit's other batches first, in the order of the log. Otherwise a unit whose batches
 * had come in the wrong order would get on by one of them in each of the pauses. So does one that comes while a gap is open.
 */
async function recordInOrder(
  batch: ParsedBatch,
  { storedAtMs, deliveries }: PushedMessage,
  { recorder, unitInbox: inbox }: Pick<IngestWorkerOptions, 'recorder' | 'unitInbox'>,
): Promise<RecordedBatch> {
  const { unit, epoch } = batch;
  const hadGap = Object.hasOwn((await recorder.getState(unit)).log.gaps, epoch);
  const recorded = await recorder.recordBatch(batch, storedAtMs);
  // What fills a gap is what others have been waiting for.
  const alone = recorded.waitingFrom === undefined ? !hadGap : deliveries === 1;
  if (alone || isFirstBatchOfEpoch(recorded.state.device, epoch)) return recorded;
  for (const other of sortByLogPosition(await inbox.listPendingBatches(unit), epoch)) {
    const { waitingFrom } = await recorder.recordBatch(other.batch, other.storedAtMs);
    if (waitingFrom !== undefined) break;
  }
  return recorded.waitingFrom === undefined ? recorded : recorder.recordBatch(batch, storedAtMs);
}

/** Whether the first batch of a new epoch comes before that of an earlier one, which was put off. */
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

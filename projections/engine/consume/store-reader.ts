/**
 * Reads the event store once for all fillers of a group: the reader delivers every message to the queue of each filler before
 * any of them parses it.
 */

import { type EventStore, GapError } from '../../../platform/event-store/store.ts';
import { RetryBackoff, type RetryPolicy } from '../../../platform/retry/retry-policy.ts';
import type { MessageQueue } from './message-queue.ts';

const END_CHECK_INTERVAL_MS = 5_000;

/** The store ends before a checkpoint: it lost messages, or it is another store. Terminal. */
export class CheckpointBeyondEndError extends Error {
  override readonly name = 'CheckpointBeyondEndError';
}

/** @throws CheckpointBeyondEndError; StoreUnavailableError */
export async function requirePositionInStore(store: EventStore, position: number): Promise<void> {
  const end = await store.lastSequence();
  if (position <= end) return;
  throw new CheckpointBeyondEndError(
    `The read models have applied events up to ${position}, but the event store ends at ${end}. The store lost events, or this ` +
      'database was filled from another store. Restore the store, or empty the database: the read models are then filled again.',
  );
}

/**
 * Reads the store from the lowest `readTo` of the queues and then follows its end. The reader waits while a queue is full,
 * and retries with exponential backoff when the connection breaks.
 *
 * @throws GapError; CheckpointBeyondEndError
 */
export async function readIntoQueues(
  queues: readonly MessageQueue[],
  store: EventStore,
  retryPolicy: RetryPolicy,
): Promise<void> {
  const { signal, log } = retryPolicy;
  const retries = new RetryBackoff('reading the event store', retryPolicy);
  const onAlarm = (alarm: { readonly sequence: number; readonly reason: string }) => {
    log.error('a message of the event store is no commit: the projections skip it', alarm);
    for (const queue of queues) queue.skipTo(alarm.sequence);
  };
  while (!signal.aborted) {
    const after = Math.min(...queues.map((queue) => queue.readTo));
    try {
      await requirePositionInStore(store, after);
      for await (const message of store.read({ after, signal, onAlarm })) {
        retries.resetAfterSuccess();
        for (const queue of queues) {
          queue.enqueue(message);
          if (queue.isFull) await queue.waitForSpace(signal);
        }
        if (signal.aborted) return;
      }
      if (!signal.aborted) await retries.waitAfterFailure(new Error('the event store ended the read'));
    } catch (error) {
      if (error instanceof GapError || error instanceof CheckpointBeyondEndError) throw error;
      if (signal.aborted) return;
      // A read changes nothing, so the reader may repeat it after any other error.
      await retries.waitAfterFailure(error);
    }
  }
}

/** Checks periodically that the store still holds what the reader has delivered. @throws CheckpointBeyondEndError */
export async function monitorStoreEnd(
  queues: readonly MessageQueue[],
  store: EventStore,
  retryPolicy: RetryPolicy,
): Promise<void> {
  const { signal, sleep, log } = retryPolicy;
  while (!signal.aborted) {
    await sleep(END_CHECK_INTERVAL_MS);
    if (signal.aborted) return;
    try {
      await requirePositionInStore(store, Math.max(...queues.map((queue) => queue.readTo)));
    } catch (error) {
      if (error instanceof CheckpointBeyondEndError) throw error;
      log.debug('the end of the event store could not be read; the next check follows in 5 s', { error });
    }
  }
}

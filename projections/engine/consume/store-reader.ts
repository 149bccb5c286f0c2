/** The one reader of the store: it deals every message to all projections that it feeds, before anybody parses it. */

import { type EventStore, GapError } from '../../../platform/event-store/store.ts';
import { RetryBackoff, type RetryPolicy } from '../../../platform/retry/retry-policy.ts';
import type { MessageQueue } from './message-queue.ts';

/** How often it is checked that the store still has what was read. */
const END_CHECK_INTERVAL_MS = 5_000;

/** The store ends before what was applied: it has lost data, or it is another one. Terminal. */
export class CheckpointBeyondEndError extends Error {
  override readonly name = 'CheckpointBeyondEndError';
}

/** @throws CheckpointBeyondEndError; StoreUnavailableError */
export async function requirePositionInStore(store: EventStore, position: number): Promise<void> {
  const end = await store.lastSequence();
  if (position <= end) return;
  throw new CheckpointBeyondEndError(
    `events up to ${position} are applied, but the store ends at ${end}: it has lost events, or it is not the store ` +
      'that this database was filled from. Restore the store, or empty the database to fill it anew',
  );
}

/**
 * Reads from the smallest place of the intakes on, and follows. A full intake holds up all; a broken connection is waited
 * out.
 *
 * @throws GapError, CheckpointBeyondEndError
 */
export async function readIntoQueues(
  intakes: readonly MessageQueue[],
  store: EventStore,
  retryPolicy: RetryPolicy,
): Promise<void> {
  const { signal, log } = retryPolicy;
  const retries = new RetryBackoff('reading the event store', retryPolicy);
  const onAlarm = (alarm: { readonly sequence: number; readonly reason: string }) => {
    log.error('a message of the event store is no commit: it is skipped', alarm);
    for (const intake of intakes) intake.skipTo(alarm.sequence);
  };
  while (!signal.aborted) {
    const after = Math.min(...intakes.map((intake) => intake.readTo));
    try {
      await requirePositionInStore(store, after);
      for await (const message of store.read({ after, signal, onAlarm })) {
        retries.resetAfterSuccess();
        for (const intake of intakes) {
          intake.enqueue(message);
          if (intake.isFull) await intake.waitForSpace(signal);
        }
        if (signal.aborted) return;
      }
      if (!signal.aborted) await retries.waitAfterFailure(new Error('the reader of the event store ended'));
    } catch (error) {
      if (error instanceof GapError || error instanceof CheckpointBeyondEndError) throw error;
      if (signal.aborted) return;
      // Reading changes nothing: whatever else it was, it may be tried again.
      await retries.waitAfterFailure(error);
    }
  }
}

/** Checks from time to time that the store has not become shorter. @throws CheckpointBeyondEndError */
export async function monitorStoreEnd(
  intakes: readonly MessageQueue[],
  store: EventStore,
  retryPolicy: RetryPolicy,
): Promise<void> {
  const { signal, sleep, log } = retryPolicy;
  while (!signal.aborted) {
    await sleep(END_CHECK_INTERVAL_MS);
    if (signal.aborted) return;
    try {
      await requirePositionInStore(store, Math.max(...intakes.map((intake) => intake.readTo)));
    } catch (error) {
      if (error instanceof CheckpointBeyondEndError) throw error;
      log.debug('the end of the event store could not be asked for', { error });
    }
  }
}

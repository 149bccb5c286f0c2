/**
 * Ingest: batches that units pushed, from `UNIT_INBOX` to the `device` subject of each unit, exactly once and in order.
 *
 * What is recorded is a fold of that subject, so nothing else is kept and two owners of a shard cannot write twice: the
 * append of the second fails on the subject's sequence, it folds again and finds the events recorded. A batch is
 * acknowledged only when all of it stands in the store; the tail of a batch that comes after a gap is delivered again until
 * the gap has closed. Units wait in the stream, never in memory: each consumer has a bounded number of batches under way.
 */

import type { Log } from '../../platform/log.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import { unitOfUnitSubject } from '../../platform/nats/subjects.ts';
import { type WorkMessage, type WorkResult, work } from '../../platform/nats/work-queue.ts';
import type { UnitDecider } from '../../platform/units/unit-decider.ts';
import { acceptBatch, type ReadBatch, readBatch, UnreadableBatchError } from './batch.ts';

/** One consumer a first hash letter. */
const FIRST_LETTERS = '0123456789abcdef';
/** Batches under way in one consumer. */
const MAX_BATCHES_UNDER_WAY = 32;
/** Pause before a batch that waits for a gap is looked at again. */
const GAP_RETRY_MS = 1_000;

export interface IngestOptions {
  readonly nats: Nats;
  readonly decider: UnitDecider;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` ends it and what is under way is done. */
export async function ingest(options: IngestOptions): Promise<void> {
  const { nats, signal, sleep, log } = options;
  const handle = (message: WorkMessage) => ingestMessage(message, options);
  await Promise.all(
    [...FIRST_LETTERS].map((letter) =>
      work(nats, {
        stream: 'UNIT_INBOX',
        durable: `ingest-${letter}`,
        filters: [`unit.${letter}.*.*.events`],
        maxPending: MAX_BATCHES_UNDER_WAY,
        handle,
        signal,
        sleep,
        log,
      }),
    ),
  );
}

async function ingestMessage(message: WorkMessage, options: IngestOptions): Promise<WorkResult> {
  const unit = unitOfUnitSubject(message.subject) ?? '';
  try {
    return await recordBatch(readBatch(unit, message.data), options);
  } catch (error) {
    if (!(error instanceof UnreadableBatchError)) throw error;
    await recordUnreadable(unit, message, error.message, options);
    return 'done';
  }
}

async function recordBatch(batch: ReadBatch, { decider, log }: IngestOptions): Promise<WorkResult> {
  const { unit, epoch } = batch;
  const first = batch.events[0]?.seq;
  const last = batch.events.at(-1)?.seq;
  if (first === undefined || last === undefined) return 'done';
  let waitingFrom: number | undefined;
  const { state } = await decider.record(unit, 'device', `${unit}/${epoch}/${first}-${last}`, (current) => {
    const accepted = acceptBatch(batch, current.device);
    waitingFrom = accepted.waitingFrom;
    return accepted.events;
  });
  if (waitingFrom === undefined) return 'done';
  const recorded = state.device.epochs[epoch] ?? 0;
  log.debug('a batch waits for a gap', { unit, epoch, recorded, waitingFrom });
  return { retryInMs: GAP_RETRY_MS };
}

async function recordUnreadable(
  unit: string,
  message: WorkMessage,
  reason: string,
  { decider, log }: IngestOptions,
): Promise<void> {
  log.warn('a batch cannot be read', { unit, reason });
  const meta = {
    commandId: `inbox-${message.storedAtMs}-${message.sequence}`,
    actor: 'platform:ingest',
    source: '/lockfleet/server',
  };
  await decider.decide(unit, 'log', meta, (state) =>
    state.registry.status === 'unregistered'
      ? []
      : [{ type: 'UnitBatchRejected', data: { reason, bytes: message.data.length } }],
  );
}

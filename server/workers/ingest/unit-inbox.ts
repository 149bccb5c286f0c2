/** What of a unit still waits in `UNIT_INBOX`. Looked at only where order is at stake: it costs a read of the stream. */

import { type DeviceState, recordedSeq } from '../../../domain/device/device.ts';
import type { Nats } from '../../../platform/nats/connection.ts';
import { readDirectly } from '../../../platform/nats/jetstream.ts';
import { MAX_INBOX_BATCHES_PER_UNIT } from '../../../platform/nats/streams.ts';
import { unitPushSubject } from '../../../platform/nats/subjects.ts';
import { type ParsedBatch, parseBatch, UnreadableBatchError } from '../../../platform/unit-log/batch.ts';

export interface PendingBatch {
  /** In the stream. */
  readonly sequence: number;
  /** When the stream took it, milliseconds since 1970. */
  readonly storedAtMs: number;
  readonly batch: ParsedBatch;
}

export interface UnitInbox {
  /** The batches of a unit that wait, in their order; those that cannot be read are left out. @throws NatsUnavailableError */
  listPendingBatches(unit: string): Promise<readonly PendingBatch[]>;
}

export class NatsUnitInbox implements UnitInbox {
  readonly #nats: Nats;

  constructor(nats: Nats) {
    this.#nats = nats;
  }

  async listPendingBatches(unit: string): Promise<readonly PendingBatch[]> {
    const filter = unitPushSubject(unit);
    const page = { sequence: 1, filter, limit: MAX_INBOX_BATCHES_PER_UNIT };
    const { messages } = await readDirectly(this.#nats, 'UNIT_INBOX', page);
    return messages.flatMap(({ sequence, timestampMs: storedAtMs, data }) => {
      const batch = tryToRead(unit, data);
      return batch === undefined ? [] : [{ sequence, storedAtMs, batch }];
    });
  }
}

/** The first seq from `fromSeq` on that is among them, of an epoch. */
export function firstPendingSeq(
  waiting: readonly PendingBatch[],
  { epoch, fromSeq }: { readonly epoch: string; readonly fromSeq: number },
): number | undefined {
  const seqs = waiting
    .filter(({ batch }) => batch.epoch === epoch)
    .flatMap(({ batch }) => batch.events.find(({ seq }) => seq >= fromSeq)?.seq ?? []);
  return seqs.length === 0 ? undefined : Math.min(...seqs);
}

/** The batches of an epoch in the order of its log. */
export function sortByLogPosition(waiting: readonly PendingBatch[], epoch: string): PendingBatch[] {
  const firstSeq = ({ batch }: PendingBatch) => batch.events[0]?.seq ?? 0;
  return waiting.filter(({ batch }) => batch.epoch === epoch).toSorted((one, other) => firstSeq(one) - firstSeq(other));
}

/**
 * Whether another epoch that nothing is recorded of begins among them, before `sequence`: it comes first. Which epoch is the
 * present one follows from the order in which they begin.
 */
export function hasEarlierEpochStart(
  waiting: readonly PendingBatch[],
  device: DeviceState,
  { epoch, sequence }: { readonly epoch: string; readonly sequence: number },
): boolean {
  return waiting.some(
    (earlier) =>
      earlier.sequence < sequence &&
      earlier.batch.epoch !== epoch &&
      earlier.batch.events[0]?.seq === 1 &&
      recordedSeq(device, earlier.batch.epoch) === 0,
  );
}

/** Whether a batch of this epoch would be the first that is recorded of it. */
export function isFirstBatchOfEpoch(device: DeviceState, epoch: string): boolean {
  return recordedSeq(device, epoch) === 0;
}

function tryToRead(unit: string, data: Uint8Array): ParsedBatch | undefined {
  try {
    return parseBatch(unit, data);
  } catch (error) {
    if (error instanceof UnreadableBatchError) return undefined;
    throw error;
  }
}

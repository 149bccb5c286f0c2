/** The pending batches of a unit in `UNIT_INBOX`. Workers list them only to decide on order or loss: each call reads the stream. */

import type { DeviceState } from '../../../domain/device/device.ts';
import { recordedSeq } from '../../../domain/device/epochs.ts';
import type { Nats } from '../../../platform/nats/connection.ts';
import { readDirectly } from '../../../platform/nats/jetstream.ts';
import { MAX_INBOX_BATCHES_PER_UNIT } from '../../../platform/nats/streams.ts';
import { unitPushSubject } from '../../../platform/nats/subjects.ts';
import { type ParsedBatch, parseBatch, UnreadableBatchError } from '../../../platform/unit-log/batch.ts';

export interface PendingBatch {
  /** Sequence in the stream. */
  readonly sequence: number;
  /** When the stream stored the message, milliseconds since 1970. */
  readonly storedAtMs: number;
  readonly batch: ParsedBatch;
}

export interface UnitInbox {
  /** Lists the readable pending batches of a unit, in stream order. @throws NatsUnavailableError */
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
      const batch = tryToParse(unit, data);
      return batch === undefined ? [] : [{ sequence, storedAtMs, batch }];
    });
  }
}

/** Returns the lowest pending seq of an epoch that is at least `fromSeq`. */
export function firstPendingSeq(
  pending: readonly PendingBatch[],
  { epoch, fromSeq }: { readonly epoch: string; readonly fromSeq: number },
): number | undefined {
  const seqs = pending
    .filter(({ batch }) => batch.epoch === epoch)
    .flatMap(({ batch }) => batch.events.find(({ seq }) => seq >= fromSeq)?.seq ?? []);
  return seqs.length === 0 ? undefined : Math.min(...seqs);
}

/** Returns the pending batches of an epoch, sorted by their first seq. */
export function sortByLogPosition(pending: readonly PendingBatch[], epoch: string): PendingBatch[] {
  const firstSeq = ({ batch }: PendingBatch) => batch.events[0]?.seq ?? 0;
  return pending.filter(({ batch }) => batch.epoch === epoch).toSorted((one, other) => firstSeq(one) - firstSeq(other));
}

/**
 * Whether the first batch of another unrecorded epoch is pending before `sequence`. Ingest must record that epoch first, because
 * the epoch that began last counts as the unit's current one.
 */
export function hasEarlierEpochStart(
  pending: readonly PendingBatch[],
  device: DeviceState,
  { epoch, sequence }: { readonly epoch: string; readonly sequence: number },
): boolean {
  return pending.some(
    (earlier) =>
      earlier.sequence < sequence &&
      earlier.batch.epoch !== epoch &&
      earlier.batch.events[0]?.seq === 1 &&
      recordedSeq(device, earlier.batch.epoch) === 0,
  );
}

/** Whether no event of the epoch is recorded yet. */
export function isFirstBatchOfEpoch(device: DeviceState, epoch: string): boolean {
  return recordedSeq(device, epoch) === 0;
}

function tryToParse(unit: string, data: Uint8Array): ParsedBatch | undefined {
  try {
    return parseBatch(unit, data);
  } catch (error) {
    if (error instanceof UnreadableBatchError) return undefined;
    throw error;
  }
}

/** Batches of events as JSON texts. The store has each entry as JSON, and a batch joins them without parsing them again. */

import { MAX_BATCH_BYTES, MAX_BATCH_EVENTS } from '../../domain/unit-protocol/batch.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';

/** Most bytes of a batch without its events. */
const HEADER_BYTES = 1_024;

export interface Batch {
  readonly epoch: string;
  readonly fromSeq: number;
  readonly toSeq: number;
  /** Each entry as JSON, in order of `seq`. */
  readonly bodies: readonly string[];
}

/** The durable entries from `fromSeq` on that fit into one batch; undefined when there are none. */
export function nextBatch(unit: EmulatedUnit, fromSeq: number, limit = MAX_BATCH_EVENTS): Batch | undefined {
  const { epoch, bodies } = unit.entries(fromSeq, Math.min(limit, MAX_BATCH_EVENTS));
  let bytes = HEADER_BYTES;
  let count = 0;
  for (const body of bodies) {
    bytes += Buffer.byteLength(body) + 1;
    // A batch has at least one entry: otherwise an entry that is too large for a batch would block the log.
    if (bytes > MAX_BATCH_BYTES && count > 0) break;
    count += 1;
  }
  if (count === 0) return undefined;
  return { epoch, fromSeq, toSeq: fromSeq + count - 1, bodies: bodies.slice(0, count) };
}

/** `{unit, epoch, events}` as JSON, with the fields of `page` when the batch answers a fetch. */
export function batchJson(unit: string, epoch: string, bodies: readonly string[], page: object = {}): string {
  const header = JSON.stringify({ unit, epoch, ...page });
  return `${header.slice(0, -1)},"events":[${bodies.join(',')}]}`;
}

/** The two halves of a batch, the later half first. A batch of one entry stays whole. */
export function reorderedHalves(batch: Batch): Batch[] {
  const half = Math.ceil(batch.bodies.length / 2);
  if (half === batch.bodies.length) return [batch];
  const middleSeq = batch.fromSeq + half;
  return [
    { ...batch, fromSeq: middleSeq, bodies: batch.bodies.slice(half) },
    { ...batch, toSeq: middleSeq - 1, bodies: batch.bodies.slice(0, half) },
  ];
}

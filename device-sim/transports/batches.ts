/** Batches as text: the entries of a log are stored as JSON and joined, not parsed and written again. */

import { MAX_BATCH_BYTES, MAX_BATCH_EVENTS } from '../../domain/unit-protocol/batch.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';

/** Room for what stands around the entries. */
const HEAD_BYTES = 1_024;

export interface Batch {
  readonly epoch: string;
  readonly fromSeq: number;
  readonly toSeq: number;
  /** Each entry as JSON, in order. */
  readonly bodies: readonly string[];
}

/** The durable entries from `fromSeq` on that fit one batch; `undefined` when there is none. */
export function nextBatch(unit: EmulatedUnit, fromSeq: number, limit = MAX_BATCH_EVENTS): Batch | undefined {
  const { epoch, bodies } = unit.entries(fromSeq, Math.min(limit, MAX_BATCH_EVENTS));
  let bytes = HEAD_BYTES;
  let count = 0;
  for (const body of bodies) {
    bytes += Buffer.byteLength(body) + 1;
    // A single entry is sent whatever its size: it would block the log for ever.
    if (bytes > MAX_BATCH_BYTES && count > 0) break;
    count += 1;
  }
  if (count === 0) return undefined;
  return { epoch, fromSeq, toSeq: fromSeq + count - 1, bodies: bodies.slice(0, count) };
}

/** `{unit, epoch, events}`, and what `more` says about a fetched one. */
export function batchJson(unit: string, epoch: string, bodies: readonly string[], more: object = {}): string {
  const head = JSON.stringify({ unit, epoch, ...more });
  return `${head.slice(0, -1)},"events":[${bodies.join(',')}]}`;
}

/** The two halves of a batch, the later one first; the batch itself when it cannot be parted. */
export function reorderedHalves(batch: Batch): Batch[] {
  const half = Math.ceil(batch.bodies.length / 2);
  if (half === batch.bodies.length) return [batch];
  const middle = batch.fromSeq + half;
  return [
    { ...batch, fromSeq: middle, bodies: batch.bodies.slice(half) },
    { ...batch, toSeq: middle - 1, bodies: batch.bodies.slice(0, half) },
  ];
}

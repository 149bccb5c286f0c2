/**
 * From a unit's batch to the events that are recorded of it. Pure: what is recorded already is dropped, what cannot be
 * accepted is replaced in its place, and what comes after a gap waits.
 */

import { Value } from '@sinclair/typebox/value';
import { BatchEvent, BatchHead, deviceEventId, MAX_BATCH_BYTES } from '../../domain/batch.ts';
import { type DeviceState, recordedSeq } from '../../domain/device.ts';
import type { CloudEvent } from '../../domain/envelope.ts';
import { definitionOf, isEventType, versionOf } from '../../domain/events/catalogue.ts';
import { MAX_TEXT_LENGTH } from '../../domain/vocabulary.ts';

/** The batch cannot be read at all: nothing in it has a place in the unit's log. */
export class UnreadableBatchError extends Error {
  override readonly name = 'UnreadableBatchError';
}

/** A batch whose head holds; its events are still unchecked. */
export interface ReadBatch {
  readonly unit: string;
  readonly epoch: string;
  readonly events: readonly PlacedEvent[];
}

interface PlacedEvent {
  readonly seq: number;
  readonly content: unknown;
}

/** Reads a batch that `unit` sent. @throws UnreadableBatchError */
export function readBatch(unit: string, data: Uint8Array): ReadBatch {
  if (data.length > MAX_BATCH_BYTES) {
    throw new UnreadableBatchError(`it has ${data.length} bytes, more than the ${MAX_BATCH_BYTES} of a batch`);
  }
  const batch = parse(data);
  if (!Value.Check(BatchHead, batch)) throw new UnreadableBatchError(describe(Value.Errors(BatchHead, batch)));
  if (batch.unit !== unit) throw new UnreadableBatchError(`it names unit ${batch.unit}`);
  const events = batch.events.map((content) => ({ seq: seqOf(content), content }));
  if (!events.every((event): event is PlacedEvent => event.seq !== undefined)) {
    throw new UnreadableBatchError('an event in it has no seq');
  }
  return { unit, epoch: batch.epoch, events: [...events].sort((a, b) => a.seq - b.seq) };
}

export interface Accepted {
  /** What to append, in order and without gaps after what is recorded. */
  readonly events: readonly CloudEvent[];
  /** The first seq that cannot be appended yet, because events before it are missing. */
  readonly waitingFrom: number | undefined;
}

/** What follows from a batch, given what is recorded of the unit. */
export function acceptBatch(batch: ReadBatch, device: DeviceState): Accepted {
  const events: CloudEvent[] = [];
  let next = recordedSeq(device, batch.epoch) + 1;
  for (const { seq, content } of batch.events) {
    if (seq < next) continue;
    if (seq > next) return { events, waitingFrom: seq };
    events.push(toCloudEvent(batch, seq, content));
    next += 1;
  }
  return { events, waitingFrom: undefined };
}

function toCloudEvent(batch: ReadBatch, seq: number, content: unknown): CloudEvent {
  if (!Value.Check(BatchEvent, content)) {
    return rejected(batch, seq, content, describe(Value.Errors(BatchEvent, content)));
  }
  const { type, v, data } = content;
  if (isEventType(type) && v === versionOf(type)) {
    const { aggregates, schema } = definitionOf(type);
    if (!aggregates.includes('device')) return rejected(batch, seq, content, `${type} is not for units to report`);
    if (!Value.Check(schema, data)) return rejected(batch, seq, content, describe(Value.Errors(schema, data)));
  }
  // A type or a version that this code does not know is recorded as it came.
  return placed(batch, content, type, v, data);
}

/** Stands in the place of an event that cannot be accepted: the log goes on behind it. */
function rejected(batch: ReadBatch, seq: number, content: unknown, reason: string): CloudEvent {
  const fields = typeof content === 'object' && content !== null ? (content as Record<string, unknown>) : {};
  const type = typeof fields.type === 'string' ? fields.type.slice(0, 100) : undefined;
  const time = typeof fields.time === 'string' && !Number.isNaN(Date.parse(fields.time)) ? fields.time : EPOCH_START;
  const data = { reason: reason.slice(0, MAX_TEXT_LENGTH), ...(type === undefined ? {} : { rejectedType: type }) };
  return placed(batch, { seq, time }, 'UnitEventRejected', versionOf('UnitEventRejected'), data);
}

/** The time of a rejected event that has none. */
const EPOCH_START = '1970-01-01T00:00:00.000Z';

function placed(
  { unit, epoch }: ReadBatch,
  event: Pick<BatchEvent, 'seq' | 'time' | 'locker' | 'offline' | 'causationId'>,
  type: string,
  version: number,
  data: Readonly<Record<string, unknown>>,
): CloudEvent {
  const { seq, time, locker, offline, causationId } = event;
  return {
    specversion: '1.0',
    id: deviceEventId(unit, epoch, seq),
    source: `/lockfleet/units/${unit}`,
    type,
    subject: locker === undefined ? unit : `${unit}/${locker}`,
    time,
    dataschema: `${type}/${version}`,
    data,
    actor: `unit:${unit}`,
    ...(causationId === undefined ? {} : { causationid: causationId }),
    unitepoch: epoch,
    unitseq: seq,
    ...(offline === true ? { offline } : {}),
  };
}

function parse(data: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data));
  } catch {
    throw new UnreadableBatchError('it is not JSON');
  }
}

function seqOf(content: unknown): number | undefined {
  if (typeof content !== 'object' || content === null || !('seq' in content)) return undefined;
  const { seq } = content;
  return typeof seq === 'number' && Number.isSafeInteger(seq) && seq > 0 ? seq : undefined;
}

function describe(errors: Iterable<{ readonly path: string; readonly message: string }>): string {
  for (const { path, message } of errors) return `${path || 'it'}: ${message}`.slice(0, MAX_TEXT_LENGTH);
  return 'it has another shape';
}

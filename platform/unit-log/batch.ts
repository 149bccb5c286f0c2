/**
 * From a unit's batch to the events that are recorded of it. Pure: what is recorded already is dropped, what cannot be
 * accepted is replaced in its place, and what comes after a gap waits.
 */

import type { DeviceState } from '../../domain/device/device.ts';
import { nextExpectedSeq, type UnitLogState } from '../../domain/device/unit-log.ts';
import { versionOf } from '../../domain/events/catalogue.ts';
import type { CloudEvent } from '../../domain/events/cloud-event.ts';
import { type BatchEvent, type BatchHeader, deviceEventId, unknownFields } from '../../domain/unit-protocol/batch.ts';
import { isInstant, toInstant } from '../../domain/vocabulary.ts';
import { MAX_COMMIT_BYTES } from '../event-store/store.ts';
import { sliceEventJson } from './event-json.ts';
import { findBatchHeadError, findEventError, findSizeError, replaceUnprintable } from './event-validation.ts';

/** A batch of so many bytes fits into a commit, whatever its events become with their envelopes, and has no large event. */
const FITTING_BYTES = 64 * 1024;
/** The longest type that a rejected event is told to have had. */
const MAX_TYPE_LENGTH = 100;

/** The batch cannot be read at all: nothing in it has a place in the unit's log. */
export class UnreadableBatchError extends Error {
  override readonly name = 'UnreadableBatchError';
}

/** A batch whose head holds; its events are still unchecked. */
export interface ParsedBatch {
  readonly unit: string;
  readonly epoch: string;
  /** In the order of their seq. */
  readonly events: readonly PlacedEvent[];
  /** Of the whole batch. */
  readonly bytes: number;
  /** The JSON of the event at an index of the batch, as it came. */
  readonly textOf: (index: number) => string;
}

interface PlacedEvent {
  readonly seq: number;
  readonly content: unknown;
  /** Where it stands in the batch. */
  readonly index: number;
  /** Another event of the batch, which came first, has its seq. */
  readonly hasDuplicateSeq: boolean;
}

/** Reads a batch that `unit` sent. @throws UnreadableBatchError */
export function parseBatch(unit: string, data: Uint8Array): ParsedBatch {
  const text = textIn(data);
  return toParsedBatch(unit, parse(text), text);
}

/**
 * As `parseBatch`, for JSON that has been parsed from `text`. `firstSeq`: where it begins if no event in it says so.
 * @throws UnreadableBatchError
 */
export function toParsedBatch(unit: string, batch: unknown, text: string, firstSeq?: number): ParsedBatch {
  const problem = findBatchHeadError(batch);
  if (problem !== undefined) throw new UnreadableBatchError(problem);
  const head = batch as BatchHeader;
  if (head.unit !== unit) throw new UnreadableBatchError(`it names unit ${head.unit}`);
  let texts: readonly string[] | undefined;
  const textOf = (index: number) => {
    texts ??= sliceEventJson(text);
    return texts[index] ?? '';
  };
  const seqs = seqsOf(head.events, firstSeq);
  const events = head.events.map((content, index): PlacedEvent => {
    return { seq: seqs[index] ?? 0, content, index, hasDuplicateSeq: false };
  });
  const bytes = Buffer.byteLength(text);
  if (seqs.every((seq, index) => index === 0 || seq > (seqs[index - 1] ?? 0))) {
    return { unit, epoch: head.epoch, events, bytes, textOf };
  }
  return { unit, epoch: head.epoch, events: sortBySeq(events, textOf), bytes, textOf };
}

/**
 * The seq of each event. One that names none has the place that its neighbours leave it, if they agree: without a place
 * nothing could stand in its stead, and the log would never go on behind it.
 */
function seqsOf(events: readonly unknown[], firstSeq: number | undefined): number[] {
  const named = events.map(validSeqOf);
  if (named.every((seq) => seq !== undefined)) return named;
  const at = named.findIndex((seq) => seq !== undefined);
  const first = at < 0 ? (firstSeq ?? 0) : (named[at] ?? 0) - at;
  if (first < 1 || named.some((seq, index) => seq !== undefined && seq !== first + index)) {
    throw new UnreadableBatchError('an event in it has no seq, and the others do not tell its place');
  }
  return events.map((_, index) => first + index);
}

/** By seq. Of several that share one, the first to come counts, and stands behind the others; mere copies go. */
function sortBySeq(events: readonly PlacedEvent[], textOf: ParsedBatch['textOf']): PlacedEvent[] {
  const bySeq = [...Map.groupBy(events, ({ seq }) => seq)].sort(([a], [b]) => a - b);
  return bySeq.flatMap(([, [first, ...others]]) => {
    if (first === undefined) return [];
    const text = others.length === 0 ? '' : textOf(first.index);
    const doubles = others.filter(({ index }) => textOf(index) !== text);
    return [...doubles.map((event) => ({ ...event, hasDuplicateSeq: true })), first];
  });
}

/** An event that cannot be accepted: its content is to be kept whole before its place is taken. */
export interface RejectedEvent {
  readonly seq: number;
  readonly reason: string;
  /** JSON, as it came. */
  readonly content: string;
  /** Its place is taken by another event of the batch. */
  readonly hasDuplicateSeq: boolean;
}

export interface AppendPlan {
  /** What to append, in order and without gaps after what is recorded. */
  readonly events: readonly CloudEvent[];
  /** The first seq that cannot be appended yet, because events before it are missing. */
  readonly waitingFrom: number | undefined;
  /** Rejected events that nobody has kept yet: the first of them ends what can be appended now. */
  readonly unstoredRejections: ReadonlyMap<number, RejectedEvent>;
  /** One commit does not hold all of it: the rest is to follow. */
  readonly isPart: boolean;
}

export interface AppendPlanOptions {
  /** When the platform got the batch, milliseconds since 1970: the time of a rejected event that names none. */
  readonly receivedAtMs: number;
  /** Indexes of the rejected events whose content is kept. */
  readonly storedRejections: ReadonlySet<number>;
  /** By how much the unit's clock is ahead, if it is known to be wrong. */
  readonly clockOffsetMs?: number | undefined;
}

/** What follows from a batch, given what is recorded of the unit. The keys of `unstoredRejections` are indexes in the batch. */
export function planAppend(
  batch: ParsedBatch,
  { device, log }: { readonly device: DeviceState; readonly log: UnitLogState },
  { receivedAtMs, storedRejections: kept, clockOffsetMs }: AppendPlanOptions,
): AppendPlan {
  const events: CloudEvent[] = [];
  const unstoredRejections = new Map<number, RejectedEvent>();
  // Brackets, then each event with a comma.
  let roomBytes = MAX_COMMIT_BYTES - 1;
  let next = nextExpectedSeq(log, device, batch.epoch);
  for (const placed of batch.events) {
    const { seq, content, index, hasDuplicateSeq: isDouble } = placed;
    if (seq < next) continue;
    if (seq > next) return { events, waitingFrom: seq, unstoredRejections, isPart: false };
    if (!isDouble) next += 1;
    const reason = problemOf(batch, placed);
    if (reason !== undefined && !kept.has(index)) {
      unstoredRejections.set(index, { seq, reason, content: batch.textOf(index), hasDuplicateSeq: isDouble });
    }
    if (unstoredRejections.size > 0 || isDouble) continue;
    // A type or a version that this code does not know is recorded as it came.
    const event =
      reason === undefined
        ? reported(batch, content as BatchEvent)
        : rejected(batch, seq, content, reason, receivedAtMs);
    const recorded = withClockOffset(event, content, clockOffsetMs);
    if (batch.bytes > FITTING_BYTES) roomBytes -= Buffer.byteLength(JSON.stringify(recorded)) + 1;
    if (roomBytes < 1) return { events, waitingFrom: undefined, unstoredRejections, isPart: true };
    events.push(recorded);
  }
  return { events, waitingFrom: undefined, unstoredRejections, isPart: false };
}

function problemOf(batch: ParsedBatch, { content, index, hasDuplicateSeq: isDouble }: PlacedEvent): string | undefined {
  if (isDouble) return 'another event of the batch has the same seq';
  const problem = findEventError(content);
  if (problem !== undefined || batch.bytes <= FITTING_BYTES) return problem;
  return findSizeError(content, Buffer.byteLength(batch.textOf(index)));
}

/** A time that the platform has put in says nothing about the unit's clock. */
function withClockOffset(event: CloudEvent, content: unknown, clockOffsetMs: number | undefined): CloudEvent {
  if (clockOffsetMs === undefined || event.time !== fieldsOf(content).time) return event;
  return { ...event, clockoffsetms: clockOffsetMs };
}

function reported(batch: ParsedBatch, event: BatchEvent): CloudEvent {
  const extra = unknownFields(event);
  const recorded = placed(batch, event, event.type, event.v, event.data);
  return extra === undefined ? recorded : { ...recorded, unitextra: JSON.stringify(extra) };
}

/** Stands in the place of an event that cannot be accepted: the log goes on behind it. */
function rejected(batch: ParsedBatch, seq: number, content: unknown, reason: string, receivedAtMs: number): CloudEvent {
  const { type, time } = fieldsOf(content);
  const data = {
    reason,
    ...(typeof type === 'string' ? { rejectedType: replaceUnprintable(type.slice(0, MAX_TYPE_LENGTH)) } : {}),
  };
  const place = { seq, time: isInstant(time) ? time : toInstant(receivedAtMs) };
  return placed(batch, place, 'UnitEventRejected', versionOf('UnitEventRejected'), data);
}

function placed(
  { unit, epoch }: ParsedBatch,
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

function textIn(data: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(data);
  } catch {
    throw new UnreadableBatchError('it is not UTF-8');
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UnreadableBatchError('it is not JSON');
  }
}

function validSeqOf(content: unknown): number | undefined {
  const { seq } = fieldsOf(content);
  return typeof seq === 'number' && Number.isSafeInteger(seq) && seq > 0 ? seq : undefined;
}

function fieldsOf(content: unknown): Readonly<Record<string, unknown>> {
  return typeof content === 'object' && content !== null ? (content as Record<string, unknown>) : {};
}

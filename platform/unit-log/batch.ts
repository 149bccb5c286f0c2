/**
 * Parses a unit's batch and plans which of its events to append. The plan skips events that are recorded already, replaces an invalid
 * event by `UnitEventRejected` with the same seq, and ends at the first gap. All functions are pure.
 */

import type { DeviceState } from '../../domain/device/device.ts';
import { isDroppedEpoch, MAX_EPOCHS_PER_UNIT } from '../../domain/device/epochs.ts';
import { provenClockOffsetMs } from '../../domain/device/unit-clock.ts';
import { nextExpectedSeq, type UnitLogState } from '../../domain/device/unit-log.ts';
import { versionOf } from '../../domain/events/catalogue.ts';
import type { CloudEvent } from '../../domain/events/cloud-event.ts';
import type { RegistryState } from '../../domain/registry/registry.ts';
import { type BatchEvent, type BatchHeader, deviceEventId, unknownFields } from '../../domain/unit-protocol/batch.ts';
import { isInstant, toInstant } from '../../domain/vocabulary.ts';
import { MAX_COMMIT_BYTES } from '../event-store/store.ts';
import { sliceEventJson } from './event-json.ts';
import { findBatchHeadError, findEventError, findSizeError, replaceUnprintable } from './event-validation.ts';
import { LockerBound } from './locker-bound.ts';

/** A batch up to this size fits into one commit with all envelopes and has no event that is too large, so sizes are not checked. */
const UNCHECKED_BATCH_BYTES = 64 * 1024;
/** Characters of the type of an invalid event that `UnitEventRejected` keeps. */
const MAX_TYPE_LENGTH = 100;

/** The batch is malformed, so that none of its events can be assigned a seq. Terminal. */
export class UnreadableBatchError extends Error {
  override readonly name = 'UnreadableBatchError';
}

/**
 * The batch is beyond the bounds of a unit's log, so that none of its events is recorded. The caller stores it as a dead letter. The
 * unit keeps the events, so a fetch can bring them once they are within the bounds.
 */
export class RefusedBatchError extends Error {
  override readonly name = 'RefusedBatchError';
}

/** A batch with a valid header. Its events are not validated yet. */
export interface ParsedBatch {
  readonly unit: string;
  readonly epoch: string;
  /** Sorted by seq. */
  readonly events: readonly PlacedEvent[];
  /** Size of the batch as JSON. */
  readonly bytes: number;
  /** Returns the JSON of the event at an index of the batch, as the unit sent it. */
  readonly textOf: (index: number) => string;
}

interface PlacedEvent {
  readonly seq: number;
  readonly content: unknown;
  /** Index in the batch. */
  readonly index: number;
  /** Whether an earlier event of the batch has the same seq. */
  readonly hasDuplicateSeq: boolean;
}

/** Reads a batch that `unit` sent. @throws UnreadableBatchError */
export function parseBatch(unit: string, data: Uint8Array): ParsedBatch {
  const text = decodeText(data);
  return toParsedBatch(unit, parse(text), text);
}

/**
 * As `parseBatch`, for JSON that was parsed from `text`. `firstSeq` is the seq of the first event if no event names its seq.
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
 * Returns the seq of each event. An event without a valid seq gets the one between its neighbours, so that `UnitEventRejected` can
 * replace it; otherwise it would leave a gap that never closes. @throws UnreadableBatchError when the seqs are not consecutive
 */
function seqsOf(events: readonly unknown[], firstSeq: number | undefined): number[] {
  const named = events.map(validSeqOf);
  if (named.every((seq) => seq !== undefined)) return named;
  const at = named.findIndex((seq) => seq !== undefined);
  const first = at < 0 ? (firstSeq ?? 0) : (named[at] ?? 0) - at;
  if (first < 1 || named.some((seq, index) => seq !== undefined && seq !== first + index)) {
    throw new UnreadableBatchError('an event in it has no seq, and the seqs of the others do not determine it');
  }
  return events.map((_, index) => first + index);
}

/**
 * Sorts by seq. Of events with the same seq the first one in the batch counts, and its exact copies are dropped. It follows the
 * others in the result, so that `planAppend` reaches all of them before it proceeds to the next seq.
 */
function sortBySeq(events: readonly PlacedEvent[], textOf: ParsedBatch['textOf']): PlacedEvent[] {
  const bySeq = [...Map.groupBy(events, ({ seq }) => seq)].sort(([a], [b]) => a - b);
  return bySeq.flatMap(([, [first, ...others]]) => {
    if (first === undefined) return [];
    const text = others.length === 0 ? '' : textOf(first.index);
    const duplicates = others.filter(({ index }) => textOf(index) !== text);
    return [...duplicates.map((event) => ({ ...event, hasDuplicateSeq: true })), first];
  });
}

/** An invalid event. The caller stores its content as a dead letter before `UnitEventRejected` takes its seq. */
export interface RejectedEvent {
  readonly seq: number;
  readonly reason: string;
  /** JSON as the unit sent it. */
  readonly content: string;
  /** Whether another event of the batch counts for the seq. */
  readonly hasDuplicateSeq: boolean;
}

export interface AppendPlan {
  /** Events to append. Their seqs follow the last recorded one without a gap. */
  readonly events: readonly CloudEvent[];
  /** The first seq that cannot be appended yet, because events before it are missing. */
  readonly waitingFrom: number | undefined;
  /** Invalid events that are not stored as dead letters yet, by index in the batch. `events` ends before the first of them. */
  readonly unstoredRejections: ReadonlyMap<number, RejectedEvent>;
  /** Whether the events exceed one commit, so that the caller must plan again after the append. */
  readonly isPart: boolean;
}

export interface AppendPlanOptions {
  /** When the platform received the batch, milliseconds since 1970. An invalid event without a time is recorded with it. */
  readonly receivedAtMs: number;
  /** Indexes of the invalid events that are stored as dead letters. */
  readonly storedRejections: ReadonlySet<number>;
  /** Milliseconds by which the unit's clock is ahead, if it is known to be wrong. */
  readonly clockOffsetMs?: number | undefined;
}

/** Plans which events of a batch to append after the recorded ones. @throws RefusedBatchError when the epoch is too old */
export function planAppend(
  batch: ParsedBatch,
  state: { readonly registry: RegistryState; readonly device: DeviceState; readonly log: UnitLogState },
  { receivedAtMs, storedRejections, clockOffsetMs }: AppendPlanOptions,
): AppendPlan {
  const { device, log } = state;
  if (isDroppedEpoch(device, batch.epoch)) {
    throw new RefusedBatchError(`its epoch is older than the ${MAX_EPOCHS_PER_UNIT} newest epochs of the unit`);
  }
  const events: CloudEvent[] = [];
  const unstoredRejections = new Map<number, RejectedEvent>();
  // A commit is a JSON array: it takes two brackets, and a comma for each event but the last.
  let freeBytes = MAX_COMMIT_BYTES - 1;
  let next = nextExpectedSeq(log, device, batch.epoch);
  let lockers: LockerBound | undefined;
  const lockerProblemOf = (content: unknown) => {
    lockers ??= new LockerBound(state);
    return lockers.add(content as BatchEvent);
  };
  for (const placed of batch.events) {
    const { seq, content, index, hasDuplicateSeq } = placed;
    if (seq < next) continue;
    if (seq > next) return { events, waitingFrom: seq, unstoredRejections, isPart: false };
    if (!hasDuplicateSeq) next += 1;
    const reason = problemOf(batch, placed) ?? lockerProblemOf(content);
    if (reason !== undefined && !storedRejections.has(index)) {
      unstoredRejections.set(index, { seq, reason, content: batch.textOf(index), hasDuplicateSeq });
    }
    if (unstoredRejections.size > 0 || hasDuplicateSeq) continue;
    // An event whose type or version this code does not know is recorded as the unit sent it.
    const event =
      reason === undefined
        ? reportedEvent(batch, content as BatchEvent)
        : rejectionEvent(batch, seq, content, reason, receivedAtMs);
    const recorded = withClockOffset(event, content, { receivedAtMs, clockOffsetMs });
    if (batch.bytes > UNCHECKED_BATCH_BYTES) freeBytes -= Buffer.byteLength(JSON.stringify(recorded)) + 1;
    if (freeBytes < 1) return { events, waitingFrom: undefined, unstoredRejections, isPart: true };
    events.push(recorded);
  }
  return { events, waitingFrom: undefined, unstoredRejections, isPart: false };
}

function problemOf(batch: ParsedBatch, { content, index, hasDuplicateSeq }: PlacedEvent): string | undefined {
  if (hasDuplicateSeq) return 'another event of the batch has the same seq';
  const problem = findEventError(content);
  if (problem !== undefined || batch.bytes <= UNCHECKED_BATCH_BYTES) return problem;
  return findSizeError(content, Buffer.byteLength(batch.textOf(index)));
}

/**
 * Adds the offset of the unit's clock, unless the platform set the time of the event. An event that is dated after its arrival proves
 * that the clock is ahead, also before the platform has measured it.
 */
function withClockOffset(
  event: CloudEvent,
  content: unknown,
  { receivedAtMs, clockOffsetMs }: Pick<AppendPlanOptions, 'receivedAtMs' | 'clockOffsetMs'>,
): CloudEvent {
  if (event.time !== fieldsOf(content).time) return event;
  const clockoffsetms = provenClockOffsetMs(event.time, receivedAtMs, clockOffsetMs);
  return clockoffsetms === undefined ? event : { ...event, clockoffsetms };
}

function reportedEvent(batch: ParsedBatch, event: BatchEvent): CloudEvent {
  const extra = unknownFields(event);
  const recorded = toCloudEvent(batch, event, event.type, event.v, event.data);
  return extra === undefined ? recorded : { ...recorded, unitextra: JSON.stringify(extra) };
}

/** Creates the `UnitEventRejected` that replaces an invalid event, so that the events after it can be recorded. */
function rejectionEvent(
  batch: ParsedBatch,
  seq: number,
  content: unknown,
  reason: string,
  receivedAtMs: number,
): CloudEvent {
  const { type, time } = fieldsOf(content);
  const data = {
    reason,
    ...(typeof type === 'string' ? { rejectedType: replaceUnprintable(type.slice(0, MAX_TYPE_LENGTH)) } : {}),
  };
  const place = { seq, time: isInstant(time) ? time : toInstant(receivedAtMs) };
  return toCloudEvent(batch, place, 'UnitEventRejected', versionOf('UnitEventRejected'), data);
}

function toCloudEvent(
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

function decodeText(data: Uint8Array): string {
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

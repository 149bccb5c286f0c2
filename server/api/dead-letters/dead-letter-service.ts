/** Shows, retries and dismisses dead letters for operators. A retry applies the present rules. */

import { isDroppedEpoch, recordedSeq } from '../../../domain/device/epochs.ts';
import { provenClockOffsetMs } from '../../../domain/device/unit-clock.ts';
import { recoverEvent } from '../../../domain/device/unit-log.ts';
import type { EventOf } from '../../../domain/events/catalogue.ts';
import { lastSequenceOf, type UnitState } from '../../../domain/unit/unit.ts';
import { type BatchEvent, unknownFields } from '../../../domain/unit-protocol/batch.ts';
import { toMs } from '../../../domain/vocabulary.ts';
import {
  type ParsedBatch,
  parseBatch,
  RefusedBatchError,
  UnreadableBatchError,
} from '../../../platform/unit-log/batch.ts';
import {
  type DeadLetter,
  DeadLetterLimitError,
  type DeadLetterStore,
  type DeadLetterWithContent,
} from '../../../platform/unit-log/dead-letter-store.ts';
import { findEventError, findSizeError } from '../../../platform/unit-log/event-validation.ts';
import type { UnitLogRecorder } from '../../../platform/unit-log/unit-log-recorder.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { Problem } from '../../http/problems.ts';

export interface DeadLetterDependencies {
  readonly deadLetterStore: DeadLetterStore;
  readonly decider: UnitDecider;
  readonly recorder: UnitLogRecorder;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

/** A request to retry a letter. */
export interface Retry {
  readonly commandId: string;
  readonly actor: string;
  readonly id: string;
}

export class DeadLetterService {
  readonly #deps: DeadLetterDependencies;

  constructor(deps: DeadLetterDependencies) {
    this.#deps = deps;
  }

  /** The JSON of a letter with what arrived. @throws Problem `not-found` */
  async jsonWithContent(id: string): Promise<string> {
    const { letter, content } = await this.#find(id);
    const fields = JSON.stringify(letter).slice(0, -1);
    const text = textIn(content);
    // The raw JSON of the event is spliced in: parsing and writing it would change its numbers, or fail at its depth.
    if (letter.kind === 'event') return `${fields},"content":${text ?? 'null'}}`;
    const whole = text === undefined ? { base64: Buffer.from(content).toString('base64') } : { text };
    return JSON.stringify({ ...letter, ...whole });
  }

  /**
   * Records a letter that the present rules accept, once, however many requests ask for it.
   * @throws Problem `not-found`; `dead-letter-refused` with the present reason, and the letter stays as it is
   */
  async retry(request: Retry): Promise<Answer<DeadLetter, 200>> {
    const found = await this.#find(request.id);
    const { letter } = found;
    if (letter.status === 'recovered') {
      const state = await this.#deps.decider.getState(letter.unit);
      return { status: 200, body: letter, position: lastSequenceOf(state) };
    }
    const position = await (letter.kind === 'event' ? this.#recoverEvent(found, request) : this.#recoverBatch(found));
    const marked = await this.#deps.deadLetterStore.markRecovered(letter.id, this.#deps.clock());
    return { status: 200, body: marked ?? letter, position };
  }

  /** Dismisses a letter, once. @throws Problem `not-found`; `precondition-failed` when it is recovered */
  async dismiss(id: string, by: string, reason: string | undefined): Promise<Answer<DeadLetter, 200>> {
    const { deadLetterStore, clock } = this.#deps;
    const dismissed = await deadLetterStore.dismiss(id, { by, atMs: clock(), reason });
    if (dismissed !== undefined) return { status: 200, body: dismissed };
    await this.#find(id);
    throw new Problem(
      'precondition-failed',
      409,
      'The dead letter is recovered, so it cannot be dismissed. Nothing was changed.',
    );
  }

  /** Dismisses the open letters of a unit, up to the bound of one request. */
  async dismissOpen(
    which: { readonly unit: string; readonly kind?: DeadLetter['kind'] | undefined },
    by: string,
    reason: string | undefined,
  ): Promise<Answer<{ readonly dismissed: number }, 200>> {
    const { deadLetterStore, clock } = this.#deps;
    return {
      status: 200,
      body: { dismissed: await deadLetterStore.dismissOpen(which, { by, atMs: clock(), reason }) },
    };
  }

  async #find(id: string): Promise<DeadLetterWithContent> {
    const found = await this.#deps.deadLetterStore.get(id);
    if (found === undefined) throw new Problem('not-found', 404, `There is no dead letter ${id}.`);
    return found;
  }

  async #recoverEvent(found: DeadLetterWithContent, { commandId, actor }: Retry): Promise<number> {
    const { letter, hasDuplicateSeq } = found;
    if (hasDuplicateSeq) throw refused('another event of its batch has the same seq');
    const { event, locker } = recoverable(found);
    const meta = { commandId, actor, source: '/lockfleet/server' };
    const { sequence } = await this.#deps.decider.decide(letter.unit, 'log', meta, (state) => {
      // Ingest stores a letter before it records `UnitEventRejected`. Until then, the event itself may still be recorded.
      const isRecorded = recordedSeq(state.device, event.epoch) >= event.seq;
      if (!isRecorded && !isDroppedEpoch(state.device, event.epoch))
        throw refused('the log of the unit has not reached its seq yet');
      return recoverEvent(state.log, event, locker);
    });
    return sequence;
  }

  async #recoverBatch({ letter, content }: DeadLetterWithContent): Promise<number> {
    const { decider, recorder } = this.#deps;
    const batch = readAgain(letter.unit, content);
    requireRecordable(await decider.getState(letter.unit), batch);
    try {
      const { state, waitingFrom } = await recorder.recordBatch(batch, toMs(letter.receivedAt));
      if (waitingFrom !== undefined) throw refused(`events before seq ${waitingFrom} are missing`);
      return lastSequenceOf(state);
    } catch (error) {
      if (error instanceof DeadLetterLimitError || error instanceof RefusedBatchError) throw refused(error.message);
      throw error;
    }
  }
}

/** What arrived, as the event that the present rules make of it. @throws Problem `dead-letter-refused` */
function recoverable({
  letter: { epoch, seq, receivedAt },
  clockOffsetMs: measuredMs,
  content,
}: DeadLetterWithContent) {
  const event = acceptable(content);
  if (epoch === null || seq === null) throw refused('it has no epoch or no seq');
  if (event.seq !== seq) throw refused(`it has the seq ${event.seq}, and its place in the log is ${seq}`);
  const { type, v, time, data, locker, offline, causationId } = event;
  const extra = unknownFields(event);
  const clockOffsetMs = provenClockOffsetMs(time, toMs(receivedAt), measuredMs);
  const recovered: EventOf<'UnitEventRecovered'> = {
    epoch,
    seq,
    type,
    v,
    time,
    data,
    ...(offline === undefined ? {} : { offline }),
    ...(causationId === undefined ? {} : { causationId }),
    ...(extra === undefined ? {} : { extra }),
    ...(clockOffsetMs === undefined ? {} : { clockOffsetMs }),
  };
  return { event: recovered, locker };
}

function acceptable(content: Uint8Array): BatchEvent {
  let event: unknown;
  try {
    event = JSON.parse(textIn(content) ?? '');
  } catch {
    throw refused('it is not JSON');
  }
  const reason = findEventError(event) ?? findSizeError(event, content.length);
  if (reason !== undefined) throw refused(reason);
  return event as BatchEvent;
}

function readAgain(unit: string, content: Uint8Array): ParsedBatch {
  try {
    return parseBatch(unit, content);
  } catch (error) {
    if (error instanceof UnreadableBatchError) throw refused(error.message);
    throw error;
  }
}

/**
 * Refuses a batch that the recorder would pass over, since the letter would then be closed and its events lost: events in a lost
 * range, and events of an epoch that is older than the present one (epochs are UUIDv7) and of which none is recorded.
 */
function requireRecordable({ device, log }: UnitState, { epoch, events }: ParsedBatch): void {
  if (device.epoch !== undefined && recordedSeq(device, epoch) === 0 && epoch < device.epoch) {
    throw refused('its unit has begun a newer epoch');
  }
  const lost = Object.hasOwn(log.lost, epoch) ? log.lost[epoch] : undefined;
  if (lost === undefined || !events.some(({ seq }) => seq >= lost.fromSeq && seq <= lost.toSeq)) return;
  throw refused(`the events from seq ${lost.fromSeq} to ${lost.toSeq} are given up as lost`);
}

function refused(reason: string): Problem {
  return new Problem(
    'dead-letter-refused',
    409,
    `The dead letter is refused again: ${reason}. It stays as it is; retry it after the cause is mended, or dismiss it.`,
  );
}

function textIn(content: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
  } catch {
    return undefined;
  }
}

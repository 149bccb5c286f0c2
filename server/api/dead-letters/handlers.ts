/** What operators do with dead letters: look at them whole, try them again by the rules of today, and put them away. */

import { recordedSeq } from '../../../domain/device/device.ts';
import { recoverEvent } from '../../../domain/device/unit-log.ts';
import type { EventOf } from '../../../domain/events/catalogue.ts';
import { lastSequenceOf, type UnitState } from '../../../domain/unit/unit.ts';
import { type BatchEvent, unknownFields } from '../../../domain/unit-protocol/batch.ts';
import { toMs } from '../../../domain/vocabulary.ts';
import { type ParsedBatch, parseBatch, UnreadableBatchError } from '../../../platform/unit-log/batch.ts';
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

const OK = 200;

export interface DeadLetterDependencies {
  readonly deadLetters: DeadLetterStore;
  readonly decider: UnitDecider;
  readonly recorder: UnitLogRecorder;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

/** A request to try a letter again. */
export interface Retry {
  readonly commandId: string;
  readonly actor: string;
  readonly id: string;
}

export class DeadLetterDesk {
  readonly #deps: DeadLetterDependencies;

  constructor(deps: DeadLetterDependencies) {
    this.#deps = deps;
  }

  /** The JSON of a letter with what came. @throws Problem 404 */
  async whole(id: string): Promise<string> {
    const { letter, content } = await this.#find(id);
    const fields = JSON.stringify(letter).slice(0, -1);
    const text = textIn(content);
    // An event stands in the answer to the letter: who wrote it anew would change its numbers, or fail at its depth.
    if (letter.kind === 'event') return `${fields},"content":${text ?? 'null'}}`;
    const whole = text === undefined ? { base64: Buffer.from(content).toString('base64') } : { text };
    return JSON.stringify({ ...letter, ...whole });
  }

  /**
   * Accepts a letter that today's rules accept, once, however often and by how many it is asked for.
   * @throws Problem 404; 409 `not-yet` with the reason as of now, and then the letter stays as it is
   */
  async retry(request: Retry): Promise<Answer<DeadLetter>> {
    const found = await this.#find(request.id);
    const { letter } = found;
    if (letter.status === 'recovered') {
      const state = await this.#deps.decider.getState(letter.unit);
      return { status: OK, body: letter, position: lastSequenceOf(state) };
    }
    const position = await (letter.kind === 'event' ? this.#recoverEvent(found, request) : this.#recoverBatch(found));
    const marked = await this.#deps.deadLetters.markRecovered(letter.id, this.#deps.clock());
    return { status: OK, body: marked ?? letter, position };
  }

  /** Puts a letter away, once. @throws Problem 404; 409 `precondition-failed` when it is recovered */
  async dismiss(id: string, by: string, reason: string | undefined): Promise<Answer<DeadLetter>> {
    const { deadLetters, clock } = this.#deps;
    const dismissed = await deadLetters.dismiss(id, { by, atMs: clock(), reason });
    if (dismissed !== undefined) return { status: OK, body: dismissed };
    await this.#find(id);
    throw new Problem('precondition-failed', 409, 'The letter is recovered. It cannot be dismissed.');
  }

  /** Puts the open letters of a unit away, as many as one call may. */
  async dismissOpen(
    which: { readonly unit: string; readonly kind?: DeadLetter['kind'] | undefined },
    by: string,
    reason: string | undefined,
  ): Promise<Answer<{ readonly dismissed: number }>> {
    const { deadLetters, clock } = this.#deps;
    return { status: OK, body: { dismissed: await deadLetters.dismissOpen(which, { by, atMs: clock(), reason }) } };
  }

  async #find(id: string): Promise<DeadLetterWithContent> {
    const found = await this.#deps.deadLetters.get(id);
    if (found === undefined) throw new Problem('not-found', 404, 'There is no such dead letter.');
    return found;
  }

  async #recoverEvent(found: DeadLetterWithContent, { commandId, actor }: Retry): Promise<number> {
    const { letter, hasDuplicateSeq } = found;
    if (hasDuplicateSeq) throw notAccepted('another event of its batch has its place in the log');
    const { event, locker } = recoverable(found);
    const meta = { commandId, actor, source: '/lockfleet/server' };
    const { sequence } = await this.#deps.decider.decide(letter.unit, 'log', meta, (state) => {
      // Ingest keeps a letter before its place is taken. Until then, the event may still be recorded as itself.
      if (recordedSeq(state.device, event.epoch) < event.seq)
        throw notAccepted('its place in the log is not taken yet');
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
      if (waitingFrom !== undefined) throw notAccepted(`events before seq ${waitingFrom} are missing`);
      return lastSequenceOf(state);
    } catch (error) {
      if (error instanceof DeadLetterLimitError) throw notAccepted(error.message);
      throw error;
    }
  }
}

/** What came, as the event that it is now. @throws Problem when today's rules do not accept it either */
function recoverable({ letter: { epoch, seq }, clockOffsetMs, content }: DeadLetterWithContent) {
  const event = acceptable(content);
  if (epoch === null || seq === null) throw notAccepted('it has no place in a log');
  if (event.seq !== seq) throw notAccepted(`it says seq ${event.seq}, and its place is ${seq}`);
  const { type, v, time, data, locker, offline, causationId } = event;
  const extra = unknownFields(event);
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
    throw notAccepted('it is not JSON');
  }
  const reason = findEventError(event) ?? findSizeError(event, content.length);
  if (reason !== undefined) throw notAccepted(reason);
  return event as BatchEvent;
}

function readAgain(unit: string, content: Uint8Array): ParsedBatch {
  try {
    return parseBatch(unit, content);
  } catch (error) {
    if (error instanceof UnreadableBatchError) throw notAccepted(error.message);
    throw error;
  }
}

/**
 * Whoever records passes what was given up as lost: it would be gone, and the letter closed. And an epoch that begins is
 * taken for the present one: one that ended before a newer one began (they are UUIDv7) must not.
 */
function requireRecordable({ device, log }: UnitState, { epoch, events }: ParsedBatch): void {
  if (device.epoch !== undefined && recordedSeq(device, epoch) === 0 && epoch < device.epoch) {
    throw notAccepted('its unit has begun a newer epoch');
  }
  const lost = Object.hasOwn(log.lost, epoch) ? log.lost[epoch] : undefined;
  if (lost === undefined || !events.some(({ seq }) => seq >= lost.fromSeq && seq <= lost.toSeq)) return;
  throw notAccepted(`the log goes on behind seq ${lost.toSeq}: what was missing from ${lost.fromSeq} on is given up`);
}

function notAccepted(reason: string): Problem {
  return new Problem('not-yet', 409, `It is not accepted now either: ${reason}.`);
}

function textIn(content: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
  } catch {
    return undefined;
  }
}

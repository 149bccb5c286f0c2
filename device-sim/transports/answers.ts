/** What a unit answers, whatever carried the question: commands, pings, and requests for its log. */

import { Value } from '@sinclair/typebox/value';
import { MAX_BATCH_EVENTS } from '../../domain/batch.ts';
import { type CommandAnswer, SignedCommand } from '../../domain/commands.ts';
import { parsePlace, pingMac, pingReplyMac, sameMac } from '../../platform/unit-protocol/ping.ts';
import { SignatureError, UnitVerifier } from '../../platform/unit-protocol/signatures.ts';
import type { Credentials } from '../fleet/credentials.ts';
import type { EmulatedUnit } from '../fleet/emulated-unit.ts';
import type { Metrics } from '../metrics.ts';
import { execute } from '../unit/commands.ts';
import { batchText, nextBatch } from './batches.ts';

const MAX_COMMAND_ID_LENGTH = 100;
const BEARER = 'Bearer ';

/** An answer as HTTP knows it; over NATS only the body travels. */
export interface Answer {
  readonly status: number;
  /** JSON, or nothing. */
  readonly body: string;
}

export class UnitAnswers {
  readonly #unit: EmulatedUnit;
  readonly #metrics: Metrics;
  #verifier: { readonly of: Credentials; readonly ready: Promise<UnitVerifier> } | undefined;

  constructor(unit: EmulatedUnit, metrics: Metrics) {
    this.#unit = unit;
    this.#metrics = metrics;
  }

  /** `POST /commands`: always 200 with a `CommandAnswer`, except for what is no signed command at all. */
  async command(body: Uint8Array): Promise<Answer> {
    const verifier = await this.verifier();
    if (verifier === undefined) return problem(503, 'unregistered');
    const signed = parseJson(body);
    if (!Value.Check(SignedCommand, signed)) return problem(400, 'malformed');
    this.#metrics.commands += 1;
    return json(200, await this.#execute(verifier, signed.jws));
  }

  async #execute(verifier: UnitVerifier, jws: string): Promise<CommandAnswer> {
    try {
      const signed = await verifier.command(jws, this.#unit.nowMs());
      return await this.#unit.decide((unit, around) => execute(unit, signed, around));
    } catch (error) {
      if (!(error instanceof SignatureError)) throw error;
      return { commandId: claimedCommandId(jws), status: 'refused', reason: 'signature' };
    }
  }

  /** `GET /ping`: proves who answers, and takes note of what the platform has recorded. */
  ping(query: URLSearchParams): Answer {
    const { name, credentials } = this.#unit;
    if (credentials === undefined) return problem(503, 'unregistered');
    const nonce = query.get('nonce') ?? '';
    const clock = query.get('clock') ?? '';
    const place = query.get('recorded');
    const recorded = place === null ? undefined : parsePlace(place);
    const readable =
      /^[0-9a-f]{32}$/.test(nonce) && /^\d{1,15}$/.test(clock) && (place === null) === (recorded === undefined);
    if (!readable) return problem(400, 'malformed');
    const key = Buffer.from(credentials.unitKey, 'base64');
    const request = { unit: name, nonce, clockMs: Number(clock), ...(recorded === undefined ? {} : { recorded }) };
    if (!sameMac(query.get('mac') ?? '', pingMac(key, request))) return { status: 403, body: '' };
    this.#unit.notePing();
    if (recorded !== undefined) void this.#unit.noteRecorded(recorded);
    const reply = this.#unit.status();
    return json(200, { ...reply, nonce, mac: pingReplyMac(key, nonce, reply) });
  }

  /**
   * `GET /events`: a page of the log after a place. Asked after a place in another epoch, the unit answers from the start of
   * its present one. Only what the signed token names recorded is deleted: the query is not signed.
   */
  async events(query: URLSearchParams, authorization: string | undefined): Promise<Answer> {
    const verifier = await this.verifier();
    if (verifier === undefined) return problem(503, 'unregistered');
    if (authorization === undefined || !authorization.startsWith(BEARER)) return problem(401, 'signature');
    let named: string | undefined;
    try {
      named = (await verifier.fetch(authorization.slice(BEARER.length), this.#unit.nowMs())).recorded;
    } catch (error) {
      if (error instanceof SignatureError) return problem(401, 'signature');
      throw error;
    }
    const after = query.get('after');
    const place = after === null ? undefined : parsePlace(after);
    const limit = Number(query.get('limit') ?? MAX_BATCH_EVENTS);
    const limitHolds = Number.isInteger(limit) && limit >= 1 && limit <= MAX_BATCH_EVENTS;
    if ((after === null) !== (place === undefined) || !limitHolds) return problem(400, 'malformed');
    const recorded = named === undefined ? undefined : parsePlace(named);
    if (recorded !== undefined) await this.#unit.noteRecorded(recorded);
    return { status: 200, body: this.#page(place, limit) };
  }

  #page(place: { epoch: string; seq: number } | undefined, limit: number): string {
    const { epoch, lastSeq, recordedSeq } = this.#unit.model.log;
    const firstAvailableSeq = recordedSeq + 1;
    const fromSeq = place?.epoch === epoch ? Math.max(place.seq + 1, firstAvailableSeq) : firstAvailableSeq;
    const batch = nextBatch(this.#unit, fromSeq, limit);
    const more = batch !== undefined && batch.toSeq < lastSeq;
    return batchText(this.#unit.name, epoch, batch?.bodies ?? [], { firstAvailableSeq, lastSeq, more });
  }

  /** Checks the platform's signatures; `undefined` before the unit was registered. */
  verifier(): Promise<UnitVerifier | undefined> {
    const { credentials, name } = this.#unit;
    if (credentials === undefined) return Promise.resolve(undefined);
    if (this.#verifier?.of !== credentials) {
      this.#verifier = { of: credentials, ready: UnitVerifier.create(credentials.platformPublicKey, name) };
    }
    return this.#verifier.ready;
  }
}

/** An error of the request itself: `{reason}`. */
export function problem(status: number, reason: string): Answer {
  return json(status, { reason });
}

function json(status: number, body: object): Answer {
  return { status, body: JSON.stringify(body) };
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

/** Which command a rejected signature claims to be, so that its sender can tell the answer; empty when it says nothing. */
function claimedCommandId(jws: string): string {
  const claims = parseJson(Buffer.from(jws.split('.')[1] ?? '', 'base64url'));
  if (typeof claims !== 'object' || claims === null || !('command' in claims)) return '';
  const { command } = claims;
  if (typeof command !== 'object' || command === null || !('commandId' in command)) return '';
  return typeof command.commandId === 'string' ? command.commandId.slice(0, MAX_COMMAND_ID_LENGTH) : '';
}

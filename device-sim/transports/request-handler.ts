/** What a unit answers, whatever carried the question: commands, pings, and requests for its log. */

import { Value } from '@sinclair/typebox/value';
import { FetchRequest, MAX_BATCH_EVENTS } from '../../domain/unit-protocol/batch.ts';
import { type PingReply, SignedCommand } from '../../domain/unit-protocol/commands.ts';
import { toMs } from '../../domain/vocabulary.ts';
import { decodePing, encodePingReply } from '../../platform/unit-protocol/datagram.ts';
import { type PingRequest, parsePlace, pingMac, pingReplyMac, sameMac } from '../../platform/unit-protocol/ping.ts';
import { SignatureError, UnitVerifier } from '../../platform/unit-protocol/signatures.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { FleetMetrics } from '../emulation/fleet-metrics.ts';
import { executeCommand, type VerifiedCommand } from '../unit/commands.ts';
import type { Credentials } from '../unit/credentials.ts';
import { firstAvailableSeq } from '../unit/model.ts';
import { batchJson, nextBatch } from './batches.ts';

const MAX_COMMAND_ID_LENGTH = 100;
const BEARER = 'Bearer ';

/** An answer as HTTP knows it; over NATS only the body travels. */
export interface UnitResponse {
  readonly status: number;
  /** JSON, or nothing. */
  readonly body: string;
}

export class UnitRequestHandler {
  readonly #unit: EmulatedUnit;
  readonly #metrics: FleetMetrics;
  #verifier: { readonly of: Credentials; readonly ready: Promise<UnitVerifier> } | undefined;

  constructor(unit: EmulatedUnit, metrics: FleetMetrics) {
    this.#unit = unit;
    this.#metrics = metrics;
  }

  /**
   * `POST /commands`: always 200 with a `CommandAnswer`, except for what is no signed command at all. `undefined`: the unit
   * crashed.
   */
  handleCommand(body: Uint8Array): Promise<UnitResponse | undefined> {
    return this.#command(parseJson(body));
  }

  /**
   * A request on the unit's `.commands` subject: a ping, or something that the platform signed, which says what it is. A token
   * with the scope `events` asks for the log, everything else is a command. Whether the signature holds is looked at by
   * whoever it is for. `undefined`: no reply, since nobody who has the unit's key has pinged.
   */
  async handleNatsRequest(body: Uint8Array): Promise<UnitResponse | undefined> {
    const asked = parseJson(body);
    const query = pingIn(asked);
    if (query !== undefined) {
      const answer = this.handlePing(query);
      return answer.status === 200 ? answer : undefined;
    }
    const jws = Value.Check(SignedCommand, asked) ? asked.jws : '';
    const claims = claimsOf(jws);
    return claims !== undefined && 'scope' in claims && claims.scope === 'events'
      ? this.#fetch(jws, asked)
      : this.#command(asked);
  }

  async #command(signed: unknown): Promise<UnitResponse | undefined> {
    const verifier = await this.verifier();
    if (verifier === undefined) return errorResponse(503, 'unregistered');
    if (!Value.Check(SignedCommand, signed)) return errorResponse(400, 'malformed');
    this.#metrics.commands += 1;
    try {
      return await this.#carryOut(await verifier.command(signed.jws, this.#unit.nowMs()));
    } catch (error) {
      if (!(error instanceof SignatureError)) throw error;
      return json(200, { commandId: claimedCommandId(signed.jws), status: 'refused', reason: 'signature' });
    }
  }

  /** Carries a command out. A configuration may bring the unit down before or after it is stored. */
  async #carryOut(order: VerifiedCommand): Promise<UnitResponse | undefined> {
    const carryOut = () => this.#unit.decide((unit, around) => executeCommand(unit, order, around));
    const applying = 'applyConfiguration' in order.command ? this.#unit.faults.applying : 'well';
    switch (applying) {
      case 'garbage':
        return { status: 200, body: '<html>it works</html>' };
      case 'crash-before':
        await this.#unit.reboot();
        return undefined;
      case 'crash-after':
        await carryOut();
        await this.#unit.reboot();
        return undefined;
      default:
        return json(200, await carryOut());
    }
  }

  /** `GET /ping`: proves who answers, and takes note of what the platform has recorded. */
  handlePing(query: URLSearchParams): UnitResponse {
    const { name, credentials } = this.#unit;
    if (credentials === undefined) return errorResponse(503, 'unregistered');
    const nonce = query.get('nonce') ?? '';
    const clock = query.get('clock') ?? '';
    const place = query.get('recorded');
    const recorded = place === null ? undefined : parsePlace(place);
    const readable =
      /^[0-9a-f]{32}$/.test(nonce) && /^\d{1,15}$/.test(clock) && (place === null) === (recorded === undefined);
    if (!readable) return errorResponse(400, 'malformed');
    const key = keyOf(credentials);
    const request = { unit: name, nonce, clockMs: Number(clock), ...(recorded === undefined ? {} : { recorded }) };
    if (!sameMac(query.get('mac') ?? '', pingMac(key, request))) return { status: 403, body: '' };
    const reply = this.#pinged(recorded);
    return json(200, { ...reply, nonce, mac: pingReplyMac(key, nonce, reply) });
  }

  /** The ping as a datagram. `undefined`: no reply, since nobody who has the unit's key has asked. */
  handleDatagram(request: Buffer): Buffer | undefined {
    const { credentials } = this.#unit;
    const key = credentials === undefined ? undefined : keyOf(credentials);
    const asked = key === undefined ? undefined : decodePing(key, request);
    if (key === undefined || asked === undefined) return undefined;
    const { time, ...reply } = this.#pinged(asked.recorded);
    return encodePingReply(key, asked.nonce, { ...reply, flags: 0, clockMs: Math.max(0, toMs(time)) });
  }

  /** The platform has pinged: what it has recorded may go, and what the unit says of itself is the answer. */
  #pinged(recorded: PingRequest['recorded']): PingReply {
    this.#unit.markPinged();
    if (recorded !== undefined) void this.#unit.markRecorded(recorded);
    return this.#unit.status();
  }

  /** `GET /events`: what the query asks for, with the token that the header bears. */
  handleFetch(query: URLSearchParams, authorization: string | undefined): Promise<UnitResponse> {
    const jws = authorization?.startsWith(BEARER) === true ? authorization.slice(BEARER.length) : undefined;
    const after = query.get('after');
    const limit = query.get('limit');
    const asked = { jws, ...(after === null ? {} : { after }), ...(limit === null ? {} : { limit: Number(limit) }) };
    return this.#fetch(jws, asked);
  }

  /**
   * A page of the log after a place. Asked after a place in another epoch, the unit answers from the start of its present
   * one. Only what the signed token names recorded is deleted: the rest of the request is not signed.
   */
  async #fetch(jws: string | undefined, asked: unknown): Promise<UnitResponse> {
    const verifier = await this.verifier();
    if (verifier === undefined) return errorResponse(503, 'unregistered');
    if (jws === undefined) return errorResponse(401, 'signature');
    let named: string | undefined;
    try {
      named = (await verifier.fetch(jws, this.#unit.nowMs())).recorded;
    } catch (error) {
      if (error instanceof SignatureError) return errorResponse(401, 'signature');
      throw error;
    }
    if (!Value.Check(FetchRequest, asked)) return errorResponse(400, 'malformed');
    const { after, limit = MAX_BATCH_EVENTS } = asked;
    const place = after === undefined ? undefined : parsePlace(after);
    if ((after === undefined) !== (place === undefined)) return errorResponse(400, 'malformed');
    const recorded = named === undefined ? undefined : parsePlace(named);
    if (recorded !== undefined) await this.#unit.markRecorded(recorded);
    return { status: 200, body: this.#page(place, limit) };
  }

  #page(place: { epoch: string; seq: number } | undefined, limit: number): string {
    const { log } = this.#unit.model;
    const { epoch, lastSeq } = log;
    const first = firstAvailableSeq(log);
    const fromSeq = place?.epoch === epoch ? Math.max(place.seq + 1, first) : first;
    const batch = nextBatch(this.#unit, fromSeq, limit);
    const more = batch !== undefined && batch.toSeq < lastSeq;
    return batchJson(this.#unit.name, epoch, batch?.bodies ?? [], { firstAvailableSeq: first, lastSeq, more });
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

function keyOf({ unitKey }: Credentials): Buffer {
  return Buffer.from(unitKey, 'base64');
}

/** An error of the request itself: `{reason}`. */
export function errorResponse(status: number, reason: string): UnitResponse {
  return json(status, { reason });
}

function json(status: number, body: object): UnitResponse {
  return { status, body: JSON.stringify(body) };
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

/** The ping in a request over NATS, as the query that it would be over HTTP. */
function pingIn(asked: unknown): URLSearchParams | undefined {
  if (typeof asked !== 'object' || asked === null || !('ping' in asked)) return undefined;
  const { ping } = asked;
  if (typeof ping !== 'object' || ping === null) return undefined;
  return new URLSearchParams(Object.entries(ping).map(([name, value]): [string, string] => [name, String(value)]));
}

/** Which command a rejected signature claims to be, so that its sender can tell the answer; empty when it says nothing. */
function claimedCommandId(jws: string): string {
  const claims = claimsOf(jws);
  if (claims === undefined || !('command' in claims)) return '';
  const { command } = claims;
  if (typeof command !== 'object' || command === null || !('commandId' in command)) return '';
  return typeof command.commandId === 'string' ? command.commandId.slice(0, MAX_COMMAND_ID_LENGTH) : '';
}

/** What a JWS claims, whoever signed it. */
function claimsOf(jws: string): object | undefined {
  const claims = parseJson(Buffer.from(jws.split('.')[1] ?? '', 'base64url'));
  return typeof claims === 'object' && claims !== null ? claims : undefined;
}

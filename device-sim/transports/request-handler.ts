/** The answers of a unit to the platform's requests, independent of the channel: pings, commands and fetches of the log. */

import { Value } from '@sinclair/typebox/value';
import { FetchRequest, MAX_BATCH_EVENTS } from '../../domain/unit-protocol/batch.ts';
import { type Command, type PingReply, SignedCommand } from '../../domain/unit-protocol/commands.ts';
import { toMs } from '../../domain/vocabulary.ts';
import { decodePing, encodePingReply } from '../../platform/unit-protocol/datagram.ts';
import { type PingRequest, parsePlace, pingMac, pingReplyMac, sameMac } from '../../platform/unit-protocol/ping.ts';
import { SignatureError, UnitVerifier, UnreadableCommandError } from '../../platform/unit-protocol/signatures.ts';
import type { EmulatedUnit } from '../emulation/emulated-unit.ts';
import type { FleetMetrics } from '../emulation/fleet-metrics.ts';
import { executeCommand } from '../unit/commands.ts';
import type { Credentials } from '../unit/credentials.ts';
import { firstAvailableSeq } from '../unit/model.ts';
import { batchJson, nextBatch } from './batches.ts';

const MAX_COMMAND_ID_LENGTH = 100;
const BEARER = 'Bearer ';

/** An answer as HTTP sends it. Over NATS, only the body is sent. */
export interface UnitResponse {
  readonly status: number;
  /** JSON, or empty. */
  readonly body: string;
}

export class UnitRequestHandler {
  readonly #unit: EmulatedUnit;
  readonly #metrics: FleetMetrics;
  #verifier: { readonly credentials: Credentials; readonly ready: Promise<UnitVerifier> } | undefined;

  constructor(unit: EmulatedUnit, metrics: FleetMetrics) {
    this.#unit = unit;
    this.#metrics = metrics;
  }

  /**
   * `POST /commands`. A signed command is answered with status 200 and a `CommandAnswer`, also when the unit
   * refuses it or fails to execute it.
   * @returns undefined when the unit crashes before it answers, or the network loses the answer
   */
  handleCommand(body: Uint8Array): Promise<UnitResponse | undefined> {
    return this.#command(parseJson(body));
  }

  /**
   * A request on the unit's `.commands` subject. A body with `ping` is a ping, a JWS with the scope `events` is a fetch, and
   * any other JWS is a command. The payload is read before its signature is checked: the handler that it selects checks it.
   * @returns undefined when the unit does not reply: a ping that cannot be read or whose MAC does not hold, a crash, or a lost answer
   */
  async handleNatsRequest(body: Uint8Array): Promise<UnitResponse | undefined> {
    const request = parseJson(body);
    if (typeof request === 'object' && request !== null && 'ping' in request) {
      const response = this.handlePing(pingQuery(request.ping));
      return response.status === 200 ? response : undefined;
    }
    const jws = Value.Check(SignedCommand, request) ? request.jws : '';
    const claims = unverifiedClaims(jws);
    return claims !== undefined && 'scope' in claims && claims.scope === 'events'
      ? this.#fetch(jws, request)
      : this.#command(request);
  }

  async #command(request: unknown): Promise<UnitResponse | undefined> {
    const verifier = await this.verifier();
    if (verifier === undefined) return errorResponse(503, 'unregistered');
    if (!Value.Check(SignedCommand, request)) return errorResponse(400, 'malformed');
    this.#metrics.commands += 1;
    try {
      const command = await verifier.command(request.jws, this.#unit.nowMs());
      const [isAnswerLost, response] = await Promise.all([this.#unit.loseAnswer(), this.#execute(command)]);
      return isAnswerLost ? undefined : response;
    } catch (error) {
      if (error instanceof UnreadableCommandError) {
        return jsonResponse(200, { commandId: error.commandId, status: 'refused', reason: error.reason });
      }
      if (!(error instanceof SignatureError)) throw error;
      return jsonResponse(200, {
        commandId: unverifiedCommandId(request.jws),
        status: 'refused',
        reason: 'signature',
      });
    }
  }

  /** Executes a command with the fault `applying`, which can crash the unit before or after it stores a configuration. */
  async #execute(command: Command): Promise<UnitResponse | undefined> {
    const execute = () => this.#unit.decide((unit, context) => executeCommand(unit, command, context));
    const fault = 'applyConfiguration' in command ? this.#unit.faults.applying : 'well';
    switch (fault) {
      case 'garbage':
        return { status: 200, body: '<html>it works</html>' };
      case 'crash-before':
        await this.#unit.reboot();
        return undefined;
      case 'crash-after':
        await execute();
        await this.#unit.reboot();
        return undefined;
      default:
        return jsonResponse(200, await execute());
    }
  }

  /** `GET /ping`. A ping whose MAC holds marks the log recorded up to the place that it names. */
  handlePing(query: URLSearchParams): UnitResponse {
    const { name, credentials } = this.#unit;
    if (credentials === undefined) return errorResponse(503, 'unregistered');
    const nonce = query.get('nonce') ?? '';
    const clock = query.get('clock') ?? '';
    const place = query.get('recorded');
    const recorded = place === null ? undefined : parsePlace(place);
    const isReadable =
      /^[0-9a-f]{32}$/.test(nonce) && /^\d{1,15}$/.test(clock) && (place === null) === (recorded === undefined);
    if (!isReadable) return errorResponse(400, 'malformed');
    const key = decodeUnitKey(credentials);
    const request = { unit: name, nonce, clockMs: Number(clock), ...(recorded === undefined ? {} : { recorded }) };
    if (!sameMac(query.get('mac') ?? '', pingMac(key, request))) return { status: 403, body: '' };
    const reply = this.#acceptPing(recorded);
    return jsonResponse(200, { ...reply, nonce, mac: pingReplyMac(key, nonce, reply) });
  }

  /** A ping as a datagram. @returns undefined when it cannot be read or its MAC does not hold: it gets no reply */
  handleDatagram(request: Buffer): Buffer | undefined {
    const { credentials } = this.#unit;
    if (credentials === undefined) return undefined;
    const key = decodeUnitKey(credentials);
    const ping = decodePing(key, request);
    if (ping === undefined) return undefined;
    const { time, ...reply } = this.#acceptPing(ping.recorded);
    return encodePingReply(key, ping.nonce, { ...reply, flags: 0, clockMs: Math.max(0, toMs(time)) });
  }

  #acceptPing(recorded: PingRequest['recorded']): PingReply {
    this.#unit.markPinged();
    if (recorded !== undefined) void this.#unit.markRecorded(recorded);
    return this.#unit.status();
  }

  /** `GET /events` with the token of the Authorization header. */
  handleFetch(query: URLSearchParams, authorization: string | undefined): Promise<UnitResponse> {
    const jws = authorization?.startsWith(BEARER) === true ? authorization.slice(BEARER.length) : undefined;
    const after = query.get('after');
    const limit = query.get('limit');
    const request = { jws, ...(after === null ? {} : { after }), ...(limit === null ? {} : { limit: Number(limit) }) };
    return this.#fetch(jws, request);
  }

  /**
   * A page of the log after a place; from the start of the present epoch when the place is in another one. The unit
   * deletes only what the signed token names recorded, since the rest of the request is not signed.
   */
  async #fetch(jws: string | undefined, request: unknown): Promise<UnitResponse> {
    const verifier = await this.verifier();
    if (verifier === undefined) return errorResponse(503, 'unregistered');
    if (jws === undefined) return errorResponse(401, 'signature');
    let signedRecorded: string | undefined;
    try {
      signedRecorded = (await verifier.fetch(jws, this.#unit.nowMs())).recorded;
    } catch (error) {
      if (error instanceof SignatureError) return errorResponse(401, 'signature');
      throw error;
    }
    if (!Value.Check(FetchRequest, request)) return errorResponse(400, 'malformed');
    const { after, limit = MAX_BATCH_EVENTS } = request;
    const place = after === undefined ? undefined : parsePlace(after);
    if ((after === undefined) !== (place === undefined)) return errorResponse(400, 'malformed');
    const recorded = signedRecorded === undefined ? undefined : parsePlace(signedRecorded);
    if (recorded !== undefined) await this.#unit.markRecorded(recorded);
    return { status: 200, body: this.#page(place, limit) };
  }

  #page(after: { epoch: string; seq: number } | undefined, limit: number): string {
    const { log } = this.#unit.model;
    const { epoch, lastSeq } = log;
    const first = firstAvailableSeq(log);
    const fromSeq = after?.epoch === epoch ? Math.max(after.seq + 1, first) : first;
    const batch = nextBatch(this.#unit, fromSeq, limit);
    const more = batch !== undefined && batch.toSeq < lastSeq;
    return batchJson(this.#unit.name, epoch, batch?.bodies ?? [], { firstAvailableSeq: first, lastSeq, more });
  }

  /** Checks signatures of the platform. @returns undefined before the unit is registered */
  verifier(): Promise<UnitVerifier | undefined> {
    const { credentials, name } = this.#unit;
    if (credentials === undefined) return Promise.resolve(undefined);
    if (this.#verifier?.credentials !== credentials) {
      this.#verifier = { credentials, ready: UnitVerifier.create(credentials.platformPublicKey, name) };
    }
    return this.#verifier.ready;
  }
}

function decodeUnitKey({ unitKey }: Credentials): Buffer {
  return Buffer.from(unitKey, 'base64');
}

/** An error of the unit protocol: `{reason}`. */
export function errorResponse(status: number, reason: string): UnitResponse {
  return jsonResponse(status, { reason });
}

function jsonResponse(status: number, body: object): UnitResponse {
  return { status, body: JSON.stringify(body) };
}

/** @returns undefined when the bytes are no JSON in UTF-8 */
function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

/** A ping over NATS as the query of `GET /ping`. A value that is no object has no parameters, and cannot be read. */
function pingQuery(ping: unknown): URLSearchParams {
  if (typeof ping !== 'object' || ping === null) return new URLSearchParams();
  return new URLSearchParams(Object.entries(ping).map(([name, value]): [string, string] => [name, String(value)]));
}

/** The `commandId` that a JWS claims, although its signature does not hold; empty when it claims none. */
function unverifiedCommandId(jws: string): string {
  const claims = unverifiedClaims(jws);
  if (claims === undefined || !('command' in claims)) return '';
  const { command } = claims;
  if (typeof command !== 'object' || command === null || !('commandId' in command)) return '';
  return typeof command.commandId === 'string' ? command.commandId.slice(0, MAX_COMMAND_ID_LENGTH) : '';
}

/** The payload of a JWS whose signature is not checked. */
function unverifiedClaims(jws: string): object | undefined {
  const claims = parseJson(Buffer.from(jws.split('.')[1] ?? '', 'base64url'));
  return typeof claims === 'object' && claims !== null ? claims : undefined;
}

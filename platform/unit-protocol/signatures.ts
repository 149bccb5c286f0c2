/**
 * What the platform signs for units, as compact Ed25519 JWS (RFC 7515, `alg: EdDSA`): commands, requests for events, and
 * the offline tokens that customers show as QR codes. A unit checks them with the public key it got at registration.
 */

import { type Static, type TSchema, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { CompactSign, type CryptoKey, compactVerify, importJWK, type JWK } from 'jose';
import { COMMAND_SIGNATURE_TTL_S, Command, OfflineTokenClaims } from '../../domain/unit-protocol/commands.ts';

/** The greatest difference between the clocks of a unit and the platform at which the unit accepts signatures. */
export const CLOCK_TOLERANCE_S = 120;

const MS_PER_S = 1_000;

const CommandClaims = Type.Object({
  aud: Type.String(),
  iat: Type.Number(),
  exp: Type.Number(),
  command: Type.Object({}),
});
const CommandHead = Type.Object({ commandId: Type.String({ minLength: 1, maxLength: 100 }) });
const COMMAND_KINDS = ['openLocker', 'applyConfiguration', 'syncReservations'];
const FetchClaims = Type.Object({
  aud: Type.String(),
  iat: Type.Number(),
  exp: Type.Number(),
  scope: Type.Literal('events'),
  recorded: Type.Optional(Type.String({ maxLength: 64, description: 'EPOCH:SEQ' })),
});

/** The signature is missing, forged, expired or for another unit. */
export class SignatureError extends Error {
  override readonly name = 'SignatureError';
}

/** The signature holds, but the unit cannot execute what it signs: the command is of an unknown kind, or has invalid fields. */
export class UnreadableCommandError extends Error {
  override readonly name = 'UnreadableCommandError';
  readonly commandId: string;
  readonly reason: 'unknown-command' | 'malformed';

  constructor(commandId: string, reason: UnreadableCommandError['reason']) {
    super(`The command ${commandId} cannot be executed: ${reason}.`);
    this.commandId = commandId;
    this.reason = reason;
  }
}

export class PlatformSigner {
  readonly #key: CryptoKey;

  private constructor(key: CryptoKey) {
    this.#key = key;
  }

  /** `jwk`: the platform's private Ed25519 key. */
  static async create(jwk: JWK): Promise<PlatformSigner> {
    return new PlatformSigner(await importKey(jwk));
  }

  /** Signs a command for one unit, valid for `COMMAND_SIGNATURE_TTL_S` seconds from `unitNowMs` on, a time of the unit's clock. */
  command(unit: string, command: Command, unitNowMs: number): Promise<string> {
    return this.#sign({ ...timed(unit, unitNowMs), command });
  }

  /**
   * Signs the bearer token with which the platform reads a unit's log (`GET /events`). `recorded` (`EPOCH:SEQ`) is the place
   * up to which the unit may delete: it is signed, because with an unsigned place any party that sees the token could
   * delete the log. The token is valid from `unitNowMs` on, a time of the unit's clock.
   */
  fetch(unit: string, unitNowMs: number, recorded?: string): Promise<string> {
    return this.#sign({ ...timed(unit, unitNowMs), scope: 'events', ...(recorded === undefined ? {} : { recorded }) });
  }

  /** Signs the offline token that a customer shows at a unit. Equal claims give equal tokens. */
  offlineToken(claims: OfflineTokenClaims): Promise<string> {
    return this.#sign(claims);
  }

  #sign(payload: object): Promise<string> {
    const bytes = new TextEncoder().encode(JSON.stringify(payload));
    return new CompactSign(bytes).setProtectedHeader({ alg: 'EdDSA' }).sign(this.#key);
  }
}

/** Checks the platform's signatures at one unit. Every method throws `SignatureError` when the signature does not hold. */
export class UnitVerifier {
  readonly #key: CryptoKey;
  readonly #unit: string;

  private constructor(key: CryptoKey, unit: string) {
    this.#key = key;
    this.#unit = unit;
  }

  /** `jwk`: the platform's public key, `platformPublicKey` of the unit's credentials. */
  static async create(jwk: JWK, unit: string): Promise<UnitVerifier> {
    return new UnitVerifier(await importKey(jwk), unit);
  }

  /** @throws SignatureError, UnreadableCommandError */
  async command(jws: string, nowMs: number): Promise<Command> {
    const { command, ...claims } = await this.#verify(CommandClaims, jws);
    this.#checkTime(claims, nowMs);
    if (!Value.Check(Command, command)) {
      const isKnown = COMMAND_KINDS.some((kind) => kind in command);
      const commandId = Value.Check(CommandHead, command) ? command.commandId : '';
      throw new UnreadableCommandError(commandId, isKnown ? 'malformed' : 'unknown-command');
    }
    return command;
  }

  async fetch(jws: string, nowMs: number): Promise<{ recorded: string | undefined }> {
    const claims = await this.#verify(FetchClaims, jws);
    this.#checkTime(claims, nowMs);
    return { recorded: claims.recorded };
  }

  /** The claims name the reservation and its customer. The caller decides whether the reserved period allows the use now. */
  offlineToken(jws: string): Promise<OfflineTokenClaims> {
    return this.#verify(OfflineTokenClaims, jws);
  }

  async #verify<S extends TSchema>(schema: S, jws: string): Promise<Static<S>> {
    let claims: unknown;
    try {
      const { payload } = await compactVerify(jws, this.#key, { algorithms: ['EdDSA'] });
      claims = JSON.parse(new TextDecoder().decode(payload));
    } catch (error) {
      throw new SignatureError('the signature does not hold', { cause: error });
    }
    if (!Value.Check(schema, claims)) throw new SignatureError('the signed claims do not match the schema');
    if ((claims as { aud: string }).aud !== this.#unit) throw new SignatureError('the signature is for another unit');
    return claims;
  }

  #checkTime(claims: { readonly iat: number; readonly exp: number }, nowMs: number): void {
    const nowS = nowMs / MS_PER_S;
    if (nowS > claims.exp + CLOCK_TOLERANCE_S) throw new SignatureError('the signature has expired');
    if (nowS < claims.iat - CLOCK_TOLERANCE_S)
      throw new SignatureError('the signature was issued in the future: the clocks differ too much');
  }
}

function timed(unit: string, nowMs: number): { aud: string; iat: number; exp: number } {
  const iat = Math.floor(nowMs / MS_PER_S);
  return { aud: unit, iat, exp: iat + COMMAND_SIGNATURE_TTL_S };
}

async function importKey(jwk: JWK): Promise<CryptoKey> {
  const key = await importJWK(jwk, 'EdDSA');
  if (key instanceof Uint8Array) throw new TypeError('the key is not an Ed25519 key');
  return key;
}

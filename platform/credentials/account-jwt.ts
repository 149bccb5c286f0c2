/**
 * Reads and signs the JWT of a NATS account. Of two JWTs of an account, nats-server keeps the one that was issued later, to the
 * second; of two issued in one second, it keeps the one that it received last. A changed JWT is therefore issued at least a
 * second later than the JWT that it replaces.
 */

import { createHash } from 'node:crypto';
import type { Account, ClaimsData, KeyPair } from '@nats-io/jwt';

export type AccountClaims = ClaimsData<Account>;
/** Revoked NATS users by public key, each with a time in seconds since 1970: credentials issued until then are invalid. */
export type Revocations = Readonly<Record<string, number>>;

const HEADER = encode({ typ: 'JWT', alg: 'ed25519-nkey' });

/** The claims of a JWT, without verifying its signature. @throws TypeError when the text is not a JWT */
export function readAccountJwt(jwt: string): AccountClaims {
  const payload = jwt.split('.')[1];
  if (payload === undefined) throw new TypeError('The text is not a JWT.');
  return JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as AccountClaims;
}

/** Signs claims of an account as issued at `issuedAtS`, seconds since 1970. */
export function signAccountJwt(claims: AccountClaims, operator: KeyPair, issuedAtS: number): string {
  const issued = { ...claims, iss: operator.getPublicKey(), iat: issuedAtS, jti: '' };
  // The server ignores a JWT whose id it has stored already.
  const jti = createHash('sha256').update(JSON.stringify(issued)).digest('base64url');
  const signed = `${HEADER}.${encode({ ...issued, jti })}`;
  return `${signed}.${Buffer.from(operator.sign(Buffer.from(signed))).toString('base64url')}`;
}

export function revocationsIn(claims: AccountClaims): Revocations {
  return claims.nats.revocations ?? {};
}

/** A JWT that replaces the one with these claims and has further revocations. */
export function withRevocations(claims: AccountClaims, added: Revocations, operator: KeyPair, nowMs: number): string {
  const revocations = { ...revocationsIn(claims), ...added };
  return signAccountJwt({ ...claims, nats: { ...claims.nats, revocations } }, operator, issueTimeS(claims, nowMs));
}

/**
 * A JWT that replaces `stored`, with the settings of `fresh` and the revocations of `stored`: revocations are the only part of
 * an account that is not a setting.
 */
export function replacementJwt(stored: AccountClaims, fresh: AccountClaims, operator: KeyPair): string {
  const { revocations } = stored.nats;
  const nats = revocations === undefined ? fresh.nats : { ...fresh.nats, revocations };
  return signAccountJwt({ ...fresh, nats }, operator, issueTimeS(stored, fresh.iat * 1_000));
}

/** The time of issue of a JWT that replaces the one with these claims, in seconds since 1970. */
function issueTimeS({ iat }: AccountClaims, nowMs: number): number {
  return Math.max(iat + 1, Math.floor(nowMs / 1_000));
}

function encode(content: object): string {
  return Buffer.from(JSON.stringify(content)).toString('base64url');
}

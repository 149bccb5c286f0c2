/**
 * The JWT of a NATS account, read and signed anew. nats-server keeps of two JWTs of an account the one that was issued
 * later, to the second, and of two of the same second the one that came last: whoever changes one issues it later than
 * the one that it was made from.
 */

import { createHash } from 'node:crypto';
import type { Account, ClaimsData, KeyPair } from '@nats-io/jwt';

export type AccountClaims = ClaimsData<Account>;
/** NATS users by public key, each with the time (seconds since 1970) up to which what was issued to it does not count. */
export type Revocations = Readonly<Record<string, number>>;

const HEADER = encode({ typ: 'JWT', alg: 'ed25519-nkey' });

/** What a JWT says; who signed it is not checked. @throws TypeError when it is none */
export function readAccountJwt(jwt: string): AccountClaims {
  const payload = jwt.split('.')[1];
  if (payload === undefined) throw new TypeError('the text is no JWT');
  return JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as AccountClaims;
}

/** Signs claims of an account as issued at `issuedAtS`, seconds since 1970. */
export function signAccountJwt(claims: AccountClaims, operator: KeyPair, issuedAtS: number): string {
  const issued = { ...claims, iss: operator.getPublicKey(), iat: issuedAtS, jti: '' };
  // The server takes a JWT with an id that it has for the one that it has.
  const jti = createHash('sha256').update(JSON.stringify(issued)).digest('base64url');
  const signed = `${HEADER}.${encode({ ...issued, jti })}`;
  return `${signed}.${Buffer.from(operator.sign(Buffer.from(signed))).toString('base64url')}`;
}

export function revocationsIn(claims: AccountClaims): Revocations {
  return claims.nats.revocations ?? {};
}

/** A JWT with more revocations than the one that `claims` are of, to take its place. */
export function withRevocations(claims: AccountClaims, added: Revocations, operator: KeyPair, nowMs: number): string {
  const revocations = { ...revocationsIn(claims), ...added };
  return signAccountJwt({ ...claims, nats: { ...claims.nats, revocations } }, operator, laterThan(claims, nowMs));
}

/**
 * A JWT with the settings of `fresh` that takes the place of `stored` and keeps its revocations: those are the only part of
 * an account that is not a setting.
 */
export function replacing(stored: AccountClaims, fresh: AccountClaims, operator: KeyPair): string {
  const { revocations } = stored.nats;
  const nats = revocations === undefined ? fresh.nats : { ...fresh.nats, revocations };
  return signAccountJwt({ ...fresh, nats }, operator, laterThan(stored, fresh.iat * 1_000));
}

function laterThan({ iat }: AccountClaims, nowMs: number): number {
  return Math.max(iat + 1, Math.floor(nowMs / 1_000));
}

function encode(content: object): string {
  return Buffer.from(JSON.stringify(content)).toString('base64url');
}

/** The tokens of customers and operators: JWTs with `sub`, `role` and `exp`. */

import { createRemoteJWKSet, decodeProtectedHeader, type JWTPayload, jwtVerify, SignJWT } from 'jose';

export const TOKEN_ROLES = ['customer', 'ops'] as const;
export type TokenRole = (typeof TOKEN_ROLES)[number];

/** Verified tokens that are remembered, so that a busy client is not verified at every request. */
const MAX_REMEMBERED_TOKENS = 10_000;
const MAX_TOKEN_LENGTH = 4_096;
const MS_PER_S = 1_000;

export interface Principal {
  readonly sub: string;
  readonly role: TokenRole;
}

/** The token is missing, unsigned, foreign, expired, or says nothing that we understand. */
export class TokenError extends Error {
  override readonly name = 'TokenError';
}

/** Signs a token. `ttlS` is how long it holds. */
export function signToken(options: {
  readonly secret: string;
  readonly sub: string;
  readonly role: TokenRole;
  readonly ttlS: number;
  readonly nowMs: number;
}): Promise<string> {
  const issuedAt = Math.floor(options.nowMs / MS_PER_S);
  return new SignJWT({ role: options.role })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(options.sub)
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + options.ttlS)
    .sign(new TextEncoder().encode(options.secret));
}

export interface TokenVerifier {
  /** @throws TokenError */
  verify(token: string): Promise<Principal>;
}

/** Verifies tokens that were signed with a secret shared with whoever issues them (HS256). */
export function secretVerifier(secret: string, clock: () => number): TokenVerifier {
  const key = new TextEncoder().encode(secret);
  return remembering(clock, (token, currentDate) => jwtVerify(token, key, { algorithms: ['HS256'], currentDate }));
}

/** Verifies tokens against the public keys that an identity provider publishes at `jwksUrl`. */
export function jwksVerifier(jwksUrl: string, clock: () => number): TokenVerifier {
  const keys = createRemoteJWKSet(new URL(jwksUrl));
  const algorithms = ['RS256', 'PS256', 'ES256', 'EdDSA'];
  return remembering(clock, (token, currentDate) => jwtVerify(token, keys, { algorithms, currentDate }));
}

function remembering(
  clock: () => number,
  check: (token: string, currentDate: Date) => Promise<{ payload: JWTPayload }>,
): TokenVerifier {
  const remembered = new Map<string, { readonly principal: Principal; readonly expiresAtMs: number }>();
  return {
    async verify(token) {
      const known = remembered.get(token);
      if (known !== undefined) {
        if (clock() < known.expiresAtMs) return known.principal;
        remembered.delete(token);
        throw new TokenError('The token has expired.');
      }
      const verified = await verifyOnce(token, clock, check);
      if (remembered.size >= MAX_REMEMBERED_TOKENS) remembered.clear();
      remembered.set(token, verified);
      return verified.principal;
    },
  };
}

async function verifyOnce(
  token: string,
  clock: () => number,
  check: (token: string, currentDate: Date) => Promise<{ payload: JWTPayload }>,
): Promise<{ principal: Principal; expiresAtMs: number }> {
  if (token.length > MAX_TOKEN_LENGTH) throw new TokenError('The token is too long.');
  let payload: JWTPayload;
  try {
    // An unsigned token is told from a badly signed one for the sake of who reads the answer.
    if (decodeProtectedHeader(token).alg === 'none') throw new TokenError('The token is not signed.');
    payload = (await check(token, new Date(clock()))).payload;
  } catch (error) {
    if (error instanceof TokenError) throw error;
    const expired = error instanceof Error && 'code' in error && error.code === 'ERR_JWT_EXPIRED';
    throw new TokenError(expired ? 'The token has expired.' : 'The token is not one of ours.', { cause: error });
  }
  const { sub, role, exp } = payload;
  if (typeof sub !== 'string' || sub.length === 0 || sub.length > 200)
    throw new TokenError('The token names no subject.');
  if (role !== 'customer' && role !== 'ops') throw new TokenError('The token names no role that we know.');
  if (exp === undefined) throw new TokenError('The token has no end.');
  return { principal: { sub, role }, expiresAtMs: exp * MS_PER_S };
}

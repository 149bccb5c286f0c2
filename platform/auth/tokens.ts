/** The tokens of customers and operators: JWTs with `sub`, `role` and `exp`. */

import {
  createRemoteJWKSet,
  decodeProtectedHeader,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
  SignJWT,
} from 'jose';
import { LRUCache } from 'lru-cache';
import { isStorableText } from '../../domain/vocabulary.ts';

export const TOKEN_ROLES = ['customer', 'ops'] as const;
export type TokenRole = (typeof TOKEN_ROLES)[number];

/** Bytes of the cache of verified tokens, enough for some 30,000. A token in the cache is not verified again. */
const MAX_CACHE_BYTES = 16 * 1024 * 1024;
/** Bytes of a cache entry beside the text of its token. */
const ENTRY_OVERHEAD_BYTES = 200;
const MAX_TOKEN_LENGTH = 4_096;
const MAX_SUBJECT_LENGTH = 200;
/** Bounds the requests to the identity provider: without it, each token that names an unknown key would cause one. */
const KEY_REQUEST_INTERVAL_MS = 30_000;
/** How long the verifier waits for the keys of the identity provider. */
const KEY_REQUEST_TIMEOUT_MS = 5_000;
/** How far the clocks of the provider and the platform may differ: leeway of `exp`, `nbf` and `iat`. */
const CLOCK_LEEWAY_S = 5;
const MS_PER_S = 1_000;

export interface Principal {
  readonly sub: string;
  readonly role: TokenRole;
}

/** The token is missing, malformed, unsigned, expired or signed with another key, or it lacks a claim. */
export class TokenError extends Error {
  override readonly name = 'TokenError';
}

/** The identity provider does not give its keys, so that no token can be verified now. Retryable. */
export class IdentityProviderError extends Error {
  override readonly name = 'IdentityProviderError';
}

/** Signs a token that is valid for `ttlS` seconds from `nowMs`. */
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

/** The errors of the key search that say something of the token. Every other one is a failure of the provider or the network. */
const TOKEN_FAULTS = [errors.JWKSNoMatchingKey, errors.JWKSMultipleMatchingKeys, errors.JOSENotSupported];
const CHECKS = { clockTolerance: CLOCK_LEEWAY_S };

interface VerifiedToken {
  readonly principal: Principal;
  readonly expiresAtMs: number;
}

export interface TokenVerifier {
  /** @throws TokenError, IdentityProviderError */
  verify(token: string): Promise<Principal>;
}

/** Verifies tokens that were signed with a shared secret (HS256). */
export function secretVerifier(secret: string, clock: () => number): TokenVerifier {
  const key = new TextEncoder().encode(secret);
  return withCache(clock, (token, currentDate) =>
    jwtVerify(token, key, { ...CHECKS, algorithms: ['HS256'], currentDate }),
  );
}

/**
 * Verifies tokens against the public keys that an identity provider publishes at `jwksUrl`.
 * @param keyRequestIntervalMs the verifier asks the provider for a key that it does not know at most once in this time
 */
export function jwksVerifier(
  jwksUrl: string,
  clock: () => number,
  keyRequestIntervalMs = KEY_REQUEST_INTERVAL_MS,
): TokenVerifier {
  const published = createRemoteJWKSet(new URL(jwksUrl), {
    cooldownDuration: keyRequestIntervalMs,
    timeoutDuration: KEY_REQUEST_TIMEOUT_MS,
  });
  const keys: JWTVerifyGetKey = async (header, token) => {
    try {
      return await published(header, token);
    } catch (error) {
      if (TOKEN_FAULTS.some((fault) => error instanceof fault)) throw error;
      throw new IdentityProviderError('The identity provider does not give its keys.', { cause: error });
    }
  };
  const algorithms = ['RS256', 'PS256', 'ES256', 'EdDSA'];
  return withCache(clock, (token, currentDate) => jwtVerify(token, keys, { ...CHECKS, algorithms, currentDate }));
}

function withCache(
  clock: () => number,
  check: (token: string, currentDate: Date) => Promise<{ payload: JWTPayload }>,
): TokenVerifier {
  const verifiedTokens = new LRUCache<string, VerifiedToken>({
    maxSize: MAX_CACHE_BYTES,
    sizeCalculation: (_verified, token) => token.length + ENTRY_OVERHEAD_BYTES,
  });
  return {
    async verify(token) {
      const cached = verifiedTokens.get(token);
      if (cached !== undefined) {
        if (clock() < cached.expiresAtMs) return cached.principal;
        verifiedTokens.delete(token);
        throw new TokenError('The token has expired.');
      }
      const verified = await verifyOnce(token, clock, check);
      verifiedTokens.set(token, verified);
      return verified.principal;
    },
  };
}

async function verifyOnce(
  token: string,
  clock: () => number,
  check: (token: string, currentDate: Date) => Promise<{ payload: JWTPayload }>,
): Promise<VerifiedToken> {
  if (token.length > MAX_TOKEN_LENGTH) throw new TokenError('The token is too long.');
  let payload: JWTPayload;
  try {
    // An unsigned token gets a message of its own, which tells the client what to correct.
    if (decodeProtectedHeader(token).alg === 'none') throw new TokenError('The token is not signed.');
    payload = (await check(token, new Date(clock()))).payload;
  } catch (error) {
    if (error instanceof TokenError || error instanceof IdentityProviderError) throw error;
    const expired = error instanceof Error && 'code' in error && error.code === 'ERR_JWT_EXPIRED';
    throw new TokenError(
      expired ? 'The token has expired.' : 'The token is malformed, or its signature does not hold.',
      { cause: error },
    );
  }
  const { sub, role, exp, iat } = payload;
  if (typeof sub !== 'string' || sub.length === 0 || sub.length > MAX_SUBJECT_LENGTH)
    throw new TokenError(`The token must have a claim "sub" of 1 to ${MAX_SUBJECT_LENGTH} characters.`);
  if (!isStorableText(sub))
    throw new TokenError('The claim "sub" of the token must be well-formed Unicode without the character U+0000.');
  if (role !== 'customer' && role !== 'ops') {
    throw new TokenError(`The token must have a claim "role" of ${TOKEN_ROLES.join(' or ')}.`);
  }
  if (exp === undefined) throw new TokenError('The token must have a claim "exp".');
  if (iat !== undefined && iat * MS_PER_S > clock() + CLOCK_LEEWAY_S * MS_PER_S) {
    throw new TokenError('The token was issued in the future.');
  }
  return { principal: { sub, role }, expiresAtMs: (exp + CLOCK_LEEWAY_S) * MS_PER_S };
}

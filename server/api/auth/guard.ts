/** Who is asking: a bearer token, or an API key of an operator. */

import { type Principal, TokenError, type TokenRole, type TokenVerifier } from '../../../platform/auth/tokens.ts';
import { Problem } from '../../http/problems.ts';
import { API_KEY_PREFIX, type ApiKeys } from './api-keys.ts';

const SCHEME = /^Bearer +(\S+)$/i;

export class Guard {
  readonly #tokens: TokenVerifier;
  readonly #apiKeys: ApiKeys;

  constructor(tokens: TokenVerifier, apiKeys: ApiKeys) {
    this.#tokens = tokens;
    this.#apiKeys = apiKeys;
  }

  /** The principal that `authorization` proves. Throws 401 `unauthenticated`, or 403 `forbidden` for another role. */
  async require(authorization: string | undefined, role: TokenRole): Promise<Principal> {
    const principal = await this.#principal(authorization);
    if (principal.role !== role) throw new Problem('forbidden', 403, `This needs the role ${role}.`);
    return principal;
  }

  #principal(authorization: string | undefined): Promise<Principal> {
    if (authorization === undefined) throw new TokenError('There is no Authorization header.');
    const token = SCHEME.exec(authorization)?.[1];
    if (token === undefined) throw new TokenError('The Authorization header is not "Bearer TOKEN".');
    return token.startsWith(API_KEY_PREFIX) ? this.#apiKeys.verify(token) : this.#tokens.verify(token);
  }
}

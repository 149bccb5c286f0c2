/** Identifies the client of a request by its bearer token, or by the API key of an operator. */

import { type Principal, TokenError, type TokenVerifier } from '../../../platform/auth/tokens.ts';
import type { Caller, RequiredRole } from '../../http/api-macros.ts';
import { Problem } from '../../http/problems.ts';
import { API_KEY_PREFIX, type ApiKeys } from '../api-keys/api-keys.ts';
import type { Customers } from './customers.ts';

const BEARER = /^Bearer +(\S+)$/i;

export class Authenticator {
  readonly #tokens: TokenVerifier;
  readonly #apiKeys: ApiKeys;
  readonly #customers: Customers;

  constructor(tokens: TokenVerifier, apiKeys: ApiKeys, customers: Customers) {
    this.#tokens = tokens;
    this.#apiKeys = apiKeys;
    this.#customers = customers;
  }

  /**
   * The client that an `Authorization` header proves.
   * @throws TokenError when it proves none
   * @throws Problem 403 `forbidden` when the client has another role
   */
  async authenticate(authorization: string | undefined, role: RequiredRole): Promise<Caller> {
    const principal = await this.#principalOf(authorization);
    if (role !== 'any' && principal.role !== role) {
      throw new Problem(
        'forbidden',
        403,
        `This request needs a token with the role ${role}; this one has the role ${principal.role}.`,
      );
    }
    const id = principal.role === 'customer' ? await this.#customers.idOf(principal.sub) : principal.sub;
    return { ...principal, id, actor: `${principal.role}:${id}` };
  }

  #principalOf(authorization: string | undefined): Promise<Principal> {
    if (authorization === undefined) {
      throw new TokenError('The Authorization header is missing. Send "Authorization: Bearer TOKEN".');
    }
    const token = BEARER.exec(authorization)?.[1];
    if (token === undefined) throw new TokenError('The Authorization header is not of the form "Bearer TOKEN".');
    return token.startsWith(API_KEY_PREFIX) ? this.#apiKeys.verify(token) : this.#tokens.verify(token);
  }
}

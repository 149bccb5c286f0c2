/** The API keys of operators. The platform keeps a hash of each and shows the key itself only once. */

import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { type Principal, TokenError } from '../../../platform/auth/tokens.ts';
import type { Sql } from '../../../platform/postgres/connection.ts';

export const API_KEY_PREFIX = 'lfk_';
/** How long a valid key is not looked up again. The revocation by another server takes effect within this time. */
const CACHE_TTL_MS = 5_000;
const MAX_CACHED_KEYS = 1_000;

export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
}

export class ApiKeys {
  readonly #sql: Sql;
  readonly #clock: () => number;
  readonly #principals: LRUCache<string, Principal>;

  constructor(sql: Sql, clock: () => number) {
    this.#sql = sql;
    this.#clock = clock;
    this.#principals = new LRUCache({
      max: MAX_CACHED_KEYS,
      ttl: CACHE_TTL_MS,
      ttlResolution: 0,
      perf: { now: clock },
    });
  }

  /** Creates a key from `secret`, 32 random bytes. Only the result has the key itself. */
  async create(id: string, name: string, createdBy: string, secret: Uint8Array): Promise<ApiKey & { key: string }> {
    const key = `${API_KEY_PREFIX}${Buffer.from(secret).toString('base64url')}`;
    const createdAt = new Date(this.#clock());
    await this.#sql`
      insert into platform.api_keys (id, name, key_hash, created_by, created_at)
      values (${id}, ${name}, ${hashOf(key)}, ${createdBy}, ${createdAt})`;
    return { id, name, createdAt: createdAt.toISOString(), key };
  }

  /** Revokes a key. @returns false when no valid key has this id */
  async revoke(id: string): Promise<boolean> {
    const revoked = await this.#sql`
      update platform.api_keys set revoked_at = now() where id = ${id} and revoked_at is null returning 1`;
    this.#principals.clear();
    return revoked.length > 0;
  }

  /** The principal of a valid key. @throws TokenError when the key is not valid */
  async verify(key: string): Promise<Principal> {
    const known = this.#principals.get(key);
    if (known !== undefined) return known;
    const [row] = await this.#sql<{ id: string }[]>`
      select id from platform.api_keys where key_hash = ${hashOf(key)} and revoked_at is null`;
    if (row === undefined) throw new TokenError('The API key is unknown or was revoked. Create a new one.');
    const principal: Principal = { sub: `api-key:${row.id}`, role: 'ops' };
    this.#principals.set(key, principal);
    return principal;
  }
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

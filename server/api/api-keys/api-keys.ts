/** API keys of operators: shown once, kept as a hash, revocable. */

import { createHash } from 'node:crypto';
import { type Principal, TokenError } from '../../../platform/auth/tokens.ts';
import type { Sql } from '../../../platform/postgres/connection.ts';

export const API_KEY_PREFIX = 'lfk_';
/** How long a key that was found valid is not looked up again; a revocation takes effect within this time. */
const REMEMBER_MS = 5_000;
const MAX_REMEMBERED_KEYS = 1_000;

export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
}

export class ApiKeys {
  readonly #sql: Sql;
  readonly #clock: () => number;
  readonly #remembered = new Map<string, { readonly principal: Principal; readonly untilMs: number }>();

  constructor(sql: Sql, clock: () => number) {
    this.#sql = sql;
    this.#clock = clock;
  }

  /** Makes a key. `secret` is 32 random bytes; what is returned as `key` cannot be had again. */
  async create(id: string, name: string, createdBy: string, secret: Uint8Array): Promise<ApiKey & { key: string }> {
    const key = `${API_KEY_PREFIX}${Buffer.from(secret).toString('base64url')}`;
    const createdAt = new Date(this.#clock());
    await this.#sql`
      insert into platform.api_keys (id, name, key_hash, created_by, created_at)
      values (${id}, ${name}, ${hashOf(key)}, ${createdBy}, ${createdAt})`;
    return { id, name, createdAt: createdAt.toISOString(), key };
  }

  /** Ends a key; false when there is none with this id. */
  async revoke(id: string): Promise<boolean> {
    const revoked = await this.#sql`
      update platform.api_keys set revoked_at = now() where id = ${id} and revoked_at is null returning 1`;
    this.#remembered.clear();
    return revoked.length > 0;
  }

  /** @throws TokenError */
  async verify(key: string): Promise<Principal> {
    const known = this.#remembered.get(key);
    if (known !== undefined && this.#clock() < known.untilMs) return known.principal;
    this.#remembered.delete(key);
    const [row] = await this.#sql<{ id: string }[]>`
      select id from platform.api_keys where key_hash = ${hashOf(key)} and revoked_at is null`;
    if (row === undefined) throw new TokenError('The API key is not one of ours, or was revoked.');
    const principal: Principal = { sub: `api-key:${row.id}`, role: 'ops' };
    if (this.#remembered.size >= MAX_REMEMBERED_KEYS) this.#remembered.clear();
    this.#remembered.set(key, { principal, untilMs: this.#clock() + REMEMBER_MS });
    return principal;
  }
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

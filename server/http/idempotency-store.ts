/** The answers that are kept under an `Idempotency-Key`, in the table `platform.idempotency_keys`. */

import type { Sql } from '../../platform/postgres/connection.ts';
import type { Answer } from './idempotent-writes.ts';

/** A request that has not finished after this long counts as crashed, and a repeat of it may take over its key. */
const LEASE_S = 30;
/** How long a key is kept. */
const KEEP_HOURS = 24;

export interface KeyId {
  readonly principal: string;
  readonly route: string;
  readonly key: string;
}

export type Claim =
  | { readonly outcome: 'claimed' | 'running' | 'other-body' }
  | { readonly outcome: 'done'; readonly answer: Answer };

interface Row {
  readonly body_hash: string;
  readonly answer: Answer | null;
}

export class IdempotencyStore {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Claims a key for a request, or returns the state of the request that claimed it before. */
  async claim({ principal, route, key }: KeyId, bodyHash: string): Promise<Claim> {
    // Only a repeat of the same request may take over the lease: the body of a key never changes.
    const claimed = await this.#sql`
      insert into platform.idempotency_keys as k (principal, route, key, body_hash, lease_until)
      values (${principal}, ${route}, ${key}, ${bodyHash}, now() + make_interval(secs => ${LEASE_S}))
      on conflict (principal, route, key) do update
        set body_hash = excluded.body_hash, lease_until = excluded.lease_until, answer = null, created_at = now()
        where k.created_at < now() - make_interval(hours => ${KEEP_HOURS})
           or (k.answer is null and k.lease_until < now() and k.body_hash = excluded.body_hash)
      returning 1`;
    if (claimed.length > 0) return { outcome: 'claimed' };
    const [row] = await this.#sql<Row[]>`
      select body_hash, answer from platform.idempotency_keys
      where principal = ${principal} and route = ${route} and key = ${key}`;
    if (row === undefined) return { outcome: 'running' };
    if (row.body_hash !== bodyHash) return { outcome: 'other-body' };
    return row.answer === null ? { outcome: 'running' } : { outcome: 'done', answer: row.answer };
  }

  /** Keeps the answer of a claimed key. */
  async finish({ principal, route, key }: KeyId, answer: Answer): Promise<void> {
    await this.#sql`
      update platform.idempotency_keys set answer = ${JSON.stringify(answer)}::text::jsonb
      where principal = ${principal} and route = ${route} and key = ${key}`;
  }

  /** Releases a claimed key without an answer, so that a repeat of the request runs. */
  async release({ principal, route, key }: KeyId): Promise<void> {
    await this.#sql`
      delete from platform.idempotency_keys
      where principal = ${principal} and route = ${route} and key = ${key} and answer is null`;
  }

  /** Deletes the keys that are older than `KEEP_HOURS`. */
  async sweep(): Promise<void> {
    await this.#sql`
      delete from platform.idempotency_keys where created_at < now() - make_interval(hours => ${KEEP_HOURS})`;
  }
}

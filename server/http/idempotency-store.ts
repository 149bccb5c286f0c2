/**
 * The requests that were sent with an `Idempotency-Key`, in the table `platform.idempotency_keys`. A key lives for 24 hours from its
 * first request. The id of the command is made with the key, is stored before the command runs, and lives as long: every repeat runs
 * the same command, and a key that was forgotten makes a new one.
 */

import type { Fragment, Sql } from '../../platform/postgres/connection.ts';
import type { Answer } from './idempotent-writes.ts';

/** A request that has not finished after this long counts as crashed, and a repeat of it may take over its key. */
const LEASE_S = 30;
/** How long a key lives. */
const KEY_TTL_S = 24 * 3_600;
const MS_PER_S = 1_000;

export interface KeyId {
  readonly principal: string;
  readonly route: string;
  readonly key: string;
}

/** The right to run the request of a key, until it has finished or its time is over. */
export interface Lease {
  readonly commandId: string;
  /** Counts the requests that ran with the key. */
  readonly attempt: number;
}

export type Claim =
  | { readonly outcome: 'running' | 'other-body' }
  | { readonly outcome: 'claimed'; readonly lease: Lease }
  | { readonly outcome: 'done'; readonly answer: Answer };

interface Row {
  readonly body_hash: string;
  readonly answer: Answer | null;
}

export interface IdempotencyStoreOptions {
  readonly sql: Sql;
  readonly newId: () => string;
  /** Milliseconds since 1970. @default the clock of Postgres, since one server with a wrong clock could block the keys of all */
  readonly clock?: () => number;
}

export class IdempotencyStore {
  readonly #options: IdempotencyStoreOptions;

  constructor(options: IdempotencyStoreOptions) {
    this.#options = options;
  }

  /** Claims a key for a request, or returns the state of the request that claimed it before. */
  async claim({ principal, route, key }: KeyId, bodyHash: string): Promise<Claim> {
    const { sql, newId } = this.#options;
    const [now, leaseUntil, forgottenAt] = [this.#at(0), this.#at(LEASE_S), this.#at(-KEY_TTL_S)];
    const isForgotten = sql.part`k.created_at <= ${forgottenAt}`;
    const isRunning = sql.part`(k.answer is null and k.lease_until > ${now})`;
    // Only a repeat of the same request may take over the lease: the body of a key never changes.
    const [claimed] = await sql<{ command_id: string; attempt: number }[]>`
      insert into platform.idempotency_keys as k
        (principal, route, key, body_hash, command_id, attempt, created_at, lease_until)
      values (${principal}, ${route}, ${key}, ${bodyHash}, ${newId()}::uuid, 1, ${now},
        ${leaseUntil})
      on conflict (principal, route, key) do update set
        body_hash = excluded.body_hash, lease_until = excluded.lease_until, answer = null, attempt = k.attempt + 1,
        command_id = case when ${isForgotten} then excluded.command_id else k.command_id end,
        created_at = case when ${isForgotten} then excluded.created_at else k.created_at end
        where not ${isRunning} and (${isForgotten} or (k.answer is null and k.body_hash = excluded.body_hash))
      returning command_id, attempt`;
    if (claimed !== undefined) {
      return { outcome: 'claimed', lease: { commandId: claimed.command_id, attempt: claimed.attempt } };
    }
    const [row] = await sql<Row[]>`
      select body_hash, answer from platform.idempotency_keys
      where principal = ${principal} and route = ${route} and key = ${key}`;
    if (row === undefined) return { outcome: 'running' };
    if (row.body_hash !== bodyHash) return { outcome: 'other-body' };
    return row.answer === null ? { outcome: 'running' } : { outcome: 'done', answer: row.answer };
  }

  /** Keeps the answer of a claimed key. The first answer of a command stays. */
  async finish({ principal, route, key }: KeyId, { commandId }: Lease, answer: Answer): Promise<void> {
    await this.#options.sql`
      update platform.idempotency_keys set answer = ${JSON.stringify(answer)}::text::jsonb
      where principal = ${principal} and route = ${route} and key = ${key}
        and command_id = ${commandId}::uuid and answer is null`;
  }

  /** Ends a lease without an answer, so that a repeat of the request runs the command again. */
  async release({ principal, route, key }: KeyId, { commandId, attempt }: Lease): Promise<void> {
    await this.#options.sql`
      update platform.idempotency_keys set lease_until = ${this.#at(0)}
      where principal = ${principal} and route = ${route} and key = ${key}
        and command_id = ${commandId}::uuid and attempt = ${attempt} and answer is null`;
  }

  /** Deletes the keys whose time is over. */
  async sweep(): Promise<void> {
    await this.#options.sql`
      delete from platform.idempotency_keys
      where created_at <= ${this.#at(-KEY_TTL_S)}
        and (answer is not null or lease_until <= ${this.#at(0)})`;
  }

  /** The time `offsetS` from now. */
  #at(offsetS: number): Fragment {
    const { sql, clock } = this.#options;
    if (clock === undefined) return sql.part`now() + make_interval(secs => ${offsetS})`;
    return sql.part`${new Date(clock() + offsetS * MS_PER_S).toISOString()}::timestamptz`;
  }
}

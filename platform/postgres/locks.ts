/** Named locks between processes, for resources outside of Postgres. They are advisory locks of Postgres. */

import type { Postgres } from './connection.ts';

/**
 * Runs `work` while this process holds the lock of this name. `work` must end within 30 s: then Postgres closes the
 * connection, because its transaction is idle, and another process can acquire the lock.
 * @throws PostgresUnavailableError also when another process holds the lock for more than 10 s
 */
export function withLock<T>(postgres: Postgres, name: string, work: () => Promise<T>): Promise<T> {
  return postgres.transaction(async (tx) => {
    await tx`set local lock_timeout = '10s'`;
    await tx`select pg_advisory_xact_lock(hashtextextended(${name}, 0))`;
    return work();
  });
}

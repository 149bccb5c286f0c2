/** Locks between processes, for what Postgres itself does not keep. */

import type { Postgres } from './connection.ts';

/**
 * Runs something while no other process holds the lock of this name. It must be done within 30 s: then Postgres takes a
 * process that is busy elsewhere for one that stands still, and gives the lock to the next.
 * @throws PostgresUnavailableError also when the lock is not to be had within 10 s
 */
export function withLock<T>(postgres: Postgres, name: string, run: () => Promise<T>): Promise<T> {
  return postgres.transaction(async (tx) => {
    await tx`set local lock_timeout = '10s'`;
    await tx`select pg_advisory_xact_lock(hashtextextended(${name}, 0))`;
    return run();
  });
}

/** Migrates the schema `platform`. Of several processes that start concurrently, one applies each migration. */

import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Log } from '../observability/log.ts';
import type { Postgres, Tx } from './connection.ts';

/** The advisory lock that is held while migrations are applied. No other code uses this number. */
const MIGRATION_LOCK = 4_710_562_001;
const FOLDER = new URL('./migrations/', import.meta.url);
const FILE_NAME = /^(\d{3})-[a-z0-9-]+\.sql$/;

export interface Migration {
  /** `NNN-what-for`; applied in order. */
  readonly name: string;
  readonly sql: string;
}

/** The file of an applied migration was changed. Terminal: the schema of the database may differ from the files. */
export class MigrationChangedError extends Error {
  override readonly name = 'MigrationChangedError';
}

/** The migrations of this code, in order. */
export async function loadMigrations(): Promise<Migration[]> {
  const files = (await readdir(fileURLToPath(FOLDER))).filter((file) => FILE_NAME.test(file)).sort();
  return Promise.all(
    files.map(async (file) => ({
      name: file.replace(/\.sql$/, ''),
      sql: await Bun.file(new URL(file, FOLDER)).text(),
    })),
  );
}

/**
 * Applies the missing migrations in one transaction. Processes that start concurrently wait for the one that holds the lock.
 *
 * @throws MigrationChangedError; PostgresUnavailableError
 */
export async function migrate(postgres: Postgres, log: Log, migrations?: readonly Migration[]): Promise<void> {
  const all = migrations ?? (await loadMigrations());
  await postgres.transaction(async (tx) => {
    await tx`select pg_advisory_xact_lock(${MIGRATION_LOCK}::bigint)`;
    const applied = await appliedMigrations(tx);
    for (const migration of all) {
      const checksum = createHash('sha256').update(migration.sql).digest('hex');
      const known = applied.get(migration.name);
      if (known === checksum) continue;
      if (known !== undefined)
        throw new MigrationChangedError(
          `The file of the migration ${migration.name} was changed after it was applied. Restore it, and add a new migration instead.`,
        );
      await tx.script(migration.sql);
      await tx`insert into platform.migrations (name, checksum) values (${migration.name}, ${checksum})`;
      log.info('A migration of the database is applied.', { migration: migration.name });
    }
  });
}

async function appliedMigrations(tx: Tx): Promise<ReadonlyMap<string, string>> {
  await tx.script(`
    create schema if not exists platform;
    create table if not exists platform.migrations (
      name text primary key,
      checksum text not null,
      applied_at timestamptz not null default now()
    );`);
  const rows = await tx<{ name: string; checksum: string }[]>`select name, checksum from platform.migrations`;
  return new Map(rows.map(({ name, checksum }) => [name, checksum]));
}

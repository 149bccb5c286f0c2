/** The tables of the simulator's store, and their migrations. */

import type { Database } from 'bun:sqlite';
import { StoreError } from './group-commit.ts';

const TABLES = `
  create table unit (
    id integer primary key,
    name text not null unique,
    address text not null,
    credentials text,
    faults text not null,
    epoch text not null,
    last_seq integer not null,
    acknowledged_seq integer not null,
    recorded_seq integer not null,
    boot_id text not null,
    booted_at_ms integer not null,
    lockers text not null,
    synced text not null,
    spent text not null,
    configuration text not null
  );
  create table log (
    unit integer not null,
    seq integer not null,
    body text not null,
    primary key (unit, seq)
  ) without rowid;
  create table answered (
    unit integer not null,
    command_id text not null,
    answer text not null,
    forget_at_ms integer not null,
    primary key (unit, command_id)
  ) without rowid;
`;
const BOUNDED_LOG = `
  alter table unit add column dropped_seq integer not null default 0;
  alter table unit add column checkpoint_seq integer not null default 0;
`;
/** `UNUSED_KEYPAD`. */
const KEYPAD = `alter table unit add column keypad text not null default '{"wrongAtMs":[]}';`;

/** A list of an older version cannot be compared with those of this version. The platform sends the list again. */
const LISTS_BY_LOCKER = `update unit set synced = '{"lockers":{}}';`;

/** Migrations, oldest first. The version of a store is the number of migrations that were applied to it. */
const MIGRATIONS = [TABLES, BOUNDED_LOG, KEYPAD, LISTS_BY_LOCKER];

/**
 * Locks the file for this process and migrates it to the newest version. Every commit is synced to the disk: a unit must
 * not use a seq of its log twice, not even after a power cut.
 * @throws StoreError when another process has locked the file, or a newer version wrote it
 */
export function prepareSchema(database: Database, path: string): void {
  try {
    database.run('pragma locking_mode = exclusive');
    database.run('pragma journal_mode = wal');
    database.run('pragma synchronous = full');
    const row = database.query<{ user_version: number }, []>('pragma user_version').get();
    const version = row?.user_version ?? 0;
    if (version > MIGRATIONS.length) {
      throw new StoreError(
        `The store ${path} has tables of version ${version}, and this simulator knows version ${MIGRATIONS.length}. Use the newer simulator, or choose another seed.`,
      );
    }
    if (version < MIGRATIONS.length) {
      database.transaction(() => {
        for (const migration of MIGRATIONS.slice(version)) database.run(migration);
        database.run(`pragma user_version = ${MIGRATIONS.length}`);
      })();
    }
  } catch (error) {
    if (isBusy(error)) {
      throw new StoreError(
        `Another simulator has the store ${path} open. Stop it, or choose another seed: --seed of ./run sim, SIM_SEED of ./run start.`,
        {
          cause: error,
        },
      );
    }
    throw error;
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('SQLITE_BUSY');
}

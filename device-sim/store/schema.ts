/** The tables of the simulator's store: one file for the whole fleet. */

import type { Database } from 'bun:sqlite';
import { StoreError } from './group-commit.ts';

/** Counts up with every change of a table. A store of another version is refused: it is a simulator's. */
const SCHEMA_VERSION = 1;

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

/**
 * Takes the file for this process alone and makes the tables in a new one. Every commit is synced to the disk: a unit
 * must never use a place in its log twice, not even after a power cut.
 * @throws StoreError when another process has it, or another version made it
 */
export function prepare(database: Database, path: string): void {
  try {
    database.run('pragma locking_mode = exclusive');
    database.run('pragma journal_mode = wal');
    database.run('pragma synchronous = full');
    const row = database.query<{ user_version: number }, []>('pragma user_version').get();
    const version = row?.user_version ?? 0;
    if (version !== 0 && version !== SCHEMA_VERSION) {
      throw new StoreError(`${path} has the tables of version ${version}; this simulator needs ${SCHEMA_VERSION}`);
    }
    if (version === 0) {
      database.transaction(() => {
        database.run(TABLES);
        database.run(`pragma user_version = ${SCHEMA_VERSION}`);
      })();
    }
  } catch (error) {
    if (isBusy(error)) {
      throw new StoreError(`another simulator works on ${path}; stop it, or choose another seed`, { cause: error });
    }
    throw error;
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('SQLITE_BUSY');
}

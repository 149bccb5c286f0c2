import { resolve } from 'node:path';
import postgres from 'postgres';
import { type EmbeddedNats, startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { ensureNatsServer } from '../../platform/embedded/nats-server-binary.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../platform/embedded/postgres.ts';
import { atTheEnd, temporaryFolder } from './cleanup.ts';

/** Tests cut no power, so Postgres need not write to the disk at every commit. */
const FAST_SETTINGS = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };
const TOOLCHAIN_DIR = resolve(import.meta.dir, '..', '..', '.toolchain');

let sharedNats: { readonly config: string; readonly started: Promise<EmbeddedNats> } | undefined;
let sharedPostgres: Promise<EmbeddedPostgres> | undefined;
let databases = 0;

/** The path of the nats-server program, for tests that start another server with `startEmbeddedNats`. */
export function natsServerBinary(): Promise<string> {
  return ensureNatsServer({ path: process.env.PATH, toolchainDir: TOOLCHAIN_DIR, log: console.error });
}

/**
 * The NATS server that all tests of this process share. Each test uses its own names of streams and units. A test that kills
 * or fills NATS starts another server.
 * @param config the text of its configuration file; it must be the same in all tests of a process
 */
export function testNats(config: string): Promise<EmbeddedNats> {
  sharedNats ??= { config, started: startNats(config) };
  if (sharedNats.config !== config) throw new Error('the shared NATS runs with another configuration already');
  return sharedNats.started;
}

async function startNats(config: string): Promise<EmbeddedNats> {
  const [binary, dataDir] = await Promise.all([natsServerBinary(), temporaryFolder('nats')]);
  const nats = await startEmbeddedNats({ dataDir, binary, config, port: 0, log: ignoreLog });
  atTheEnd(() => nats.stop());
  return nats;
}

/** The Postgres server that all tests of this process share. `freshDatabase` creates a database for one test. */
export function testPostgres(): Promise<EmbeddedPostgres> {
  sharedPostgres ??= startPostgres();
  return sharedPostgres;
}

async function startPostgres(): Promise<EmbeddedPostgres> {
  const dataDir = await temporaryFolder('postgres');
  const server = await startEmbeddedPostgres({ dataDir, settings: FAST_SETTINGS, log: ignoreLog });
  atTheEnd(() => server.stop());
  return server;
}

/** A new, empty database in the shared Postgres. @returns its URL. */
export async function freshDatabase(): Promise<string> {
  const { url } = await testPostgres();
  databases += 1;
  const name = `test_${databases}`;
  const sql = postgres(url, { max: 1 });
  await sql`create database ${sql(name)}`;
  await sql.end();
  return Object.assign(new URL(url), { pathname: `/${name}` }).toString();
}

/** The error of a failed start contains the log of the service. */
function ignoreLog(): void {
  // No test reads the log of a running service.
}

/**
 * The addresses of NATS and Postgres that a running `./run start` uses, in a file of its `DATA_DIR`. Commands that run beside
 * it, such as `./run projections`, read the file and so need no settings of their own.
 *
 * The file names the process of `./run start`: after a crash the file stays, but its process no longer lives, and readers
 * ignore the file. The database URL holds a password, so only the owner may read the file.
 */

import { chmod, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import type { Config } from '../config/config.ts';
import { processIdentity } from '../process/identity.ts';

const OWNER_ONLY = 0o600;

const ServicesFile = Type.Object({
  pid: Type.Integer(),
  /** Distinguishes the process from a later process with the same id; from `processIdentity`. */
  identity: Type.String(),
  natsUrl: Type.String(),
  /** Path of the NATS credentials; absent where NATS asks for none. */
  natsCredsFile: Type.Optional(Type.String()),
  databaseUrl: Type.String(),
});

export interface RunningServices {
  readonly natsUrl: string;
  readonly natsCredsFile?: string | undefined;
  readonly databaseUrl: string;
}

/** Neither the settings nor `DATA_DIR` name the services that a command needs. The message says what to do. */
export class PlatformNotRunningError extends Error {
  override readonly name = 'PlatformNotRunningError';
}

/** Writes the addresses for as long as this process runs. The write is atomic and durable. */
export async function writeRunningServices(dataDir: string, services: RunningServices): Promise<void> {
  const path = servicesFile(dataDir);
  const pid = process.pid;
  const identity = processIdentity(pid);
  if (identity === undefined) throw new Error(`The operating system does not list process ${pid}, which is this one.`);
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w', OWNER_ONLY);
  try {
    // A file of that name may have been left with other rights.
    await chmod(temporary, OWNER_ONLY);
    await file.writeFile(JSON.stringify({ pid, identity, ...services }));
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}

export async function removeRunningServices(dataDir: string): Promise<void> {
  await rm(servicesFile(dataDir), { force: true });
}

/**
 * Finds NATS and Postgres for a command: as set, or else as the running platform of `DATA_DIR` uses them.
 *
 * @throws PlatformNotRunningError when no platform runs on `DATA_DIR` and the settings do not name both, and when one setting
 *   names another service than the running platform uses: the command would combine two platforms
 */
export async function findServices({ dataDir, nats, databaseUrl }: Config): Promise<RunningServices> {
  if (nats.url !== undefined && databaseUrl !== undefined)
    return { natsUrl: nats.url, natsCredsFile: nats.credsFile, databaseUrl };
  const running = await readRunningServices(dataDir);
  if (running === undefined)
    throw new PlatformNotRunningError(
      `The platform of DATA_DIR ${dataDir} is not running. Start it with ./run start, or set NATS_URL and DATABASE_URL.`,
    );
  requireSame('NATS_URL', nats.url, running.natsUrl, dataDir);
  requireSame('DATABASE_URL', databaseUrl, running.databaseUrl, dataDir);
  return { ...running, natsCredsFile: nats.credsFile ?? running.natsCredsFile };
}

function requireSame(setting: string, set: string | undefined, running: string, dataDir: string): void {
  if (set === undefined || set === running) return;
  throw new PlatformNotRunningError(
    `${setting} names another service than the platform of DATA_DIR ${dataDir} uses. ` +
      'Set both NATS_URL and DATABASE_URL, or neither.',
  );
}

/** @returns undefined when no platform runs on `DATA_DIR`: the file is missing, unreadable, or names a process that has ended */
async function readRunningServices(dataDir: string): Promise<RunningServices | undefined> {
  const text = await readFile(servicesFile(dataDir), 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const file = parseJson(text);
  if (!Value.Check(ServicesFile, file)) return undefined;
  const { pid, identity, ...services } = file;
  return processIdentity(pid) === identity ? services : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function servicesFile(dataDir: string): string {
  return join(dataDir, 'run', 'services.json');
}

/**
 * Keeps the staging area of atomic batches in memory.
 *
 * nats-server stages each atomic batch in a store of its own, `streams/NAME/batches/ID`, with its own directories, metadata
 * and syncs, before it copies the messages into the stream, syncs the stream, acknowledges, and deletes the staged copy.
 * That costs twice as much as the commit itself. A staged batch is never read again after a restart: the server deletes
 * the folder when it starts. So the folder may be in memory; the stream, which is what an acknowledgement promises, is
 * on disk and synced as before. (docs/adr/0006)
 *
 * The server makes the folder anew at every start, so it is looked after for as long as the server runs. Where there is
 * no memory file system, or the folder is in use at the moment, it stays on disk: slower, and as safe.
 */

import { createHash } from 'node:crypto';
import { lstat, mkdir, readdir, rm, rmdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';

const MEMORY_FOLDER = '/dev/shm';
/** The streams that take atomic batches. */
const STREAMS: ReadonlySet<string> = new Set(['EVENTS', 'JOBS']);
const INTERVAL_MS = 500;

export interface StagingCare {
  stop(): Promise<void>;
}

/** `dataDir`: JetStream's folder. Does nothing where there is no memory file system. */
export async function keepStagingInMemory(dataDir: string): Promise<StagingCare> {
  const name = createHash('sha256').update(dataDir).digest('hex').slice(0, 16);
  const memory = join(MEMORY_FOLDER, `lockfleet-${name}`);
  try {
    await mkdir(memory, { recursive: true, mode: 0o700 });
  } catch {
    return { stop: async () => undefined };
  }
  let caring = Promise.resolve();
  const timer = setInterval(() => {
    caring = caring.then(() => care(dataDir, memory));
  }, INTERVAL_MS);
  timer.unref();
  return {
    stop: async () => {
      clearInterval(timer);
      await caring;
      await rm(memory, { recursive: true, force: true });
    },
  };
}

async function care(dataDir: string, memory: string): Promise<void> {
  const root = join(dataDir, 'jetstream');
  for (const account of await entries(root)) {
    for (const stream of await entries(join(root, account, 'streams'))) {
      if (STREAMS.has(stream))
        await moveToMemory(join(root, account, 'streams', stream, 'batches'), join(memory, stream));
    }
  }
}

/** Any of these steps may come at the wrong moment for the server; the next look is soon. */
async function moveToMemory(folder: string, target: string): Promise<void> {
  try {
    const kind = await lstat(folder).catch(() => undefined);
    if (kind?.isSymbolicLink()) return;
    await mkdir(target, { recursive: true });
    // Only an empty folder goes: one that holds a batch is left for the next look.
    if (kind?.isDirectory()) await rmdir(folder);
    await symlink(target, folder);
  } catch (error) {
    if (!isPassing(error)) throw error;
  }
}

const PASSING: ReadonlySet<string> = new Set(['ENOTEMPTY', 'EEXIST', 'ENOENT', 'ENOSPC', 'EACCES', 'EPERM']);

function isPassing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && PASSING.has(error.code);
}

async function entries(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

/**
 * Keeps the staging area of atomic batches in memory.
 *
 * nats-server stages each atomic batch in a store of its own, `streams/NAME/batches/ID`, with its own directories, metadata
 * and syncs, before it copies the messages into the stream, syncs the stream, acknowledges, and deletes the staged copy.
 * That costs twice as much as the commit itself. A staged batch is never read again after a restart: the server deletes
 * the folder when it starts. So the folder may be in memory; the stream, which is what an acknowledgement promises, is
 * on disk and synced as before. (docs/adr/0006)
 *
 * The server creates the folder again at every start, so a timer checks it for as long as the server runs, and replaces it by
 * a link to a folder in memory. Without a memory file system, or while the folder holds a batch, it stays on disk: slower, but
 * equally safe.
 */

import { createHash } from 'node:crypto';
import { lstat, mkdir, readdir, rm, rmdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';

const MEMORY_FOLDER = '/dev/shm';
/** The streams to which the platform publishes atomic batches. */
const STREAMS: ReadonlySet<string> = new Set(['EVENTS', 'JOBS']);
const CHECK_INTERVAL_MS = 500;

export interface StagingLinks {
  /** Stops the checks and deletes the folder in memory. */
  stop(): Promise<void>;
}

/** `dataDir`: JetStream's folder. Without a memory file system the function does nothing. */
export async function linkStagingToMemory(dataDir: string): Promise<StagingLinks> {
  const name = createHash('sha256').update(dataDir).digest('hex').slice(0, 16);
  const memory = join(MEMORY_FOLDER, `lockfleet-${name}`);
  try {
    await mkdir(memory, { recursive: true, mode: 0o700 });
  } catch {
    return { stop: async () => undefined };
  }
  let linking = Promise.resolve();
  const timer = setInterval(() => {
    linking = linking.then(() => linkAll(dataDir, memory));
  }, CHECK_INTERVAL_MS);
  timer.unref();
  return {
    stop: async () => {
      clearInterval(timer);
      await linking;
      await rm(memory, { recursive: true, force: true });
    },
  };
}

async function linkAll(dataDir: string, memory: string): Promise<void> {
  const root = join(dataDir, 'jetstream');
  for (const account of await entries(root)) {
    for (const stream of await entries(join(root, account, 'streams'))) {
      if (STREAMS.has(stream))
        await linkToMemory(join(root, account, 'streams', stream, 'batches'), join(memory, stream));
    }
  }
}

/** The server uses the folder concurrently, so any of these steps may fail. The next check repeats them. */
async function linkToMemory(folder: string, target: string): Promise<void> {
  try {
    const kind = await lstat(folder).catch(() => undefined);
    if (kind?.isSymbolicLink()) return;
    await mkdir(target, { recursive: true });
    // rmdir removes only an empty folder. A folder that holds a batch stays until a later check.
    if (kind?.isDirectory()) await rmdir(folder);
    await symlink(target, folder);
  } catch (error) {
    if (!isRetryable(error)) throw error;
  }
}

const RETRYABLE_CODES: ReadonlySet<string> = new Set(['ENOTEMPTY', 'EEXIST', 'ENOENT', 'ENOSPC', 'EACCES', 'EPERM']);

function isRetryable(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && RETRYABLE_CODES.has(error.code);
}

async function entries(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}

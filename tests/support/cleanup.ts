import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

type Cleanup = () => Promise<unknown> | unknown;

const cleanups: Cleanup[] = [];

/** Runs at the end of the whole `bun test` process, the last one registered first. For one file, use `afterAll`. */
export function atTheEnd(cleanup: Cleanup): void {
  cleanups.push(cleanup);
}

/** For the preload: runs everything that is registered, also when some of it fails. @returns what failed. */
export async function runCleanups(): Promise<unknown[]> {
  const failures: unknown[] = [];
  for (let cleanup = cleanups.pop(); cleanup !== undefined; cleanup = cleanups.pop()) {
    try {
      await cleanup();
    } catch (error) {
      failures.push(error);
    }
  }
  return failures;
}

/** A new folder that is removed at the end. Everybody may enter it, also the account that runs Postgres for root. */
export async function temporaryFolder(purpose: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), `lockfleet-${purpose}-`));
  await chmod(folder, 0o755);
  atTheEnd(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

import { join, resolve } from 'node:path';
import type { Platform } from './platform.ts';

const ROOT = resolve(import.meta.dir, '..', '..');

/** Runs the command that compares a read model with the events. @returns its output and its exit status */
export async function verifyProjection(
  { dataDir, nats, postgres }: Platform,
  name: string,
): Promise<{ readonly output: string; readonly exitCode: number }> {
  const child = Bun.spawn([process.execPath, 'projections/cli.ts', 'verify', name], {
    cwd: ROOT,
    env: {
      PATH: process.env.PATH ?? '',
      DATA_DIR: dataDir,
      NATS_URL: nats.url,
      NATS_CREDS: join(dataDir, 'keys', 'platform.creds'),
      DATABASE_URL: postgres.url,
    },
    stdout: 'pipe',
  });
  return { output: await child.stdout.text(), exitCode: await child.exited };
}

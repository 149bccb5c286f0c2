/** Programs of Debian that a benchmark measures beside the product. A function returns `undefined` where its program cannot be installed. */

import { join } from 'node:path';
import { atTheEnd, temporaryFolder } from '../support/cleanup.ts';
import { endChild } from './measuring-process.ts';

const APT_TIMEOUT_MS = 120_000;

/**
 * The program at `path` of a package. One that is not installed is unpacked into a folder that is removed at the end: so no
 * service of its own starts, and nothing stays behind.
 */
export async function debianProgram(name: string, path: string, mayDownload: boolean): Promise<string | undefined> {
  const program = path.slice(path.lastIndexOf('/') + 1);
  const installed = Bun.which(program);
  if (installed !== null) return installed;
  if (!mayDownload) return undefined;
  const folder = await temporaryFolder(`bench-${name}`);
  const isThere =
    (await succeeds(['apt-get', 'download', '-q', name], folder)) &&
    (await succeeds(['sh', '-c', 'dpkg-deb --extract *.deb .'], folder));
  return isThere ? join(folder, path) : undefined;
}

/** Go, which has too many parts to be unpacked: it is installed, and stays. */
export async function debianGo(mayInstall: boolean): Promise<string | undefined> {
  const present = Bun.which('go');
  if (present !== null) return present;
  if (!mayInstall) return undefined;
  const install = ['apt-get', 'install', '-q', '-y', '--no-install-recommends', 'golang-go'];
  return (await succeeds(install)) ? (Bun.which('go') ?? undefined) : undefined;
}

async function succeeds(command: string[], cwd?: string): Promise<boolean> {
  if (Bun.which(command[0] ?? '') === null) return false;
  const child = Bun.spawn(command, {
    ...(cwd === undefined ? {} : { cwd }),
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    stdio: ['ignore', 'ignore', 'ignore'],
    timeout: APT_TIMEOUT_MS,
  });
  atTheEnd(() => endChild(child));
  return (await child.exited) === 0;
}

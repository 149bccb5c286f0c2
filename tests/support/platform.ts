/** A whole platform for tests and benchmarks: a NATS and a Postgres of its own, and processes that a test can kill one by one. */

import { join, resolve } from 'node:path';
import { signToken } from '../../platform/auth/tokens.ts';
import { loadKeys, type PlatformKeys } from '../../platform/credentials/keys.ts';
import { natsServerConfig, platformCreds } from '../../platform/credentials/nats-accounts.ts';
import { type EmbeddedNats, startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../platform/embedded/postgres.ts';
import { engineMemory } from '../../platform/process/engine-memory.ts';
import { freePort } from '../../platform/process/ports.ts';
import { atTheEnd, temporaryFolder } from './cleanup.ts';
import { eventually } from './eventually.ts';
import { natsServerBinary } from './services.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const READY_TIMEOUT_MS = 90_000;
const TOKEN_TTL_S = 3_600;
const FAST_SETTINGS = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };

export type ProcessName = 'server' | 'pinger' | 'projections' | 'device-sim';

export interface PlatformOptions {
  /** Becomes part of the name of the data folder. */
  readonly purpose: string;
  /** Settings of all processes. They override those by which the processes find each other. */
  readonly env?: Readonly<Record<string, string>>;
  /** How many units are simulated; 0 starts no simulator. No customers walk up to them unless `env` sets SIM_CUSTOMERS. @default 0 */
  readonly units?: number;
  /** How many processes run only a pinger, beside the pinger in the server. @default 0 */
  readonly pingers?: number;
  /** Whether Postgres waits for the disk, as in production. Tests that kill or measure Postgres need it. @default false */
  readonly durable?: boolean;
  /**
   * Returns the URL under which processes and units reach NATS, given the URL of the NATS server. A fault proxy goes in between here.
   * @default the URL of the NATS server
   */
  readonly natsThrough?: (url: string) => Promise<string>;
  /** Limit of the whole start, until the API and the fleet are ready. @default 90_000 */
  readonly readyTimeoutMs?: number;
}

/** A process of the platform that a test can end, pause and start again. */
export class PlatformProcess {
  readonly name: ProcessName;
  readonly #env: Readonly<Record<string, string>>;
  #child: Bun.Subprocess;

  constructor(name: ProcessName, env: Readonly<Record<string, string>>) {
    this.name = name;
    this.#env = env;
    this.#child = this.#spawn();
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Kills the process with SIGKILL and starts another one with the same settings. */
  async killAndRestart(): Promise<void> {
    await this.kill();
    this.start();
  }

  /** Kills the process with SIGKILL. `start` replaces it. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.exited;
  }

  start(): void {
    this.#child = this.#spawn();
  }

  /** Suspends the process until `resume`. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  /** Stops the process in order, also when it is paused. */
  async stop(): Promise<void> {
    this.resume();
    this.#child.kill('SIGTERM');
    await this.#child.exited;
  }

  #spawn(): Bun.Subprocess {
    return Bun.spawn([process.execPath, join(ROOT, this.name, 'main.ts')], {
      cwd: ROOT,
      env: { ...process.env, ...engineMemory(this.name, process.env), ...this.#env },
      stdio: ['ignore', 'ignore', process.env.TEST_LOGS === undefined ? 'ignore' : 'inherit'],
    });
  }
}

export interface Platform {
  readonly api: string;
  /** The control API of device-sim. */
  readonly sim: string;
  readonly dataDir: string;
  readonly nats: EmbeddedNats;
  readonly postgres: EmbeddedPostgres;
  readonly natsCreds: string;
  readonly server: PlatformProcess;
  readonly projections: PlatformProcess;
  readonly deviceSim: PlatformProcess | undefined;
  readonly pingers: readonly PlatformProcess[];
  /** Starts another server with changed settings, such as ROLES. It stops with the platform. */
  startServer(env: Readonly<Record<string, string>>): PlatformProcess;
  /** Starts another process that runs only a pinger. It stops with the platform. */
  startPinger(env: Readonly<Record<string, string>>): PlatformProcess;
  /** Stops all processes, then NATS and Postgres. A test file calls it in `afterAll`; further calls wait for the first. */
  stop(): Promise<void>;
  /** Signs a token and returns it as the value of an Authorization header. */
  token(role: 'customer' | 'ops', sub: string): Promise<string>;
  expiredToken(role: 'customer' | 'ops', sub: string): Promise<string>;
}

/** Starts everything and waits until the API answers and the fleet is online. */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const { purpose, units = 0, pingers = 0, readyTimeoutMs: timeoutMs = READY_TIMEOUT_MS } = options;
  const { natsThrough = async (url: string) => url } = options;
  const dataDir = await temporaryFolder(purpose);
  const keys = await loadKeys(dataDir);
  const natsCreds = await platformCreds(keys, purpose);
  const credsFile = join(dataDir, 'keys', 'platform.creds');
  await Bun.write(credsFile, natsCreds);
  const { nats, postgres } = await startServices(dataDir, keys, options);
  const ports = { api: freePort(), sim: freePort() };
  const env = {
    DATA_DIR: dataDir,
    NATS_URL: await natsThrough(nats.url),
    NATS_CREDS: credsFile,
    DATABASE_URL: postgres.url,
    HTTP_PORT: String(ports.api),
    // Benchmarks measure servers as they are in production.
    HTTP_CHECK_ANSWERS: String(process.env.NODE_ENV === 'test'),
    SIM_CONTROL_PORT: String(ports.sim),
    SIM_UNITS: String(units),
    SIM_CUSTOMERS: '0',
    ...options.env,
  };
  const processes: PlatformProcess[] = [];
  const start = (name: ProcessName, changes: Readonly<Record<string, string>> = {}) => {
    const started = new PlatformProcess(name, { ...env, ...changes });
    processes.push(started);
    return started;
  };
  // The simulator is stopped before the server that its units talk to.
  const stopAll = async () => {
    await Promise.all(processes.filter(({ name }) => name === 'device-sim').map((simulator) => simulator.stop()));
    await Promise.all(processes.map((process) => process.stop()));
    await Promise.all([nats.stop(), postgres.stop()]);
  };
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= stopAll();
    return stopped;
  };
  atTheEnd(stop);
  const server = start('server');
  const projections = start('projections');
  const ownPingers = Array.from({ length: pingers }, () => start('pinger'));
  const deviceSim = units > 0 ? start('device-sim') : undefined;
  const api = `http://127.0.0.1:${ports.api}`;
  const sim = `http://127.0.0.1:${ports.sim}`;
  await eventually(() => isReady(api), { timeoutMs });
  if (deviceSim !== undefined) await eventually(() => isReady(sim), { timeoutMs });
  const secret = options.env?.AUTH_JWT_SECRET ?? keys.jwtSecret;
  const bearer = async (role: 'customer' | 'ops', sub: string, nowMs: number) =>
    `Bearer ${await signToken({ secret, sub, role, ttlS: TOKEN_TTL_S, nowMs })}`;
  return {
    api,
    sim,
    dataDir,
    nats,
    postgres,
    natsCreds,
    server,
    projections,
    deviceSim,
    pingers: ownPingers,
    startServer: (changes) => start('server', changes),
    startPinger: (changes) => start('pinger', changes),
    stop,
    token: (role, sub) => bearer(role, sub, Date.now()),
    expiredToken: (role, sub) => bearer(role, sub, Date.now() - 2 * TOKEN_TTL_S * 1_000),
  };
}

async function startServices(dataDir: string, keys: PlatformKeys, { durable = false }: PlatformOptions) {
  const binary = await natsServerBinary();
  const config = await natsServerConfig(keys, join(dataDir, 'nats', 'accounts'));
  const log = () => undefined;
  const [nats, postgres] = await Promise.all([
    startEmbeddedNats({ dataDir: join(dataDir, 'nats'), binary, config, port: 0, log }),
    startEmbeddedPostgres({
      dataDir: join(dataDir, 'postgres'),
      log,
      ...(durable ? {} : { settings: FAST_SETTINGS }),
    }),
  ]);
  return { nats, postgres };
}

async function isReady(url: string): Promise<boolean> {
  return (await fetch(`${url}/readyz`, { keepalive: false })).status === 200;
}

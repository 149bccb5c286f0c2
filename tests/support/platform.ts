/** A whole platform for tests, benchmarks and chaos: its own NATS and Postgres, and each process by itself, to be killed. */

import { join, resolve } from 'node:path';
import { signToken } from '../../platform/auth/tokens.ts';
import { loadKeys } from '../../platform/credentials/keys.ts';
import { natsServerConfig, platformCreds } from '../../platform/credentials/nats-accounts.ts';
import { type EmbeddedNats, startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../platform/embedded/postgres.ts';
import { engineMemory } from '../../platform/process/engine-memory.ts';
import { freePort } from '../../platform/process/ports.ts';
import { atTheEnd, temporaryFolder } from './cleanup.ts';
import { eventually } from './eventually.ts';
import { natsServerBinary } from './services.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const READY_TIMEOUT_MS = 30_000;
const TOKEN_TTL_S = 3_600;
const FAST_SETTINGS = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };

export type ProcessName = 'server' | 'pinger' | 'projections' | 'device-sim';

export interface PlatformOptions {
  /** Part of the folder's name. */
  readonly purpose: string;
  /** Settings of all processes beside those that are needed to find one another. */
  readonly env?: Readonly<Record<string, string>>;
  /** Simulated units; 0 starts no device-sim. @default 0 */
  readonly units?: number;
  /** Pingers as processes of their own, beside that of the server. @default 0 */
  readonly pingers?: number;
  /** Postgres as it is in production, and not as fast as tests may have it. @default false */
  readonly durable?: boolean;
  /**
   * Gives the address by which the platform's processes reach NATS, and which its units are told: that of a fault proxy.
   * @default the server's own
   */
  readonly natsThrough?: (url: string) => Promise<string>;
  /** How long everything may take to be ready. @default 30_000 */
  readonly readyTimeoutMs?: number;
}

/** A process of the platform that can be ended and started again. */
export class PlatformProcess {
  readonly #name: ProcessName;
  readonly #env: Readonly<Record<string, string>>;
  #child: Bun.Subprocess;

  constructor(name: ProcessName, env: Readonly<Record<string, string>>) {
    this.#name = name;
    this.#env = env;
    this.#child = this.#spawn();
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** `kill -9`, and a new process in its place. */
  async killAndRestart(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.exited;
    this.#child = this.#spawn();
  }

  /** `kill -9`, until `start`. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.exited;
  }

  start(): void {
    this.#child = this.#spawn();
  }

  /** It stands still, until `resume`. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#child.exited;
  }

  #spawn(): Bun.Subprocess {
    return Bun.spawn([process.execPath, join(ROOT, this.#name, 'main.ts')], {
      cwd: ROOT,
      env: { ...process.env, ...engineMemory(this.#name, process.env), ...this.#env },
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
  /** A further server beside the first, with other settings, such as its roles. It ends with the tests. */
  startServer(env: Readonly<Record<string, string>>): PlatformProcess;
  /** A pinger as a process of its own. It ends with the tests. */
  startPinger(env: Readonly<Record<string, string>>): PlatformProcess;
  /** The value of an Authorization header. */
  token(role: 'customer' | 'ops', sub: string): Promise<string>;
  expiredToken(role: 'customer' | 'ops', sub: string): Promise<string>;
}

/** Starts everything and waits until the API answers and the fleet is online. It ends with the tests. */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const { purpose, units = 0, pingers = 0, durable = false, natsThrough = async (url: string) => url } = options;
  const { readyTimeoutMs: timeoutMs = READY_TIMEOUT_MS } = options;
  const dataDir = await temporaryFolder(purpose);
  const keys = await loadKeys(dataDir);
  const binary = await natsServerBinary();
  const config = await natsServerConfig(keys, join(dataDir, 'nats', 'accounts'));
  const natsCreds = await platformCreds(keys, purpose);
  const credsFile = join(dataDir, 'keys', 'platform.creds');
  await Bun.write(credsFile, natsCreds);
  const quiet = () => undefined;
  const [nats, postgres] = await Promise.all([
    startEmbeddedNats({ dataDir: join(dataDir, 'nats'), binary, config, port: 0, log: quiet }),
    startEmbeddedPostgres({
      dataDir: join(dataDir, 'postgres'),
      log: quiet,
      ...(durable ? {} : { settings: FAST_SETTINGS }),
    }),
  ]);
  atTheEnd(() => Promise.all([nats.stop(), postgres.stop()]));
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
    ...options.env,
  };
  const server = new PlatformProcess('server', env);
  const projections = new PlatformProcess('projections', env);
  const further = (name: ProcessName, changes: Readonly<Record<string, string>>) => {
    const started = new PlatformProcess(name, { ...env, ...changes });
    atTheEnd(() => {
      started.resume();
      return started.stop();
    });
    return started;
  };
  const ownPingers = Array.from({ length: pingers }, () => further('pinger', {}));
  const deviceSim = units > 0 ? new PlatformProcess('device-sim', env) : undefined;
  atTheEnd(async () => {
    await deviceSim?.stop();
    await Promise.all([server.stop(), projections.stop()]);
  });
  const api = `http://127.0.0.1:${ports.api}`;
  const sim = `http://127.0.0.1:${ports.sim}`;
  const ready = async (url: string) => (await fetch(`${url}/readyz`, { keepalive: false })).status === 200;
  await eventually(() => ready(api), { timeoutMs });
  if (deviceSim !== undefined) await eventually(() => ready(sim), { timeoutMs });
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
    startServer: (changes) => further('server', changes),
    startPinger: (changes) => further('pinger', changes),
    token: (role, sub) => bearer(role, sub, Date.now()),
    expiredToken: (role, sub) => bearer(role, sub, Date.now() - 2 * TOKEN_TTL_S * 1_000),
  };
}

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Config, type LogFormat, loadConfig } from '../../platform/config/config.ts';
import { removeRunningServices, writeRunningServices } from '../../platform/embedded/running-services.ts';
import { errorMessage } from '../../platform/observability/error-message.ts';
import { engineMemory } from '../../platform/process/engine-memory.ts';
import { acquireLock, LockHeldError, stopLeftover } from '../../platform/process/identity.ts';
import type { LineSink } from '../../platform/process/lines.ts';
import { freePort, isPortFree } from '../../platform/process/ports.ts';
import { type SupervisedChild, stopInOrder, superviseChild } from '../../platform/process/supervise.ts';
import { type NatsSetup, startServices } from './embedded.ts';
import { allReady } from './readiness.ts';
import { sessionLog } from './session-log.ts';

export interface SessionOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The folder that holds `server/main.ts`, `projections/main.ts` and `device-sim/main.ts`. */
  readonly root: string;
  readonly toolchainDir: string;
  readonly natsSetup: (dataDir: string) => Promise<NatsSetup>;
  /** Receives the lines for the user, such as `ready`. */
  readonly print: LineSink;
  /** Receives the log lines of all processes. */
  readonly log: LineSink;
  readonly logFormat: LogFormat;
  /** Whether log lines for people have colours. */
  readonly colour: boolean;
  /** Aborted by the first Ctrl-C: stop in order. */
  readonly stop: AbortSignal;
  /** Aborted by the second Ctrl-C: kill the processes that still run. */
  readonly kill: AbortSignal;
  /** Milliseconds of a monotonic clock. */
  readonly nowMs: () => number;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

/** The session cannot start. The message tells the user why, and what to do. */
export class StartRefusedError extends Error {
  override readonly name = 'StartRefusedError';
}

/** The order of stopping: the simulator needs the server, and the server needs the services. */
const STOP_ORDER = ['device-sim', 'server', 'projections', 'nats', 'postgres'] as const;
type ProcessName = (typeof STOP_ORDER)[number];
type Program = Extract<ProcessName, 'device-sim' | 'server' | 'projections'>;

/** A session ends within ten seconds of Ctrl-C: this long for its processes, and the rest for the last kill and its own exit. */
const STOP_TOTAL_MS = 9_000;
const NAME_WIDTH = Math.max(...STOP_ORDER.map((name) => name.length));
const LEFTOVER_STOP = { signal: 'SIGTERM', graceMs: 3_000 } as const;

/**
 * Runs the whole platform on this machine until `stop` is aborted.
 * @throws StartRefusedError before any process starts; Error when the supervisor gave a process up, after it stopped all others
 */
export async function runSession(options: SessionOptions): Promise<void> {
  const config = withRealPorts(loadConfig(options.env));
  await mkdir(config.dataDir, { recursive: true }).catch((error: unknown) => {
    throw new StartRefusedError(
      `The folder DATA_DIR ${config.dataDir} cannot be created: ${errorMessage(error)}. Create it, or set another DATA_DIR.`,
    );
  });
  const unlock = await lockDataDir(config.dataDir);
  try {
    await runLocked(options, config);
  } finally {
    await unlock();
  }
}

async function runLocked(options: SessionOptions, config: Config): Promise<void> {
  const { logFormat, colour, log, clock } = options;
  const logFor = sessionLog({ format: logFormat, colour, nameWidth: NAME_WIDTH, write: log, clock });
  const own = logFor('start');
  const programs: Program[] = ['server', 'projections', ...(config.sim.units > 0 ? (['device-sim'] as const) : [])];
  for (const name of STOP_ORDER) {
    if (isProgram(name)) await stopLeftover(pidFile(config, name), LEFTOVER_STOP, own);
  }
  refusePortsInUse(config);
  const failure = Promise.withResolvers<never>();
  const parts = new Map<ProcessName, Pick<SupervisedChild, 'stop'>>();
  const failed = new AbortController();
  const ended = AbortSignal.any([failed.signal, options.stop]);
  const running = run(options, config, programs, { logFor, parts, ended, onGiveUp: failure.reject });
  try {
    await Promise.race([running.then(() => untilAborted(options.stop)), failure.promise]);
  } catch (error) {
    // A start that Ctrl-C interrupts fails, as the user wants.
    if (!options.stop.aborted) throw error;
  } finally {
    failed.abort();
    await Promise.allSettled([running]);
    const alive = STOP_ORDER.map((name) => parts.get(name)).filter((part) => part !== undefined);
    await removeRunningServices(config.dataDir);
    await stopInOrder(alive, STOP_TOTAL_MS, options.kill, options.nowMs);
  }
}

interface SessionProcesses {
  readonly logFor: (name: string) => LineSink;
  /** The processes that run; filled as they start. */
  readonly parts: Map<ProcessName, Pick<SupervisedChild, 'stop'>>;
  readonly ended: AbortSignal;
  readonly onGiveUp: (error: Error) => void;
}

/** Starts the services, then the programs, and announces the platform when all are ready. */
async function run(options: SessionOptions, config: Config, programs: readonly Program[], context: SessionProcesses) {
  const { logFor, parts, ended, onGiveUp } = context;
  await mkdir(join(config.dataDir, 'run'), { recursive: true });
  const services = await startServices({
    config,
    toolchainDir: options.toolchainDir,
    path: options.env.PATH,
    natsSetup: options.natsSetup,
    logFor,
    onGiveUp,
    onStarted: (name, service) => parts.set(name, service),
    signal: ended,
  });
  if (ended.aborted) return;
  await writeRunningServices(config.dataDir, {
    natsUrl: services.NATS_URL,
    natsCredsFile: services.NATS_CREDS,
    databaseUrl: services.DATABASE_URL,
  });
  for (const name of programs) {
    const env = {
      ...options.env,
      ...engineMemory(name, options.env),
      ...services,
      ...settings(config),
      ...metricsOf(config, name),
    };
    const child = superviseChild({
      name,
      command: [process.execPath, join(options.root, name, 'main.ts')],
      cwd: options.root,
      env,
      pidFile: pidFile(config, name),
      readyWhen: 'spawned',
      log: logFor(name),
      onGiveUp,
    });
    parts.set(name, child);
    await child.start();
  }
  if (await allReady(readyChecks(config), ended, logFor('start'))) announce(config, options);
}

function settings(config: Config): Record<string, string> {
  return {
    DATA_DIR: config.dataDir,
    HTTP_HOST: config.http.host,
    HTTP_PORT: String(config.http.port),
    SIM_CONTROL_PORT: String(config.sim.controlPort),
    // The session formats the lines of its programs.
    LOG_FORMAT: 'json',
  };
}

/** Programs with metrics: the first one uses METRICS_PORT, each further one the next port. */
const WITH_METRICS: readonly Program[] = ['server', 'projections'];

function metricsPortOf({ metricsPort }: Config, name: Program): number | undefined {
  const place = WITH_METRICS.indexOf(name);
  return metricsPort === undefined || place < 0 ? undefined : metricsPort + place;
}

function metricsOf(config: Config, name: Program): Record<string, string | undefined> {
  return { METRICS_PORT: metricsPortOf(config, name)?.toString() };
}

function readyChecks(config: Config) {
  const api = { name: 'server', url: `http://${reachableHost(config.http.host)}:${config.http.port}/readyz` };
  const sim = { name: 'device-sim', url: `http://127.0.0.1:${config.sim.controlPort}/readyz` };
  return config.sim.units > 0 ? [api, sim] : [api];
}

/** The address at which this machine reaches a server that listens on `host`; a wildcard address is not one on every system. */
function reachableHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

/** A text as one word of a shell command. */
function shellWord(text: string): string {
  return /^[\w./:-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Prints where the platform can be reached. Tools read only the first line. */
function announce({ http, sim, dataDir }: Config, { env, print }: SessionOptions): void {
  const host = http.host.includes(':') ? `[${http.host}]` : http.host;
  const api = `http://${host}:${http.port}`;
  const dataDirSetting = env.DATA_DIR === undefined ? '' : `DATA_DIR=${shellWord(dataDir)} `;
  print(`ready ${api}`);
  print(`  API         ${api}/v1`);
  print(`  Swagger     ${api}/swagger`);
  print(`  AsyncAPI    ${api}/asyncapi`);
  if (sim.units > 0) print(`  simulator   http://127.0.0.1:${sim.controlPort}/units`);
  print(`  token       ${dataDirSetting}./run token --role customer --sub alice   (or --role ops)`);
}

function withRealPorts(config: Config): Config {
  const port = (configured: number) => (configured === 0 ? freePort() : configured);
  return {
    ...config,
    http: { ...config.http, port: port(config.http.port) },
    sim: { ...config.sim, controlPort: port(config.sim.controlPort) },
  };
}

function refusePortsInUse(config: Config): void {
  const configured = [
    { variable: 'HTTP_PORT', host: config.http.host, port: config.http.port },
    ...(config.sim.units > 0
      ? [{ variable: 'SIM_CONTROL_PORT', host: '127.0.0.1', port: config.sim.controlPort }]
      : []),
    ...WITH_METRICS.flatMap((name) => {
      const port = metricsPortOf(config, name);
      return port === undefined ? [] : [{ variable: 'METRICS_PORT', host: config.http.host, port }];
    }),
  ];
  const inUse = configured.filter(({ host, port }) => !isPortFree(host, port));
  if (inUse.length === 0) return;
  const addresses = inUse.map(({ variable, host, port }) => `${variable} ${port} on ${host}`).join(' and ');
  const suggestions = new Map(inUse.map(({ variable, port }) => [variable, port + 10]));
  const example = [...suggestions].map(([variable, port]) => `${variable}=${port}`).join(' ');
  throw new StartRefusedError(`Another program uses ${addresses}. Choose other ports, such as ${example} ./run start`);
}

async function lockDataDir(dataDir: string): Promise<() => Promise<void>> {
  try {
    return await acquireLock(join(dataDir, 'start.lock'));
  } catch (error) {
    if (error instanceof LockHeldError) {
      throw new StartRefusedError(
        `A platform runs on DATA_DIR ${dataDir} already (process ${error.pid}). Stop it, or set another DATA_DIR.`,
      );
    }
    throw new StartRefusedError(`The folder DATA_DIR ${dataDir} cannot be used: ${errorMessage(error)}.`);
  }
}

function pidFile(config: Config, name: Program): string {
  return join(config.dataDir, 'run', `${name}.pid`);
}

function isProgram(name: ProcessName): name is Program {
  return name !== 'nats' && name !== 'postgres';
}

function untilAborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener('abort', () => resolve());
  return promise;
}

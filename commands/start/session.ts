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
import { untilAborted } from '../../platform/process/until-aborted.ts';
import { type NatsSetup, startServices } from './embedded.ts';
import { type ReadinessCheck, waitUntilReady } from './readiness.ts';
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
/** The exit status of a program whose settings cannot be used, or whom the platform refuses: a restart changes nothing. */
const EXIT_REFUSED = 2;
const NAME_WIDTH = Math.max(...STOP_ORDER.map((name) => name.length));
const LEFTOVER_STOP = { signal: 'SIGTERM', graceMs: 3_000 } as const;

/**
 * Runs the whole platform on this machine until `stop` is aborted.
 * @throws StartRefusedError before any process starts; Error when the supervisor gives up on a process; all others are
 *   stopped by then
 */
export async function runSession(options: SessionOptions): Promise<void> {
  const config = withFreePorts(loadConfig(options.env));
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
  const startLog = logFor('start');
  const programs: Program[] = ['server', 'projections', ...(config.sim.units > 0 ? (['device-sim'] as const) : [])];
  for (const name of STOP_ORDER) {
    if (isProgram(name)) await stopLeftover(pidFile(config, name), LEFTOVER_STOP, startLog);
  }
  refusePortsInUse(config);
  const failure = Promise.withResolvers<never>();
  const processes = new Map<ProcessName, Pick<SupervisedChild, 'stop'>>();
  const cancelStart = new AbortController();
  const signal = AbortSignal.any([cancelStart.signal, options.stop]);
  const starting = startProcesses(options, config, programs, {
    logFor,
    processes,
    signal,
    onGiveUp: failure.reject,
  });
  try {
    await Promise.race([starting.then(() => untilAborted(options.stop)), failure.promise]);
  } catch (error) {
    // After Ctrl-C, the failure of an interrupted start is no error.
    if (!options.stop.aborted) throw error;
  } finally {
    cancelStart.abort();
    await Promise.allSettled([starting]);
    const inStopOrder = STOP_ORDER.map((name) => processes.get(name)).filter((child) => child !== undefined);
    await removeRunningServices(config.dataDir);
    await stopInOrder(inStopOrder, STOP_TOTAL_MS, options.kill, options.nowMs);
  }
}

interface StartContext {
  readonly logFor: (name: string) => LineSink;
  /** Receives each process when it starts, so that a failed start stops it. */
  readonly processes: Map<ProcessName, Pick<SupervisedChild, 'stop'>>;
  /** Aborts when the start is cancelled or the session stops. */
  readonly signal: AbortSignal;
  readonly onGiveUp: (error: Error) => void;
}

/** Starts the services, then the programs, and announces the platform when all are ready. */
async function startProcesses(
  options: SessionOptions,
  config: Config,
  programs: readonly Program[],
  { logFor, processes, signal, onGiveUp }: StartContext,
) {
  await mkdir(join(config.dataDir, 'run'), { recursive: true });
  const services = await startServices({
    config,
    toolchainDir: options.toolchainDir,
    path: options.env.PATH,
    natsSetup: options.natsSetup,
    logFor,
    onGiveUp,
    onStarted: (name, service) => processes.set(name, service),
    signal,
  });
  if (signal.aborted) return;
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
      ...programSettings(config),
      ...metricsSettings(config, name),
    };
    const child = superviseChild({
      name,
      command: [process.execPath, join(options.root, name, 'main.ts')],
      cwd: options.root,
      env,
      pidFile: pidFile(config, name),
      readyWhen: 'spawned',
      terminalStatus: EXIT_REFUSED,
      log: logFor(name),
      onGiveUp,
    });
    processes.set(name, child);
    await child.start();
  }
  if (await waitUntilReady(readinessChecks(config), signal, logFor('start'))) announce(config, options);
}

/** The settings of every program that differ from those of the session. */
function programSettings(config: Config): Record<string, string> {
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
const PROGRAMS_WITH_METRICS: readonly Program[] = ['server', 'projections'];

function metricsPortOf({ metricsPort }: Config, name: Program): number | undefined {
  const place = PROGRAMS_WITH_METRICS.indexOf(name);
  return metricsPort === undefined || place < 0 ? undefined : metricsPort + place;
}

function metricsSettings(config: Config, name: Program): Record<string, string | undefined> {
  return { METRICS_PORT: metricsPortOf(config, name)?.toString() };
}

function readinessChecks(config: Config): ReadinessCheck[] {
  const api = { name: 'server', url: `http://${reachableHost(config.http.host)}:${config.http.port}/readyz` };
  const sim = { name: 'device-sim', url: `http://127.0.0.1:${config.sim.controlPort}/readyz` };
  return config.sim.units > 0 ? [api, sim] : [api];
}

/** The address at which this machine reaches a server that listens on `host`. Not every system can connect to a wildcard address. */
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

/** Replaces each port 0 by a free port, so that all processes know the ports before they start. */
function withFreePorts(config: Config): Config {
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
    ...PROGRAMS_WITH_METRICS.flatMap((name) => {
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
    throw new StartRefusedError(
      `The folder DATA_DIR ${dataDir} cannot be used: ${errorMessage(error)}. Make it writable, or set another DATA_DIR.`,
    );
  }
}

function pidFile(config: Config, name: Program): string {
  return join(config.dataDir, 'run', `${name}.pid`);
}

function isProgram(name: ProcessName): name is Program {
  return name !== 'nats' && name !== 'postgres';
}

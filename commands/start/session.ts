import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Config, loadConfig } from '../../platform/config/config.ts';
import { removeRunningServices, writeRunningServices } from '../../platform/embedded/running-services.ts';
import { errorMessage } from '../../platform/observability/error-message.ts';
import { engineMemory } from '../../platform/process/engine-memory.ts';
import { LockHeldError, stopLeftover, takeLock } from '../../platform/process/identity.ts';
import { type LineSink, prefixedLogs } from '../../platform/process/lines.ts';
import { freePort, isPortFree } from '../../platform/process/ports.ts';
import { type SupervisedChild, stopInOrder, superviseChild } from '../../platform/process/supervise.ts';
import { type NatsSetup, startServices } from './embedded.ts';
import { allReady } from './readiness.ts';

export interface SessionOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The folder that holds `server/main.ts`, `projections/main.ts` and `device-sim/main.ts`. */
  readonly root: string;
  readonly toolchainDir: string;
  readonly natsSetup: (dataDir: string) => Promise<NatsSetup>;
  /** Takes what the user waits for. */
  readonly say: LineSink;
  /** Takes the logs of all processes. */
  readonly log: LineSink;
  readonly colour: boolean;
  /** Aborted by the first Ctrl-C: stop in order. */
  readonly stop: AbortSignal;
  /** Aborted by the second: kill what still lives. */
  readonly kill: AbortSignal;
  readonly nowMs: () => number;
}

/** Something that keeps the session from starting, in words for the user. */
export class StartRefusedError extends Error {
  override readonly name = 'StartRefusedError';
}

/** Who is stopped first. The simulator needs the server, the server needs the services. */
const STOP_ORDER = ['device-sim', 'server', 'projections', 'nats', 'postgres'] as const;
type PartName = (typeof STOP_ORDER)[number];
type Program = Extract<PartName, 'device-sim' | 'server' | 'projections'>;

/** A session is gone ten seconds after Ctrl-C; what is missing here is for the last kill and our own exit. */
const STOP_TOTAL_MS = 9_000;
const NAME_WIDTH = Math.max(...STOP_ORDER.map((name) => name.length));
const LEFTOVER_STOP = { signal: 'SIGTERM', graceMs: 3_000 } as const;

/**
 * Runs the whole platform on this machine until it is told to stop.
 * @throws StartRefusedError before anything runs; Error when a part gave up, after everything else was stopped.
 */
export async function runSession(options: SessionOptions): Promise<void> {
  const config = withRealPorts(loadConfig(options.env));
  await mkdir(config.dataDir, { recursive: true }).catch((error: unknown) => {
    throw new StartRefusedError(`DATA_DIR ${config.dataDir} cannot be made: ${errorMessage(error)}`);
  });
  const unlock = await lockDataDir(config.dataDir);
  try {
    await runLocked(options, config);
  } finally {
    await unlock();
  }
}

async function runLocked(options: SessionOptions, config: Config): Promise<void> {
  const logFor = prefixedLogs(options.log, options.colour, NAME_WIDTH);
  const own = logFor('start');
  const programs: Program[] = ['server', 'projections', ...(config.sim.units > 0 ? (['device-sim'] as const) : [])];
  for (const name of STOP_ORDER) {
    if (isProgram(name)) await stopLeftover(pidFile(config, name), LEFTOVER_STOP, own);
  }
  refuseTakenPorts(config);
  const failure = Promise.withResolvers<never>();
  const parts = new Map<PartName, Pick<SupervisedChild, 'stop'>>();
  const failed = new AbortController();
  const ended = AbortSignal.any([failed.signal, options.stop]);
  const running = run(options, config, programs, { logFor, parts, ended, onGiveUp: failure.reject });
  try {
    await Promise.race([running.then(() => untilAborted(options.stop)), failure.promise]);
  } catch (error) {
    // A start that is broken off fails; that is what was asked for.
    if (!options.stop.aborted) throw error;
  } finally {
    failed.abort();
    await Promise.allSettled([running]);
    const alive = STOP_ORDER.map((name) => parts.get(name)).filter((part) => part !== undefined);
    await removeRunningServices(config.dataDir);
    await stopInOrder(alive, STOP_TOTAL_MS, options.kill, options.nowMs);
  }
}

interface Surroundings {
  readonly logFor: (name: string) => LineSink;
  /** Filled as the parts start. */
  readonly parts: Map<PartName, Pick<SupervisedChild, 'stop'>>;
  readonly ended: AbortSignal;
  readonly onGiveUp: (error: Error) => void;
}

/** Starts the services, then the programs, then says when it is true that everything is ready. */
async function run(options: SessionOptions, config: Config, programs: readonly Program[], around: Surroundings) {
  const { logFor, parts, ended, onGiveUp } = around;
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
  if (await allReady(readyChecks(config), ended, logFor('start'))) announce(config, options.say);
}

function settings(config: Config): Record<string, string> {
  return {
    DATA_DIR: config.dataDir,
    HTTP_HOST: config.http.host,
    HTTP_PORT: String(config.http.port),
    SIM_CONTROL_PORT: String(config.sim.controlPort),
  };
}

/** Each program that has metrics has its own port: METRICS_PORT is that of the first, the others count up. */
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

/** An address that stands for all addresses cannot be called everywhere. */
function reachableHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

function announce(config: Config, say: LineSink): void {
  const host = config.http.host.includes(':') ? `[${config.http.host}]` : config.http.host;
  say(`ready http://${host}:${config.http.port}`);
  say('a token for the API: ./run token --role customer --sub alice (or --role ops)');
}

function withRealPorts(config: Config): Config {
  const port = (wanted: number) => (wanted === 0 ? freePort() : wanted);
  return {
    ...config,
    http: { ...config.http, port: port(config.http.port) },
    sim: { ...config.sim, controlPort: port(config.sim.controlPort) },
  };
}

function refuseTakenPorts(config: Config): void {
  const wanted = [
    { variable: 'HTTP_PORT', host: config.http.host, port: config.http.port },
    ...(config.sim.units > 0
      ? [{ variable: 'SIM_CONTROL_PORT', host: '127.0.0.1', port: config.sim.controlPort }]
      : []),
    ...WITH_METRICS.flatMap((name) => {
      const port = metricsPortOf(config, name);
      return port === undefined ? [] : [{ variable: 'METRICS_PORT', host: config.http.host, port }];
    }),
  ];
  const taken = wanted.filter(({ host, port }) => !isPortFree(host, port));
  if (taken.length === 0) return;
  const what = taken.map(({ variable, host, port }) => `${variable} ${port} on ${host}`).join(' and ');
  const others = new Map(taken.map(({ variable, port }) => [variable, port + 10]));
  const example = [...others].map(([variable, port]) => `${variable}=${port}`).join(' ');
  throw new StartRefusedError(`taken by another program: ${what}; choose others, such as ${example} ./run start`);
}

async function lockDataDir(dataDir: string): Promise<() => Promise<void>> {
  try {
    return await takeLock(join(dataDir, 'start.lock'));
  } catch (error) {
    if (error instanceof LockHeldError) {
      throw new StartRefusedError(`a platform runs already on DATA_DIR ${dataDir} (process ${error.pid})`);
    }
    throw new StartRefusedError(`DATA_DIR ${dataDir} cannot be used: ${errorMessage(error)}`);
  }
}

function pidFile(config: Config, name: Program): string {
  return join(config.dataDir, 'run', `${name}.pid`);
}

function isProgram(name: PartName): name is Program {
  return name !== 'nats' && name !== 'postgres';
}

function untilAborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener('abort', () => resolve());
  return promise;
}

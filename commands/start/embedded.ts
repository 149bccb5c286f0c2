import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../../platform/config/config.ts';
import { startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { ensureNatsServer } from '../../platform/embedded/nats-server-binary.ts';
import { startEmbeddedPostgres } from '../../platform/embedded/postgres.ts';
import type { LineSink } from '../../platform/process/lines.ts';
import { freePort } from '../../platform/process/ports.ts';
import type { SupervisedChild } from '../../platform/process/supervise.ts';

/** The configuration of the embedded NATS, and the credentials of the platform's processes. */
export interface NatsSetup {
  readonly config: string;
  readonly credsFile: string | undefined;
}

export interface ServiceOptions {
  readonly config: Config;
  readonly toolchainDir: string;
  /** The variable PATH, in which a `nats-server` is looked for. */
  readonly path: string | undefined;
  readonly natsSetup: (dataDir: string) => Promise<NatsSetup>;
  readonly logFor: (name: string) => LineSink;
  readonly onGiveUp: (error: Error) => void;
  /** Ends the start of services that are not ready yet. */
  readonly signal: AbortSignal;
  /** Called for each service as soon as it runs, so that it is stopped even if the other one fails. */
  readonly onStarted: (name: 'nats' | 'postgres', service: Pick<SupervisedChild, 'stop'>) => void;
}

/** The addresses of the services, as settings for the platform's processes. */
export interface ServiceEnvironment extends Readonly<Record<string, string | undefined>> {
  readonly NATS_URL: string;
  readonly NATS_CREDS: string | undefined;
  readonly DATABASE_URL: string;
}

/** Starts NATS and Postgres concurrently. A service whose URL is in the settings is not started. */
export async function startServices(options: ServiceOptions): Promise<ServiceEnvironment> {
  const [nats, database] = await Promise.allSettled([natsEnvironment(options), databaseUrl(options)]);
  if (nats.status === 'rejected') throw nats.reason;
  if (database.status === 'rejected') throw database.reason;
  return { ...nats.value, DATABASE_URL: database.value };
}

async function natsEnvironment(options: ServiceOptions) {
  const { config, logFor, onGiveUp, signal } = options;
  if (config.nats.url !== undefined) return { NATS_URL: config.nats.url, NATS_CREDS: config.nats.credsFile };
  const log = logFor('nats');
  const [binary, setup] = await Promise.all([
    ensureNatsServer({ path: options.path, toolchainDir: options.toolchainDir, log, signal }),
    options.natsSetup(config.dataDir),
  ]);
  const dataDir = join(config.dataDir, 'nats');
  const nats = await startEmbeddedNats({
    dataDir,
    binary,
    config: setup.config,
    port: await loadOrChoosePort(dataDir),
    log: withoutRoutineLines(log, / \[INF\] /),
    onGiveUp,
    signal,
  });
  options.onStarted('nats', nats);
  return { NATS_URL: nats.url, NATS_CREDS: setup.credsFile };
}

/** Chooses the port of NATS at the first start. Later starts use the same port, because the credentials of units contain it. */
async function loadOrChoosePort(dataDir: string): Promise<number> {
  const file = join(dataDir, 'port');
  const stored = await readFile(file, 'utf8').catch(() => undefined);
  if (stored !== undefined) return Number(stored);
  const port = freePort();
  await mkdir(dataDir, { recursive: true });
  await writeFile(file, String(port));
  return port;
}

async function databaseUrl(options: ServiceOptions): Promise<string> {
  const { config, logFor, onGiveUp, signal } = options;
  if (config.databaseUrl !== undefined) return config.databaseUrl;
  const postgres = await startEmbeddedPostgres({
    dataDir: join(config.dataDir, 'postgres'),
    log: withoutRoutineLines(logFor('postgres'), / LOG: /),
    onGiveUp,
    signal,
  });
  options.onStarted('postgres', postgres);
  return postgres.url;
}

/** Drops the routine lines of a service, so that problems stand out where five processes share a terminal. */
function withoutRoutineLines(log: LineSink, routine: RegExp): LineSink {
  return (line) => {
    if (!routine.test(line)) log(line);
  };
}

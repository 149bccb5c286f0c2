import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { LineSink } from '../process/lines.ts';
import { freePort } from '../process/ports.ts';
import { ChildGaveUpError, type SupervisedChild, startUnlessAborted, superviseChild } from '../process/supervise.ts';
import { linkStagingToMemory } from './nats-staging.ts';

export interface EmbeddedNatsOptions {
  /** Folder of the streams, the configuration and the process id. Existing streams are resumed. */
  readonly dataDir: string;
  /** A nats-server, see `ensureNatsServer`. */
  readonly binary: string;
  /** The text of the configuration file of nats-server. Address, port and the folder of JetStream are set by flags. */
  readonly config: string;
  /** A loopback port, or 0 for a free one. The server keeps the port after a crash. */
  readonly port: number;
  readonly log: LineSink;
  /** Called when the server has crashed too often to be started again. @default logs it */
  readonly onGiveUp?: (error: ChildGaveUpError) => void;
  /** Aborts the start: a server that was started is stopped, and `startEmbeddedNats` throws the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface EmbeddedNats {
  readonly url: string;
  /** The process id of the server; undefined while it is being restarted. */
  readonly pid: number | undefined;
  stop(bounds?: Parameters<SupervisedChild['stop']>[0]): Promise<void>;
}

const MAX_PORT_ATTEMPTS = 5;
/** The server checks its store before it is ready, which takes long for a large one. */
const READY_TIMEOUT_MS = 300_000;
const STOP_GRACE_MS = 5_000;
const PORT_TAKEN = /address already in use/;

/**
 * Starts nats-server with JetStream on loopback and restarts it when it crashes. A server that an earlier start left running on
 * the folder is stopped first.
 * @returns once the server accepts connections
 * @throws ChildGaveUpError with the last log lines of the server when it does not start
 */
export async function startEmbeddedNats(options: EmbeddedNatsOptions): Promise<EmbeddedNats> {
  const dataDir = resolve(options.dataDir);
  await mkdir(dataDir, { recursive: true });
  const configFile = join(dataDir, 'nats-server.conf');
  await writeFile(configFile, options.config, { mode: 0o600 });
  await chmod(configFile, 0o600);
  for (let attempt = 1; ; attempt++) {
    const port = options.port === 0 ? freePort() : options.port;
    const child = natsServer(options, dataDir, configFile, port);
    try {
      await startUnlessAborted(child, options.signal);
      const staging = await linkStagingToMemory(dataDir);
      return {
        url: `nats://127.0.0.1:${port}`,
        get pid() {
          return child.pid;
        },
        stop: async (bounds) => {
          await child.stop(bounds);
          await staging.stop();
        },
      };
    } catch (error) {
      const lostRace = error instanceof ChildGaveUpError && PORT_TAKEN.test(error.message);
      if (!lostRace || options.port !== 0 || attempt === MAX_PORT_ATTEMPTS) throw error;
    }
  }
}

function natsServer(options: EmbeddedNatsOptions, dataDir: string, config: string, port: number): SupervisedChild {
  return superviseChild({
    name: 'nats',
    command: [
      options.binary,
      ...['--config', config, '--addr', '127.0.0.1', '--port', String(port)],
      ...['--jetstream', '--store_dir', dataDir],
    ],
    cwd: dataDir,
    pidFile: join(dataDir, 'nats-server.pid'),
    readyWhen: { line: /Server is ready/ },
    readyTimeoutMs: READY_TIMEOUT_MS,
    maxCrashesBeforeReady: 1,
    stop: { signal: 'SIGTERM', graceMs: STOP_GRACE_MS },
    log: options.log,
    onGiveUp: options.onGiveUp ?? ((error) => options.log(error.message)),
  });
}

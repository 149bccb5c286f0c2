/** `./run projections …` */

import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { type Config, ConfigError, loadConfig } from '../platform/config/config.ts';
import { findServices, PlatformNotRunningError } from '../platform/embedded/running-services.ts';
import { StoreUnavailableError } from '../platform/event-store/store.ts';
import { Nats, NatsUnavailableError } from '../platform/nats/connection.ts';
import { NatsEventStore } from '../platform/nats/event-store.ts';
import { createLog } from '../platform/observability/log.ts';
import { Postgres, PostgresUnavailableError } from '../platform/postgres/connection.ts';
import { createProjections } from './create-projections.ts';
import { runStatus } from './engine/queries/status.ts';
import { sleepUnless } from './engine/sleep.ts';
import { listParked, retry } from './operations/parked.ts';
import { cancel, type OperationContext, rebuild } from './operations/rebuild.ts';
import { statusTable } from './operations/status-table.ts';
import { type VerificationContext, verify } from './operations/verify.ts';

const USAGE = `usage: ./run projections status            how far each projection is
       ./run projections rebuild NAME      fills it anew beside the one that serves, and shows how far that is
       ./run projections cancel NAME       calls a rebuild off
       ./run projections verify NAME       compares it, row by row, with what the events say
       ./run projections parked NAME       units of which an event could not be applied
       ./run projections retry NAME UNIT   tries one of them again
`;
/** One for what is done, and one for what is asked meanwhile. */
const POSTGRES_CONNECTIONS = 2;

type Command = (operation: VerificationContext, ...args: readonly string[]) => Promise<number>;

/** With how many arguments each is called. */
const COMMANDS: Readonly<Record<string, { readonly args: number; readonly run: Command }>> = {
  status: { args: 0, run: status },
  rebuild: { args: 1, run: (operation, name = '') => rebuild(name, operation) },
  cancel: { args: 1, run: (operation, name = '') => cancel(name, operation) },
  verify: { args: 1, run: (operation, name = '') => verify(name, operation) },
  parked: { args: 1, run: (operation, name = '') => listParked(name, operation) },
  retry: { args: 2, run: (operation, name = '', unit = '') => retry(name, unit, operation) },
};

async function status({ postgres, output, lastSequence }: OperationContext): Promise<number> {
  // The positions first: an end that was read before them could lie behind them.
  const runs = await runStatus(postgres.sql);
  output.write(statusTable(runs, await lastSequence()));
  return 0;
}

async function withServices(
  config: Config,
  work: (operation: VerificationContext) => Promise<number>,
): Promise<number> {
  const { natsUrl, natsCredsFile, databaseUrl } = await findServices(config);
  const log = createLog((line) => process.stderr.write(line), Date.now);
  const creds = natsCredsFile === undefined ? {} : { creds: await readFile(natsCredsFile, 'utf8') };
  const nats = await Nats.connect({ url: natsUrl, ...creds, name: 'projections operation', log });
  const postgres = new Postgres({
    url: databaseUrl,
    applicationName: 'lockfleet projections operation',
    maxConnections: POSTGRES_CONNECTIONS,
  });
  const store = new NatsEventStore(nats, () => Bun.randomUUIDv7());
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  try {
    return await work({
      postgres,
      store,
      projections: createProjections(),
      output: { write: (text) => process.stdout.write(text), isTerminal: process.stdout.isTTY === true },
      clock: () => performance.now(),
      sleep: (ms) => sleepUnless(interrupted.signal, ms),
      lastSequence: () => store.lastSequence(),
      interrupted: interrupted.signal,
      by: `cli:${userInfo().username}`,
    });
  } finally {
    await postgres.close(0);
    await nats.close();
  }
}

/** Failures that a user can do something about, in one line. */
function isExplained(error: unknown): error is Error {
  return [
    ConfigError,
    PlatformNotRunningError,
    NatsUnavailableError,
    StoreUnavailableError,
    PostgresUnavailableError,
  ].some((kind) => error instanceof kind);
}

async function main([name = '', ...args]: readonly string[]): Promise<number> {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined || args.length !== command.args) {
    process.stderr.write(USAGE);
    return 2;
  }
  try {
    return await withServices(loadConfig(process.env), (operation) => command.run(operation, ...args));
  } catch (error) {
    if (!isExplained(error)) throw error;
    console.error(error.message);
    return 1;
  }
}

process.exit(await main(process.argv.slice(2)));

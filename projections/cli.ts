/** `./run projections`: operations on read models. */

import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { type Config, ConfigError, loadConfig } from '../platform/config/config.ts';
import { findServices, PlatformNotRunningError } from '../platform/embedded/running-services.ts';
import { StoreUnavailableError } from '../platform/event-store/store.ts';
import { Nats, NatsUnavailableError } from '../platform/nats/connection.ts';
import { NatsEventStore } from '../platform/nats/event-store.ts';
import { processLog } from '../platform/observability/process-log.ts';
import { Postgres, PostgresUnavailableError } from '../platform/postgres/connection.ts';
import { createProjections } from './create-projections.ts';
import { abortableSleep } from './engine/abortable-sleep.ts';
import { runStatus } from './engine/queries/status.ts';
import type { OperationContext } from './operations/operation.ts';
import { listParked, retry } from './operations/parked.ts';
import { cancel, rebuild } from './operations/rebuild.ts';
import { statusTable } from './operations/status-table.ts';
import { verify } from './operations/verify.ts';

const USAGE = `usage: ./run projections status            shows the runs of all read models, and how far each lags
       ./run projections rebuild NAME      rebuilds a read model beside the run that serves, and shows the progress
       ./run projections cancel NAME       cancels a rebuild
       ./run projections verify NAME       compares every row with a second fold of all events
       ./run projections parked NAME       lists the units that are parked because an event could not be applied
       ./run projections retry NAME UNIT   retries a parked unit

The command works on the platform that runs on DATA_DIR, or on NATS_URL and DATABASE_URL if both are set.
`;
/** One for the operation, and one for its progress. */
const POSTGRES_CONNECTIONS = 2;
/** `verify` compares all rows of two read models in one query. */
const STATEMENT_TIMEOUT_MS = 6 * 3_600_000;

type Command = (context: OperationContext, ...args: readonly string[]) => Promise<number>;

/** The commands, each with the number of its arguments. */
const COMMANDS: Readonly<Record<string, { readonly args: number; readonly run: Command }>> = {
  status: { args: 0, run: status },
  rebuild: { args: 1, run: (context, name = '') => rebuild(name, context) },
  cancel: { args: 1, run: (context, name = '') => cancel(name, context) },
  verify: { args: 1, run: (context, name = '') => verify(name, context) },
  parked: { args: 1, run: (context, name = '') => listParked(name, context) },
  retry: { args: 2, run: (context, name = '', unit = '') => retry(name, unit, context) },
};

async function status({ postgres, output, store }: OperationContext): Promise<number> {
  // The runs are read before the end of the store: read after it, their positions could exceed it.
  const runs = await runStatus(postgres.sql);
  output.write(statusTable(runs, await store.lastSequence()));
  return 0;
}

async function withServices(config: Config, work: (context: OperationContext) => Promise<number>): Promise<number> {
  const { natsUrl, natsCredsFile, databaseUrl } = await findServices(config);
  const log = processLog(process, Date.now);
  const creds = natsCredsFile === undefined ? {} : { creds: await readFile(natsCredsFile, 'utf8') };
  const nats = await Nats.connect({ url: natsUrl, ...creds, name: 'projections operation', log });
  const postgres = new Postgres({
    url: databaseUrl,
    applicationName: 'lockfleet projections operation',
    maxConnections: POSTGRES_CONNECTIONS,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
  });
  const store = new NatsEventStore(
    nats,
    () => Bun.randomUUIDv7(),
    () => performance.now(),
  );
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
  try {
    return await work({
      postgres,
      store,
      projections: createProjections(),
      output: { write: (text) => process.stdout.write(text), isTerminal: process.stdout.isTTY === true },
      clock: () => performance.now(),
      sleep: (ms) => abortableSleep(interrupted.signal, ms),
      interrupted: interrupted.signal,
      by: `cli:${userInfo().username}`,
    });
  } finally {
    await postgres.close(0);
    await nats.close();
  }
}

/** Whether the message of an error tells the operator what to do; any other error is a defect and keeps its stack. */
function isOperatorError(error: unknown): error is Error {
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
    return await withServices(loadConfig(process.env), (context) => command.run(context, ...args));
  } catch (error) {
    if (!isOperatorError(error)) throw error;
    console.error(error.message);
    return 1;
  }
}

process.exit(await main(process.argv.slice(2)));

/** `./run projections …` */

import { readFile } from 'node:fs/promises';
import { type Config, ConfigError, loadConfig, requireServices } from '../platform/config.ts';
import { StoreUnavailableError } from '../platform/event-store/store.ts';
import { createLog } from '../platform/log.ts';
import { Nats, NatsUnavailableError } from '../platform/nats/connection.ts';
import { NatsEventStore } from '../platform/nats/event-store.ts';
import { Postgres, PostgresUnavailableError } from '../platform/postgres/connection.ts';
import { projectionStatus } from './engine/queries.ts';
import { statusTable } from './engine/status-table.ts';

const USAGE = `usage: ./run projections status    how far each projection is
`;

async function status(config: Config): Promise<void> {
  const { natsUrl, databaseUrl } = requireServices(config);
  const log = createLog((line) => process.stderr.write(line), Date.now);
  const creds = config.nats.credsFile === undefined ? {} : { creds: await readFile(config.nats.credsFile, 'utf8') };
  const nats = await Nats.connect({ url: natsUrl, ...creds, name: 'projections status', log });
  const postgres = new Postgres({
    url: databaseUrl,
    applicationName: 'lockfleet projections status',
    maxConnections: 1,
  });
  try {
    // The positions first: an end that was read before them could lie behind them.
    const runs = await projectionStatus(postgres.sql);
    const end = await new NatsEventStore(nats, () => Bun.randomUUIDv7()).lastSequence();
    process.stdout.write(statusTable(runs, end));
  } finally {
    await postgres.close(0);
    await nats.close();
  }
}

/** Failures that a user can do something about, in one line. */
function isExplained(error: unknown): error is Error {
  return [ConfigError, NatsUnavailableError, StoreUnavailableError, PostgresUnavailableError].some(
    (kind) => error instanceof kind,
  );
}

async function main(args: readonly string[]): Promise<number> {
  if (args.length !== 1 || args[0] !== 'status') {
    process.stderr.write(USAGE);
    return 2;
  }
  try {
    await status(loadConfig(process.env));
    return 0;
  } catch (error) {
    if (!isExplained(error)) throw error;
    console.error(error.message);
    return 1;
  }
}

process.exit(await main(process.argv.slice(2)));

/** The pinger as a process of its own. This file is the wiring diagram. */

import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { UnitQuery } from '../platform/change-feed/follower.ts';
import { type Config, ConfigError, loadConfig, requireServices } from '../platform/config/config.ts';
import { loadKeys } from '../platform/credentials/keys.ts';
import { ProofExchange } from '../platform/liveness/proof-exchange.ts';
import { Nats } from '../platform/nats/connection.ts';
import { ensureStreams } from '../platform/nats/ensure-streams.ts';
import { NatsEventStore } from '../platform/nats/event-store.ts';
import { AddressResolver, addressesOf } from '../platform/network/address-resolver.ts';
import type { Log } from '../platform/observability/log.ts';
import { startMetrics } from '../platform/observability/metrics.ts';
import { processLog } from '../platform/observability/process-log.ts';
import { Postgres } from '../platform/postgres/connection.ts';
import { migrate } from '../platform/postgres/migrations.ts';
import { enforceStopDeadline, StoppingParts } from '../platform/process/stop-deadline.ts';
import { untilAborted } from '../platform/process/until-aborted.ts';
import { type RetryPolicy, retryWithBackoff } from '../platform/retry/retry-policy.ts';
import { UnitDecider } from '../platform/units/unit-decider.ts';
import { snapshotReader } from '../projections/bookings/queries.ts';
import { ServingRuns } from '../projections/engine/queries/serving-runs.ts';
import { pingTargets } from '../projections/units/queries/followers.ts';
import { composePinger } from './compose.ts';
import { systemClock } from './runtime/clock.ts';
import { pingerMetrics } from './telemetry/pinger-metrics.ts';

const POSTGRES_CONNECTIONS = 4;
/** The pinger decides only when a unit goes online or offline, so the decider's cache holds few states. */
const MAX_CACHED_STATE_BYTES = 32 * 1024 * 1024;
/** The longest answer that a pinger waits for comes within seconds; what remains is closing connections. */
const STOP_DEADLINE_MS = 10_000;

async function run(config: Config, log: Log, stopping: AbortController, parts: StoppingParts): Promise<void> {
  const stop = stopping.signal;
  const { natsUrl, databaseUrl } = requireServices(config);
  const serving = startMetrics(config, log);
  const pause = (ms: number) => sleep(ms, undefined, { signal: stop }).catch(() => undefined);
  const retryPolicy: RetryPolicy = { signal: stop, sleep: pause, log };
  const clock = systemClock;
  const newId = () => Bun.randomUUIDv7();
  const keys = await loadKeys(config.dataDir);
  const { credsFile } = config.nats;
  const natsAccess = { url: natsUrl, ...(credsFile === undefined ? {} : { creds: await readFile(credsFile, 'utf8') }) };
  const nats = await Nats.connect({ ...natsAccess, name: 'pinger', waitOnFirstConnect: true, log });
  const postgres = new Postgres({
    url: databaseUrl,
    applicationName: 'lockfleet pinger',
    maxConnections: POSTGRES_CONNECTIONS,
  });
  const { sql } = postgres;
  const readModels = { sql, servingRuns: new ServingRuns(sql, clock.monotonic) };
  await retryWithBackoff('preparing the streams', retryPolicy, () => ensureStreams(nats, config.nats.replicas));
  await retryWithBackoff('migrating the database', retryPolicy, () => migrate(postgres, log));
  const decider = new UnitDecider({
    store: new NatsEventStore(nats, newId, () => performance.now()),
    loadSnapshot: snapshotReader(readModels),
    newId,
    clock: clock.now,
    random: Math.random,
    sleep: pause,
    maxCachedStateBytes: MAX_CACHED_STATE_BYTES,
    log,
  });
  const following = parts.track('following the store', decider.followStore(stop));
  const readTargets = (query: UnitQuery) => pingTargets(readModels, query);
  const exchange = new ProofExchange(nats, newId);
  const addresses = new AddressResolver({ denied: config.deniedAddresses, lookup: addressesOf });
  const services = { nats, readTargets, decider, addresses, exchange };
  const pinger = composePinger({ config, keys, natsAccess, ...services, clock, newId, log });
  serving?.metrics.add(pingerMetrics(() => pinger.status()));
  console.log('ready');
  try {
    // `following` rejects on a terminal error, and the process must end. It resolves only after `stop`.
    await Promise.race([untilAborted(stop), nats.untilLost(), following.then(() => untilAborted(stop))]);
  } finally {
    // Also after an error, so that the deadline holds.
    stopping.abort();
    await parts.track('the pinger', pinger.stop());
    exchange.close();
    await parts.track('the connection to NATS', nats.close());
    await parts.track('the connections to Postgres', postgres.close());
    if (serving !== undefined) await parts.track('the metrics', serving.end());
  }
}

async function main(): Promise<number> {
  const log = processLog(process, systemClock.now, { process: 'pinger' });
  const stopping = new AbortController();
  const parts = new StoppingParts();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort());
  enforceStopDeadline({ signal: stopping.signal, deadlineMs: STOP_DEADLINE_MS, parts, log, exit: process.exit });
  try {
    await run(loadConfig(process.env), log, stopping, parts);
    return 0;
  } catch (error) {
    if (error instanceof ConfigError) console.error(error.message);
    else
      log.error('The pinger ends because of an error that no retry can resolve. Restart it after mending the cause.', {
        error,
      });
    return 1;
  }
}

process.exit(await main());

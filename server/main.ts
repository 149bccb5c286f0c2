/** The server: the REST API and, by `ROLES`, the workers. This file is the wiring diagram. */

import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { composePinger } from '../pinger/compose.ts';
import { systemClock } from '../pinger/runtime/clock.ts';
import { pingerMetrics } from '../pinger/telemetry/pinger-metrics.ts';
import { jwksVerifier, secretVerifier, type TokenVerifier } from '../platform/auth/tokens.ts';
import type { UnitQuery } from '../platform/change-feed/follower.ts';
import { type Config, ConfigError, loadConfig, requireServices } from '../platform/config/config.ts';
import { loadKeys, type PlatformKeys } from '../platform/credentials/keys.ts';
import { ReservationSecrets } from '../platform/credentials/reservation-secrets.ts';
import { UnitRevocations } from '../platform/credentials/revocations.ts';
import { ProofExchange } from '../platform/liveness/proof-exchange.ts';
import { Nats } from '../platform/nats/connection.ts';
import { NatsEventStore } from '../platform/nats/event-store.ts';
import { ensureStreams } from '../platform/nats/jetstream.ts';
import { AddressResolver, addressesOf } from '../platform/network/address-resolver.ts';
import { createLog, type Log } from '../platform/observability/log.ts';
import { startMetrics } from '../platform/observability/metrics.ts';
import { Postgres } from '../platform/postgres/connection.ts';
import { withLock } from '../platform/postgres/locks.ts';
import { migrate } from '../platform/postgres/migrations.ts';
import { untilAborted } from '../platform/process/until-aborted.ts';
import { type RetryPolicy, retryWithBackoff } from '../platform/retry/retry-policy.ts';
import { ClockOffsetCache } from '../platform/unit-log/clock-offset-cache.ts';
import { DeadLetterStore } from '../platform/unit-log/dead-letter-store.ts';
import { UnitLogRecorder } from '../platform/unit-log/unit-log-recorder.ts';
import { PlatformSigner } from '../platform/unit-protocol/signatures.ts';
import { ConfigurationPusher } from '../platform/units/configuration-pusher.ts';
import { UnitCommandClient } from '../platform/units/unit-command-client.ts';
import { UnitDecider } from '../platform/units/unit-decider.ts';
import { snapshotReader } from '../projections/bookings/queries.ts';
import { PositionWaiter } from '../projections/engine/queries/position-waiter.ts';
import { type ReadModels, ServingRuns } from '../projections/engine/queries/serving-runs.ts';
import { PAGE_SETTINGS } from '../projections/event_log/queries/events.ts';
import { clockOffsets as readClockOffsets } from '../projections/telemetry/queries.ts';
import { pingTargets } from '../projections/units/queries/followers.ts';
import { api } from './api/app.ts';
import { IdempotencyStore } from './http/idempotency-store.ts';
import { AnsweredRequests } from './http/response-metrics.ts';
import { type WorkersOptions, workers } from './workers/workers.ts';

/** Connections of the API; each serves one query at a time. */
const POSTGRES_CONNECTIONS = 20;
/** Connections for the event log, and how long one page of it may take: neither exports nor filters hold others up. */
const EVENT_LOG_CONNECTIONS = 8;
const EVENT_LOG_TIMEOUT_MS = 15_000;
const SWEEP_INTERVAL_MS = 3_600_000;

async function run(config: Config, log: Log, stop: AbortSignal): Promise<void> {
  const { natsUrl, databaseUrl } = requireServices(config);
  const serving = startMetrics(config, log);
  const clock = Date.now;
  const monotonic = () => performance.now();
  const newId = () => Bun.randomUUIDv7();
  const pause = (ms: number) => sleep(ms, undefined, { signal: stop }).catch(() => undefined);

  const keys = await loadKeys(config.dataDir);
  const { credsFile } = config.nats;
  const natsAccess = { url: natsUrl, ...(credsFile === undefined ? {} : { creds: await readFile(credsFile, 'utf8') }) };
  const nats = await Nats.connect({ ...natsAccess, name: 'server', waitOnFirstConnect: true, log });
  const postgres = createPostgres(databaseUrl);
  const { sql } = postgres;
  const servingRuns = new ServingRuns(sql, monotonic);
  const readModels: ReadModels = { sql, servingRuns };
  const eventLog = createEventLogReader(databaseUrl);
  const patience: RetryPolicy = { signal: stop, sleep: pause, log };
  await retryWithBackoff('preparing the streams', patience, () => ensureStreams(nats));
  await retryWithBackoff('migrating the database', patience, () => migrate(postgres, log));
  const store = new NatsEventStore(nats, newId);
  const decider = createDecider({ store, readModels, newId, clock, pause, log });
  const signer = await PlatformSigner.create(keys.signingKey);
  const secrets = new ReservationSecrets(keys.fleetKey, signer);
  const addresses = new AddressResolver({ denied: config.deniedAddresses, lookup: addressesOf });
  const exchange = new ProofExchange(nats, newId);
  const readTargets = (query: UnitQuery) => pingTargets(readModels, query);
  const liveness = { addresses, exchange, clock: systemClock };
  const pinging = { config, keys, natsAccess, nats, readTargets, decider, ...liveness, newId, log };
  const pinger = config.roles.has('pinger') ? composePinger(pinging) : undefined;
  if (pinger !== undefined) serving?.metrics.add(pingerMetrics(() => pinger.status()));
  const onAnswer = (unit: string) => exchange.publish({ unit, evidence: 'command', atMs: clock() });
  const commands = new UnitCommandClient({ nats, signer, clock, onAnswer });

  const exclusively = <T>(change: () => Promise<T>) => withLock(postgres, 'unit revocations', change);
  const revocations = new UnitRevocations({ url: natsUrl, keys, exclusively, clock, log });

  const deadLetters = new DeadLetterStore(sql);
  const clockOffsets = new ClockOffsetCache({ read: () => readClockOffsets(sql), clock, log });
  const recorder = new UnitLogRecorder({ decider, deadLetters, clockOffsets, newId, log });
  const recording = { recorder, clockOffsets, newId, clock, monotonic, pause, stop, log };
  const push = new ConfigurationPusher({
    decider,
    commands,
    retryScheduleS: config.configRetryScheduleS,
    newId,
    clock,
  });
  const deciding = { config, nats, postgres, readModels, decider, signer, commands, push, secrets, revocations };
  const running = await workers({ ...recording, ...deciding });

  const idempotency = new IdempotencyStore(sql);
  const answered = new AnsweredRequests();
  if (config.roles.has('api')) serving?.metrics.add(answered);
  const ofApi = { keys, natsUrl, store, addresses, eventLog, deadLetters, idempotency, answered };
  const app = config.roles.has('api') ? composeApi({ ...recording, ...deciding, ...ofApi }) : undefined;
  if (app !== undefined) {
    app.listen({ hostname: config.http.host, port: config.http.port });
    running.push(sweep(idempotency, pause, stop, log));
    log.info('the API listens', { host: config.http.host, port: app.server?.port });
  }
  try {
    // A worker that ends before it is told to has met what no retry mends.
    await Promise.race([untilAborted(stop), ...running.map((worker) => worker.then(() => untilAborted(stop)))]);
  } finally {
    await app?.stop();
    await pinger?.stop();
    exchange.close();
    await Promise.allSettled(stop.aborted ? running : []);
    await revocations.close();
    await nats.close();
    await Promise.all([postgres.close(), eventLog.close()]);
    await serving?.end();
  }
}

interface ApiParts extends WorkersOptions {
  readonly keys: PlatformKeys;
  readonly natsUrl: string;
  readonly store: NatsEventStore;
  readonly addresses: AddressResolver;
  readonly eventLog: Postgres;
  readonly deadLetters: DeadLetterStore;
  readonly idempotency: IdempotencyStore;
  readonly answered: AnsweredRequests;
}

function composeApi(parts: ApiParts) {
  const { config, keys, nats, store, postgres, readModels, eventLog, answered, clock } = parts;
  return api({
    ...parts,
    tokens: tokenVerifier(config, keys, clock),
    eventLog: { sql: eventLog.sql, servingRuns: readModels.servingRuns },
    positions: new PositionWaiter(readModels, () => performance.now()),
    loadSnapshot: snapshotReader(readModels),
    lastSequence: () => store.lastSequence(),
    holdTtlS: config.holdTtlS,
    checks: {
      nats: async () => nats.connected,
      postgres: async () => (await postgres.sql`select 1`).length === 1,
      readModels: () => readModelsServe(readModels),
    },
    onAnswer: (status) => answered.count(status),
    checkAnswers: config.http.checkAnswers,
    randomBytes,
  });
}

function createPostgres(url: string): Postgres {
  return new Postgres({ url, applicationName: 'lockfleet server', maxConnections: POSTGRES_CONNECTIONS });
}

function createEventLogReader(url: string): Postgres {
  return new Postgres({
    url,
    applicationName: 'lockfleet event log',
    maxConnections: EVENT_LOG_CONNECTIONS,
    statementTimeoutMs: EVENT_LOG_TIMEOUT_MS,
    settings: PAGE_SETTINGS,
  });
}

type DeciderParts = Pick<WorkersOptions, 'newId' | 'clock' | 'pause' | 'log'> & {
  readonly readModels: ReadModels;
  readonly store: NatsEventStore;
};

function createDecider({ store, readModels, newId, clock, pause, log }: DeciderParts): UnitDecider {
  return new UnitDecider({
    store,
    loadSnapshot: snapshotReader(readModels),
    newId,
    clock,
    random: Math.random,
    sleep: pause,
    log,
  });
}

/** Whether the read models that decisions and the API begin with have tables: a new database has none for a moment. */
async function readModelsServe(readModels: ReadModels): Promise<boolean> {
  await Promise.all([snapshotReader(readModels)('any'), pingTargets(readModels, { afterName: undefined, limit: 1 })]);
  return true;
}

function tokenVerifier({ auth }: Config, keys: PlatformKeys, clock: () => number): TokenVerifier {
  if (auth.jwksUrl !== undefined) return jwksVerifier(auth.jwksUrl, clock);
  return secretVerifier(auth.jwtSecret ?? keys.jwtSecret, clock);
}

/** Deletes idempotency keys that are no longer kept. */
async function sweep(
  store: IdempotencyStore,
  pause: (ms: number) => Promise<void>,
  stop: AbortSignal,
  log: Log,
): Promise<void> {
  while (!stop.aborted) {
    await pause(SWEEP_INTERVAL_MS);
    try {
      if (!stop.aborted) await store.sweep();
    } catch (error) {
      log.warn('old idempotency keys stay for now', { error });
    }
  }
}

async function main(): Promise<number> {
  const log = createLog((line) => process.stderr.write(line), Date.now, { process: 'server' });
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
  try {
    await run(loadConfig(process.env), log, stop.signal);
    return 0;
  } catch (error) {
    if (error instanceof ConfigError) console.error(error.message);
    else log.error('the server ends', { error });
    return 1;
  }
}

process.exit(await main());

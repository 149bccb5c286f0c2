/** The server: the REST API and, by `ROLES`, the workers. This file is the wiring diagram. */

import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Pinger, startPinger } from '../pinger/pinger.ts';
import { jwksVerifier, secretVerifier, type TokenVerifier } from '../platform/auth/tokens.ts';
import { type Config, ConfigError, loadConfig, requireServices } from '../platform/config.ts';
import { loadKeys, type PlatformKeys, unitKey } from '../platform/credentials/keys.ts';
import { createLog, type Log } from '../platform/log.ts';
import { Nats } from '../platform/nats/connection.ts';
import { NatsEventStore } from '../platform/nats/event-store.ts';
import { ensureStreams } from '../platform/nats/jetstream.ts';
import { unitHeartbeatFilter, unitOfUnitSubject } from '../platform/nats/subjects.ts';
import { Postgres, type Sql } from '../platform/postgres/connection.ts';
import { migrate } from '../platform/postgres/migrations.ts';
import { encodeTelemetry, telemetrySubject } from '../platform/telemetry.ts';
import { PlatformSigner } from '../platform/unit-protocol/signatures.ts';
import { UnitDecider } from '../platform/units/unit-decider.ts';
import { loadSnapshot } from '../projections/bookings/queries.ts';
import { PositionWatch } from '../projections/engine/queries.ts';
import { pingTargets } from '../projections/units/queries.ts';
import { createApp } from './app.ts';
import { ApiKeys } from './auth/api-keys.ts';
import { Customers } from './auth/customers.ts';
import { Guard } from './auth/guard.ts';
import { UnitCommands } from './commands/unit-commands.ts';
import { IdempotencyStore } from './http/idempotency-store.ts';
import { Reads } from './http/reads.ts';
import { Writes } from './http/writes.ts';
import { ingest } from './ingest/ingest.ts';
import { react } from './reactor/reactor.ts';
import { ReservationSync } from './reactor/reservation-sync.ts';
import { TimerWriter } from './reactor/timer-writer.ts';
import { Reservations } from './reservations/handlers.ts';
import { ReservationSecrets } from './reservations/secrets.ts';
import { UnitRegistration } from './units/register.ts';

/** Connections of the API; each serves one query at a time. */
const POSTGRES_CONNECTIONS = 20;
const SWEEP_INTERVAL_MS = 3_600_000;

async function run(config: Config, log: Log, stop: AbortSignal): Promise<void> {
  const { natsUrl, databaseUrl } = requireServices(config);
  const clock = Date.now;
  const newId = () => Bun.randomUUIDv7();
  const pause = (ms: number) => sleep(ms, undefined, { signal: stop }).catch(() => undefined);

  const keys = await loadKeys(config.dataDir);
  const creds = config.nats.credsFile === undefined ? {} : { creds: await readFile(config.nats.credsFile, 'utf8') };
  const nats = await Nats.connect({ url: natsUrl, ...creds, name: 'server', waitOnFirstConnect: true, log });
  await ensureStreams(nats);
  const postgres = new Postgres({
    url: databaseUrl,
    applicationName: 'lockfleet server',
    maxConnections: POSTGRES_CONNECTIONS,
  });
  const { sql } = postgres;
  await migrate(postgres, log);

  const decider = new UnitDecider({
    store: new NatsEventStore(nats, newId),
    loadSnapshot: (unit) => loadSnapshot(sql, unit),
    newId,
    clock,
    random: Math.random,
    sleep: pause,
    log,
  });
  const signer = await PlatformSigner.create(keys.signingKey);
  const secrets = new ReservationSecrets(keys.fleetKey, signer);
  const pinger = config.roles.has('pinger') ? createPinger({ config, keys, nats, sql, decider, log }) : undefined;
  const onAnswer = (unit: string) => pinger?.prove(unit, 'command', clock());
  const commands = new UnitCommands({ nats, signer, clock, onAnswer });

  const shared = { nats, decider, signal: stop, sleep: pause, log };
  const workers: Promise<void>[] = [decider.follow(stop)];
  if (config.roles.has('ingest')) workers.push(ingest(shared));
  if (config.roles.has('reactor')) {
    const timers = new TimerWriter(nats, newId, pause);
    const sync = new ReservationSync({ decider, commands, secrets, newId, clock, log });
    workers.push(react({ ...shared, timers, sync, newId, clock }));
  }

  const idempotency = new IdempotencyStore(sql);
  const apiKeys = new ApiKeys(sql, clock);
  const app = createApp(
    {
      guard: new Guard(tokenVerifier(config, keys, clock), apiKeys),
      apiKeys,
      customers: new Customers(sql, newId),
      writes: new Writes(idempotency, newId),
      reads: new Reads(new PositionWatch(sql, () => performance.now())),
      reservations: new Reservations({ decider, commands, secrets, clock }),
      registration: new UnitRegistration({ decider, keys, natsUrl, holdTtlS: config.holdTtlS, newId, log }),
      sql,
      pingIntervalMs: config.pinger.intervalMs,
      newId,
      randomBytes,
      clock,
    },
    { nats: async () => nats.connected, postgres: async () => (await sql`select 1`).length === 1 },
    log,
  );
  if (config.roles.has('api')) {
    app.listen({ hostname: config.http.host, port: config.http.port });
    workers.push(sweep(idempotency, pause, stop, log));
    log.info('the API listens', { host: config.http.host, port: app.server?.port });
  }
  try {
    // A worker that ends before it is told to has met what no retry mends.
    await Promise.race([aborted(stop), ...workers.map((worker) => worker.then(() => aborted(stop)))]);
  } finally {
    if (config.roles.has('api')) await app.stop();
    await pinger?.stop();
    await Promise.allSettled(stop.aborted ? workers : []);
    await nats.close();
    await postgres.close();
  }
}

interface PingerParts {
  readonly config: Config;
  readonly keys: PlatformKeys;
  readonly nats: Nats;
  readonly sql: Sql;
  readonly decider: UnitDecider;
  readonly log: Log;
}

function createPinger({ config, keys, nats, sql, decider, log }: PingerParts): Pinger {
  const pingerId = Bun.randomUUIDv7();
  const pinger = startPinger({
    targets: { page: (afterName, limit) => pingTargets(sql, { afterName, limit }) },
    unitKey: (name, keyVersion) => unitKey(keys.fleetKey, name, keyVersion),
    decider,
    publishTelemetry: (results) => nats.publish(telemetrySubject(pingerId), encodeTelemetry(pingerId, results)),
    heartbeatsArrive: () => nats.connected,
    newId: () => Bun.randomUUIDv7(),
    clock: { now: Date.now, monotonic: () => performance.now() },
    config: config.pinger,
    log,
  });
  nats.subscribe(unitHeartbeatFilter(), ({ subject }) => {
    const unit = unitOfUnitSubject(subject);
    if (unit !== undefined) pinger.prove(unit, 'heartbeat', Date.now());
  });
  return pinger;
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

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
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

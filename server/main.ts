/**
 * The server: the API, the pinger and the workers, each by its role in `ROLES`. This file is the wiring diagram: it makes every
 * service once, from top to bottom, and then names what the API and the workers take.
 */

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
import { ensureStreams } from '../platform/nats/ensure-streams.ts';
import { NatsEventStore } from '../platform/nats/event-store.ts';
import { TimerWriter } from '../platform/nats/timer-writer.ts';
import { AddressResolver, addressesOf } from '../platform/network/address-resolver.ts';
import { startMetrics } from '../platform/observability/metrics.ts';
import { processLog } from '../platform/observability/process-log.ts';
import { ParkedWorkStore } from '../platform/parked-work/parked-work-store.ts';
import { Postgres } from '../platform/postgres/connection.ts';
import { withLock } from '../platform/postgres/locks.ts';
import { migrate } from '../platform/postgres/migrations.ts';
import { enforceStopDeadline, StoppingParts } from '../platform/process/stop-deadline.ts';
import { untilAborted } from '../platform/process/until-aborted.ts';
import { poll } from '../platform/retry/poll.ts';
import { type RetryPolicy, retryWithBackoff } from '../platform/retry/retry-policy.ts';
import { ClockOffsetCache } from '../platform/unit-log/clock-offset-cache.ts';
import { DeadLetterStore } from '../platform/unit-log/dead-letter-store.ts';
import { UnitBudgets } from '../platform/unit-log/unit-budgets.ts';
import { UnitLogClient } from '../platform/unit-log/unit-log-client.ts';
import { NEW_EPOCHS_BUDGET, UnitLogRecorder } from '../platform/unit-log/unit-log-recorder.ts';
import { PlatformSigner } from '../platform/unit-protocol/signatures.ts';
import { ConfigurationPusher } from '../platform/units/configuration-pusher.ts';
import { UnitCommandClient } from '../platform/units/unit-command-client.ts';
import { UnitDecider } from '../platform/units/unit-decider.ts';
import { snapshotReader } from '../projections/bookings/queries.ts';
import { PositionWaiter } from '../projections/engine/queries/position-waiter.ts';
import { type ReadModels, ServingRuns } from '../projections/engine/queries/serving-runs.ts';
import { PAGE_SETTINGS } from '../projections/event_log/queries/events.ts';
import { unservedReadModels } from '../projections/queries.ts';
import { clockOffsets as readClockOffsets } from '../projections/telemetry/queries.ts';
import { pingTargets } from '../projections/units/queries/followers.ts';
import { api } from './api/app.ts';
import { IdempotencyStore } from './http/idempotency-store.ts';
import { ResponseMetrics } from './http/response-metrics.ts';
import { EVENT_BURST, IngestAdmission } from './workers/ingest/ingest-admission.ts';
import { workers } from './workers/workers.ts';

/** Sessions for everything but pages of the event log. Each runs one query at a time. */
const POOL = { applicationName: 'lockfleet server', maxConnections: 20 };
/** Pages of the event log have sessions of their own and a time limit, so that exports and filters delay no other request. */
const EVENT_LOG_POOL = {
  applicationName: 'lockfleet event log',
  maxConnections: 8,
  statementTimeoutMs: 15_000,
  settings: PAGE_SETTINGS,
};
const IDEMPOTENCY_SWEEP_INTERVAL_MS = 3_600_000;
/** A worker ends when its running work has ended, of which the longest, a fetch of a page of a unit's log, takes 10 s. */
const STOP_DEADLINE_MS = 15_000;

const clock = Date.now;
const monotonic = () => performance.now();
const newId = () => Bun.randomUUIDv7();
const log = processLog(process, clock, { process: 'server' });
const stopping = new AbortController();
const stop = stopping.signal;
const pause = (ms: number) => sleep(ms, undefined, { signal: stop }).catch(() => undefined);
const retryPolicy: RetryPolicy = { signal: stop, sleep: pause, log };
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort());
const parts = new StoppingParts();
enforceStopDeadline({ signal: stop, deadlineMs: STOP_DEADLINE_MS, parts, log, exit: process.exit });

try {
  const config = loadConfig(process.env);
  const { roles, http, holdTtlS, configRetryScheduleS: retryScheduleS } = config;
  const { natsUrl, databaseUrl } = requireServices(config);
  const metricsServer = startMetrics(config, log);

  const keys = await loadKeys(config.dataDir);
  const natsAccess = { url: natsUrl, ...(await readNatsCredentials(config)) };
  const nats = await Nats.connect({ ...natsAccess, name: 'server', waitOnFirstConnect: true, log });
  const postgres = new Postgres({ url: databaseUrl, ...POOL });
  const { sql } = postgres;
  await retryWithBackoff('preparing the streams', retryPolicy, () => ensureStreams(nats, config.nats.replicas));
  await retryWithBackoff('migrating the database', retryPolicy, () => migrate(postgres, log));

  const store = new NatsEventStore(nats, newId, monotonic);
  const servingRuns = new ServingRuns(sql, monotonic);
  const readModels: ReadModels = { sql, servingRuns };
  const loadSnapshot = snapshotReader(readModels);
  const decider = new UnitDecider({ store, loadSnapshot, newId, clock, random: Math.random, sleep: pause, log });

  const signer = await PlatformSigner.create(keys.signingKey);
  const secrets = new ReservationSecrets(keys.fleetKey, signer);
  const exclusively = <T>(change: () => Promise<T>) => withLock(postgres, 'unit revocations', change);
  const revocations = new UnitRevocations({ url: natsUrl, keys, exclusively, clock, log });

  const proofs = new ProofExchange(nats, newId);
  const onAnswer = (unit: string) => proofs.publish({ unit, evidence: 'command', atMs: clock() });
  const clockOffsets = new ClockOffsetCache({ read: () => readClockOffsets(sql), clock, log });
  const unitNowMs = (unit: string) => clockOffsets.unitNowMs(unit);
  const commands = new UnitCommandClient({ nats, signer, unitNowMs, onAnswer });
  const unitLogClient = new UnitLogClient({ nats, signer, unitNowMs });
  const pusher = new ConfigurationPusher({ decider, commands, retryScheduleS, newId, clock });

  const deadLetters = new DeadLetterStore(sql);
  const parkedWork = new ParkedWorkStore(sql);
  metricsServer?.metrics.add(parkedWork.metrics());
  const newEpochs = new UnitBudgets({ ...NEW_EPOCHS_BUDGET, monotonic });
  const recorder = new UnitLogRecorder({ decider, deadLetters, clockOffsets, newEpochs, newId, log });
  const events = new UnitBudgets({ burst: EVENT_BURST, perS: config.limits.unitEventsPerS, monotonic });
  const admission = new IngestAdmission({ events, monotonic });
  if (roles.has('ingest')) metricsServer?.metrics.add(admission.metrics());

  const addresses = new AddressResolver({ denied: config.deniedAddresses, lookup: addressesOf });
  const readTargets = (query: UnitQuery) => pingTargets(readModels, query);
  const pinger = roles.has('pinger')
    ? composePinger({
        config,
        keys,
        natsAccess,
        nats,
        readTargets,
        decider,
        addresses,
        exchange: proofs,
        clock: systemClock,
        newId,
        log,
      })
    : undefined;
  if (pinger !== undefined) metricsServer?.metrics.add(pingerMetrics(() => pinger.status()));

  const running = await workers({
    track: (name, ended) => parts.track(name, ended),
    config,
    nats,
    postgres,
    readModels,
    decider,
    unitLogClient,
    secrets,
    revocations,
    commands,
    pusher,
    recorder,
    events,
    admission,
    clockOffsets,
    timers: new TimerWriter(nats, newId, pause),
    parkedWork,
    newId,
    clock,
    monotonic,
    pause,
    stop,
    log,
  });

  const idempotency = new IdempotencyStore({ sql, newId });
  const answered = new ResponseMetrics();
  const eventLogPostgres = roles.has('api') ? new Postgres({ url: databaseUrl, ...EVENT_LOG_POOL }) : undefined;
  const app =
    eventLogPostgres === undefined
      ? undefined
      : api({
          tokens: createTokenVerifier(config, keys),
          keys,
          secrets,
          postgres,
          readModels,
          eventLog: { sql: eventLogPostgres.sql, servingRuns },
          idempotency,
          positions: new PositionWaiter(readModels, monotonic),
          decider,
          loadSnapshot,
          lastSequence: () => store.lastSequence(),
          commands,
          unitLogClient,
          push: pusher,
          revocations,
          recorder,
          deadLetterStore: deadLetters,
          parkedWork,
          addresses,
          natsUrl,
          holdTtlS,
          checks: {
            nats: async () => (nats.connected ? [] : ['The connection to NATS is down.']),
            postgres: async () => ((await sql`select 1`).length === 1 ? [] : ['Postgres answers no query.']),
            readModels: async () => (await unservedReadModels(readModels)).map(({ reason }) => reason),
          },
          onAnswer: (status) => answered.count(status),
          checkAnswers: http.checkAnswers,
          newId,
          randomBytes,
          clock,
          log,
        });
  if (app !== undefined) {
    metricsServer?.metrics.add(answered);
    app.listen({ hostname: http.host, port: http.port });
    log.info('The API listens.', { host: http.host, port: app.server?.port });
    const sweeping = { name: 'deleting expired idempotency keys', intervalMs: IDEMPOTENCY_SWEEP_INTERVAL_MS };
    const sweep = poll({ ...sweeping, clock, signal: stop, sleep: pause, log }, () => idempotency.sweep());
    running.push(parts.track(sweeping.name, sweep));
  }

  try {
    // A worker rejects only with a terminal error, and then the whole server stops.
    await Promise.race([
      untilAborted(stop),
      nats.untilLost(),
      ...running.map((worker) => worker.then(() => untilAborted(stop))),
    ]);
  } finally {
    stopping.abort();
    if (app !== undefined) await parts.track('the API', app.stop());
    if (pinger !== undefined) await parts.track('the pinger', pinger.stop());
    proofs.close();
    await Promise.allSettled(running);
    await parts.track('the connection to the system account of NATS', revocations.close());
    await parts.track('the connection to NATS', nats.close());
    const pools = Promise.all([postgres.close(), eventLogPostgres?.close()]);
    await parts.track('the connections to Postgres', pools);
    if (metricsServer !== undefined) await parts.track('the metrics', metricsServer.end());
  }
  process.exit(0);
} catch (error) {
  if (error instanceof ConfigError) console.error(error.message);
  else log.error('The server ends with an error that no retry can mend.', { error });
  process.exit(1);
}

async function readNatsCredentials({ nats }: Config): Promise<{ readonly creds?: string }> {
  return nats.credsFile === undefined ? {} : { creds: await readFile(nats.credsFile, 'utf8') };
}

function createTokenVerifier({ auth }: Config, keys: PlatformKeys): TokenVerifier {
  if (auth.jwksUrl !== undefined) return jwksVerifier(auth.jwksUrl, clock);
  return secretVerifier(auth.jwtSecret ?? keys.jwtSecret, clock);
}

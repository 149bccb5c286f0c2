/** The projections process: it fills the read models from events, and records telemetry. This file is the wiring diagram. */

import { readFile } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { CHANGE_HEARTBEAT_INTERVAL_MS, UnitChangePublisher } from '../platform/change-feed/publisher.ts';
import { type Config, ConfigError, loadConfig, requireServices } from '../platform/config/config.ts';
import { STATUS_FILTER } from '../platform/liveness/pinger-status.ts';
import { TELEMETRY_FILTER } from '../platform/liveness/telemetry-message.ts';
import { Nats } from '../platform/nats/connection.ts';
import { ensureStreams } from '../platform/nats/ensure-streams.ts';
import { NatsEventStore } from '../platform/nats/event-store.ts';
import type { Log } from '../platform/observability/log.ts';
import { startMetrics } from '../platform/observability/metrics.ts';
import { processLog } from '../platform/observability/process-log.ts';
import { Postgres } from '../platform/postgres/connection.ts';
import { migrate } from '../platform/postgres/migrations.ts';
import { enforceStopDeadline, StoppingParts } from '../platform/process/stop-deadline.ts';
import { type RetryPolicy, retryWithBackoff } from '../platform/retry/retry-policy.ts';
import { createProjections } from './create-projections.ts';
import { runProjections } from './engine/engine.ts';
import { joinLaneAssignment } from './engine/lanes/lane-assignment.ts';
import { AppliedEvents, projectionMetrics } from './engine/metrics.ts';
import { TelemetryRecorder } from './telemetry/telemetry-recorder.ts';

/** For each projection one, one for a run that is built beside it and one for retries of parked units; some for telemetry and checks. */
const POSTGRES_CONNECTIONS = 20;
/** Postgres connections that have not ended their query by then are cut. */
const CLOSE_GRACE_S = 1;
/** A running batch of a projection takes seconds at most; afterwards, its transaction is rolled back. */
const STOP_DEADLINE_MS = 10_000;
/** The queue group of the processes that record telemetry. */
const TELEMETRY_QUEUE = 'telemetry';
/** A rebuild writes and indexes large tables, and drops them. */
const STATEMENT_TIMEOUT_MS = 600_000;

async function run(config: Config, log: Log, stopping: AbortController, parts: StoppingParts): Promise<void> {
  const stop = stopping.signal;
  const { natsUrl, databaseUrl } = requireServices(config);
  const serving = startMetrics(config, log);
  const pause = (ms: number) => sleep(ms, undefined, { signal: stop }).catch(() => undefined);
  const retryPolicy: RetryPolicy = { signal: stop, sleep: pause, log };
  const creds = config.nats.credsFile === undefined ? {} : { creds: await readFile(config.nats.credsFile, 'utf8') };
  const nats = await Nats.connect({ url: natsUrl, ...creds, name: 'projections', waitOnFirstConnect: true, log });
  await retryWithBackoff('preparing the streams', retryPolicy, () => ensureStreams(nats, config.nats.replicas));
  const postgres = new Postgres({
    url: databaseUrl,
    applicationName: 'lockfleet projections',
    maxConnections: POSTGRES_CONNECTIONS,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
  });
  try {
    await retryWithBackoff('migrating the database', retryPolicy, () => migrate(postgres, log));
    const changes = new UnitChangePublisher(nats, Bun.randomUUIDv7());
    const heartbeats = setInterval(() => changes.heartbeat(), CHANGE_HEARTBEAT_INTERVAL_MS);
    const onReported = (units: readonly string[]) => changes.unitsChanged(units);
    const monotonic = () => performance.now();
    const recorder = new TelemetryRecorder(postgres.sql, { log, clock: Date.now, monotonic, onReported });
    serving?.metrics.add(recorder.metrics());
    const text = new TextDecoder();
    const unsubscribes = [
      // Each message is recorded by one process, so that a summary of pings counts once.
      nats.subscribe(TELEMETRY_FILTER, ({ data }) => recorder.record(text.decode(data)), TELEMETRY_QUEUE),
      nats.subscribe(STATUS_FILTER, ({ data }) => recorder.recordPingerStatus(text.decode(data)), TELEMETRY_QUEUE),
    ];
    const recording = parts.track('recording telemetry', recorder.run(retryPolicy));
    const store = new NatsEventStore(nats, () => Bun.randomUUIDv7(), monotonic);
    const projections = createProjections();
    const applied = new AppliedEvents(projections);
    serving?.metrics.add(projectionMetrics(postgres.sql, () => store.lastSequence(), applied));
    const onCaughtUp = () => console.log('ready');
    const lanes = joinLaneAssignment(projections, {
      config,
      nats,
      stop,
      log,
      memberId: Bun.randomUUIDv7(),
      monotonic,
    });
    const projecting = runProjections({
      postgres,
      store,
      projections,
      lanes: lanes.lanesOf,
      clock: monotonic,
      signal: stop,
      log,
      onCaughtUp,
      onApplied: ({ projection, status }, { events, units }) => {
        applied.add(projection, events, status === 'building');
        if (projection !== 'units' || status !== 'serving') return;
        if (units === 'all') changes.allChanged();
        else changes.unitsChanged(units);
      },
    });
    await Promise.race([parts.track('the projections', projecting), nats.untilLost()]);
    await parts.track('leaving the lanes', lanes.leave());
    for (const unsubscribe of unsubscribes) unsubscribe();
    await recording;
    clearInterval(heartbeats);
  } finally {
    // Also after an error, so that the deadline holds.
    stopping.abort();
    if (serving !== undefined) await parts.track('the metrics', serving.end());
    await parts.track('the connection to NATS', nats.close());
    await parts.track('the connections to Postgres', postgres.close(CLOSE_GRACE_S));
  }
}

async function main(): Promise<number> {
  // Read models may lag; the server, for which customers and units wait, gets the processor first.
  setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
  const log = processLog(process, Date.now, { process: 'projections' });
  const stopping = new AbortController();
  const parts = new StoppingParts();
  let isStopRequested = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      isStopRequested = true;
      stopping.abort();
    });
  }
  enforceStopDeadline({ signal: stopping.signal, deadlineMs: STOP_DEADLINE_MS, parts, log, exit: process.exit });
  try {
    await run(loadConfig(process.env), log, stopping, parts);
    return 0;
  } catch (error) {
    if (error instanceof ConfigError) console.error(error.message);
    else if (!isStopRequested)
      log.error('the projections process ends because of an error that a retry cannot mend', { error });
    return isStopRequested ? 0 : 1;
  }
}

process.exit(await main());

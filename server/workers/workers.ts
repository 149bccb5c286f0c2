/** Starts the workers of a server by its roles, and passes each worker its dependencies. */

import type { UnitQuery } from '../../platform/change-feed/follower.ts';
import { subscribeToUnitChanges } from '../../platform/change-feed/subscription.ts';
import type { Config } from '../../platform/config/config.ts';
import type { ReservationSecrets } from '../../platform/credentials/reservation-secrets.ts';
import type { UnitRevocations } from '../../platform/credentials/revocations.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import type { ParkedWork } from '../../platform/nats/parked-work.ts';
import type { TimerWriter } from '../../platform/nats/timer-writer.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { joinGroup } from '../../platform/shards/group.ts';
import type { Shards } from '../../platform/shards/join.ts';
import type { ClockOffsetCache } from '../../platform/unit-log/clock-offset-cache.ts';
import type { UnitBudgets } from '../../platform/unit-log/unit-budgets.ts';
import type { UnitLogClient } from '../../platform/unit-log/unit-log-client.ts';
import type { UnitLogRecorder } from '../../platform/unit-log/unit-log-recorder.ts';
import type { ConfigurationPusher } from '../../platform/units/configuration-pusher.ts';
import type { UnitCommandClient } from '../../platform/units/unit-command-client.ts';
import type { UnitDecider } from '../../platform/units/unit-decider.ts';
import { dueUnits } from '../../projections/bookings/queries.ts';
import { rolloutCounts, unprovedRolloutUnits } from '../../projections/configuration/queries.ts';
import type { ReadModels } from '../../projections/engine/queries/serving-runs.ts';
import { configurationReports, fetchTargets } from '../../projections/units/queries/followers.ts';
import { REPORT_SHARD_LETTERS, runConfigurationReportWorker } from './configuration/configuration-report-worker.ts';
import { runConfigurationWorker } from './configuration/configuration-worker.ts';
import { FETCH_SHARD_LETTERS, runFetchWorker } from './fetch/fetch-worker.ts';
import type { IngestAdmission } from './ingest/ingest-admission.ts';
import { INGEST_SHARD_LETTERS, runIngestWorker } from './ingest/ingest-worker.ts';
import { NatsUnitInbox } from './ingest/unit-inbox.ts';
import { runCredentialRevocationWorker } from './reactor/credential-revocation-worker.ts';
import { runReactor } from './reactor/reactor.ts';
import { ReservationSync } from './reactor/reservation-sync.ts';
import { runRolloutWorker } from './rollouts/rollout-worker.ts';
import { SETTLEMENT_SHARD_LETTERS, SettlementWorker } from './settlement/settlement-worker.ts';

export interface WorkersDependencies {
  readonly config: Config;
  readonly nats: Nats;
  readonly postgres: Postgres;
  readonly readModels: ReadModels;
  readonly decider: UnitDecider;
  readonly unitLogClient: UnitLogClient;
  readonly secrets: ReservationSecrets;
  readonly revocations: UnitRevocations;
  readonly commands: UnitCommandClient;
  readonly pusher: ConfigurationPusher;
  readonly recorder: UnitLogRecorder;
  /** What units may still have recorded, in events. */
  readonly events: UnitBudgets;
  readonly admission: IngestAdmission;
  readonly clockOffsets: ClockOffsetCache;
  readonly timers: TimerWriter;
  readonly parkedWork: ParkedWork;
  /** Names a worker until it has stopped. */
  readonly track: (name: string, ended: Promise<void>) => Promise<void>;
  readonly newId: () => string;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  /** Resolves after `ms` milliseconds, or at once when `stop` aborts. */
  readonly pause: (ms: number) => Promise<void>;
  readonly stop: AbortSignal;
  readonly log: Log;
}

/**
 * Starts the workers of this process's roles.
 * @returns a promise for each worker: it resolves when the worker has stopped, and rejects with a terminal error
 */
export async function workers(dependencies: WorkersDependencies): Promise<Promise<void>[]> {
  const { config, decider, clockOffsets, track, pause, stop } = dependencies;
  const { roles } = config;
  const running = [
    track('following the store', decider.followStore(stop)),
    track('reading clock offsets', clockOffsets.poll(stop, pause)),
  ];
  // The first batch that ingest records may come from a unit whose clock is wrong.
  await clockOffsets.firstRead;
  const start = (name: string, worker: (dependencies: WorkersDependencies) => Promise<void>) =>
    running.push(track(name, worker(dependencies)));
  if (roles.has('ingest')) start('ingest', startIngest);
  if (roles.has('fetch')) start('fetch', startFetch);
  if (roles.has('config')) {
    start('configuration', startConfiguration);
    start('rollouts', startRollouts);
    start('configuration reports', startReports);
  }
  if (roles.has('reactor')) {
    start('reactor', startReactor);
    start('credential revocation', startCredentialRevocation);
  }
  return running;
}

function startIngest(dependencies: WorkersDependencies): Promise<void> {
  const { config, nats, recorder, parkedWork, admission, newId, clock, monotonic, pause, stop, log } = dependencies;
  const shards = joinGroup({
    group: 'ingest',
    shardLetters: INGEST_SHARD_LETTERS,
    memberId: newId(),
    monotonic,
    config,
    nats,
    stop,
    log,
  });
  const unitInbox = new NatsUnitInbox(nats);
  const ending = { signal: stop, sleep: pause };
  const running = { nats, shards, recorder, unitInbox, parkedWork, admission, clock, ...ending, log };
  return runIngestWorker(running).finally(() => shards.leave());
}

function startFetch(dependencies: WorkersDependencies): Promise<void> {
  const { config, nats, readModels, decider, unitLogClient, recorder, events } = dependencies;
  const { newId, clock, monotonic, pause, stop, log } = dependencies;
  const shards = joinGroup({
    group: 'fetch',
    shardLetters: FETCH_SHARD_LETTERS,
    memberId: newId(),
    monotonic,
    config,
    nats,
    stop,
    log,
  });
  const { changes, owns, leave } = followChanges(nats, shards);
  return runFetchWorker({
    decider,
    recorder,
    events,
    unitLogClient,
    unitInbox: new NatsUnitInbox(nats),
    readTargets: (query) => fetchTargets(readModels, query),
    changes,
    owns,
    intervalMs: config.fetchIntervalMs,
    clock,
    monotonic,
    signal: stop,
    sleep: pause,
    log,
  }).finally(leave);
}

function startConfiguration(dependencies: WorkersDependencies): Promise<void> {
  const { nats, decider, pusher, timers, parkedWork, clock, pause, stop, log } = dependencies;
  return runConfigurationWorker({ nats, decider, pusher, timers, parkedWork, clock, signal: stop, sleep: pause, log });
}

function startRollouts(dependencies: WorkersDependencies): Promise<void> {
  const { postgres, readModels, decider, clock, pause, stop, log } = dependencies;
  const { servingRuns } = readModels;
  return runRolloutWorker({
    postgres,
    decider,
    countUnits: (sql, id) => rolloutCounts({ sql, servingRuns }, id),
    listUnprovedUnits: (sql, id, limit) => unprovedRolloutUnits({ sql, servingRuns }, id, limit),
    clock,
    signal: stop,
    sleep: pause,
    log,
  });
}

function startReports(dependencies: WorkersDependencies): Promise<void> {
  const { config, nats, readModels, decider, newId, monotonic, pause, stop, log } = dependencies;
  const shards = joinGroup({
    group: 'config',
    shardLetters: REPORT_SHARD_LETTERS,
    memberId: newId(),
    monotonic,
    config,
    nats,
    stop,
    log,
  });
  const { changes, owns, leave } = followChanges(nats, shards);
  const readReports = (query: UnitQuery) => configurationReports(readModels, query);
  const ending = { signal: stop, sleep: pause };
  const reconciling = { decider, readReports, changes, owns, newId, monotonic };
  return runConfigurationReportWorker({ ...reconciling, ...ending, log }).finally(leave);
}

function startReactor(dependencies: WorkersDependencies): Promise<void> {
  const { config, nats, readModels, decider, commands, secrets, parkedWork } = dependencies;
  const { newId, clock, monotonic, pause, stop, log } = dependencies;
  const shards = joinGroup({
    group: 'settlement',
    shardLetters: SETTLEMENT_SHARD_LETTERS,
    memberId: newId(),
    monotonic,
    config,
    nats,
    stop,
    log,
  });
  const ending = { signal: stop, sleep: pause };
  const readDue = (page: Parameters<typeof dueUnits>[1]) => dueUnits(readModels, page);
  const owns = (unit: string) => shards.owns(unit);
  const settlement = new SettlementWorker({ decider, readDue, owns, newId, clock, monotonic, ...ending, log });
  const reportedPlace = async (unit: string) => (await fetchTargets(readModels, { names: [unit] }))[0]?.reported;
  const sync = new ReservationSync({ decider, commands, secrets, reportedPlace, newId, clock, log });
  const reacting = runReactor({ nats, decider, settlement, sync, parkedWork, newId, ...ending, log });
  return Promise.all([settlement.run(), reacting]).then(() => shards.leave());
}

function startCredentialRevocation(dependencies: WorkersDependencies): Promise<void> {
  const { nats, decider, revocations, parkedWork, pause, stop, log } = dependencies;
  return runCredentialRevocationWorker({ nats, decider, revocations, parkedWork, signal: stop, sleep: pause, log });
}

/** Subscribes a worker to the change feed. When its shards change, it reads the rows of all units. */
function followChanges(nats: Nats, shards: Shards) {
  const changes = subscribeToUnitChanges(nats);
  const unsubscribe = shards.onChange(() => changes.putBack('all'));
  const leave = async () => {
    unsubscribe();
    changes.close();
    await shards.leave();
  };
  return { changes, owns: (unit: string) => shards.owns(unit), leave };
}

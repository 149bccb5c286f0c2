/** The workers of a server, and what each is given: the part of the wiring that runs beside the API. */

import type { UnitQuery } from '../../platform/change-feed/follower.ts';
import { subscribeToUnitChanges } from '../../platform/change-feed/subscription.ts';
import type { Config } from '../../platform/config/config.ts';
import type { ReservationSecrets } from '../../platform/credentials/reservation-secrets.ts';
import type { UnitRevocations } from '../../platform/credentials/revocations.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import { TimerWriter } from '../../platform/nats/timer-writer.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { Postgres, Sql } from '../../platform/postgres/connection.ts';
import { joinGroup } from '../../platform/shards/group.ts';
import type { Shards } from '../../platform/shards/join.ts';
import type { ClockOffsetCache } from '../../platform/unit-log/clock-offset-cache.ts';
import type { UnitLogRecorder } from '../../platform/unit-log/unit-log-recorder.ts';
import type { PlatformSigner } from '../../platform/unit-protocol/signatures.ts';
import type { ConfigurationPusher } from '../../platform/units/configuration-pusher.ts';
import type { UnitCommandClient } from '../../platform/units/unit-command-client.ts';
import type { UnitDecider } from '../../platform/units/unit-decider.ts';
import { rolloutCounts, unprovedRolloutUnits } from '../../projections/configuration/queries.ts';
import type { ReadModels } from '../../projections/engine/queries/serving-runs.ts';
import { configurationReports, fetchTargets } from '../../projections/units/queries/followers.ts';
import { REPORT_SHARD_LETTERS, runConfigurationReportWorker } from './configuration/configuration-report-worker.ts';
import { runConfigurationWorker } from './configuration/configuration-worker.ts';
import { FETCH_SHARD_LETTERS, runFetchWorker } from './fetch/fetch-worker.ts';
import { UnitLogClient } from './fetch/unit-log-client.ts';
import { INGEST_SHARD_LETTERS, runIngestWorker } from './ingest/ingest-worker.ts';
import { NatsUnitInbox } from './ingest/unit-inbox.ts';
import { runCredentialRevocationWorker } from './reactor/credential-revocation-worker.ts';
import { runReactor } from './reactor/reactor.ts';
import { ReservationSync } from './reactor/reservation-sync.ts';
import { runRolloutWorker } from './rollouts/rollout-worker.ts';

export interface WorkersOptions {
  readonly config: Config;
  readonly nats: Nats;
  readonly postgres: Postgres;
  readonly readModels: ReadModels;
  readonly decider: UnitDecider;
  readonly signer: PlatformSigner;
  readonly commands: UnitCommandClient;
  readonly push: ConfigurationPusher;
  readonly secrets: ReservationSecrets;
  readonly revocations: UnitRevocations;
  readonly recorder: UnitLogRecorder;
  readonly clockOffsets: ClockOffsetCache;
  readonly newId: () => string;
  readonly clock: () => number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  readonly pause: (ms: number) => Promise<void>;
  readonly stop: AbortSignal;
  readonly log: Log;
}

/** What works beside the API, by the roles of this process. Each ends when it is told to stop. */
export async function workers(parts: WorkersOptions): Promise<Promise<void>[]> {
  const {
    config,
    nats,
    postgres,
    readModels,
    decider,
    signer,
    commands,
    push,
    secrets,
    revocations,
    recorder,
    clockOffsets,
  } = parts;
  const { newId, clock, monotonic, pause, stop, log } = parts;
  const shared = { nats, decider, signal: stop, sleep: pause, log };
  const workers = [decider.followStore(stop)];
  const join = (group: string, shardLetters: number) => joinGroup({ group, shardLetters, config, nats, stop, log });

  const unitInbox = new NatsUnitInbox(nats);
  workers.push(clockOffsets.poll(stop, pause));
  // The first batch that ingest records may come from a unit whose clock is wrong.
  await clockOffsets.firstRead;
  if (config.roles.has('ingest')) {
    const shards = join('ingest', INGEST_SHARD_LETTERS);
    workers.push(runIngestWorker({ ...shared, shards, recorder, unitInbox, clock }).finally(() => shards.leave()));
  }
  if (config.roles.has('fetch')) {
    const shards = join('fetch', FETCH_SHARD_LETTERS);
    const unitLogClient = new UnitLogClient({ nats, signer, clock });
    const { changes, owns, leave } = followChanges(nats, shards);
    const readTargets = (query: UnitQuery) => fetchTargets(readModels, query);
    const fetching = {
      ...shared,
      recorder,
      unitLogClient,
      unitInbox,
      readTargets,
      changes,
      owns,
      clock,
      monotonic,
      intervalMs: config.fetchIntervalMs,
    };
    workers.push(runFetchWorker(fetching).finally(leave));
  }
  const timers = new TimerWriter(nats, newId, pause);
  if (config.roles.has('config')) {
    const shards = join('config', REPORT_SHARD_LETTERS);
    const { changes, owns, leave } = followChanges(nats, shards);
    const readReports = (query: UnitQuery) => configurationReports(readModels, query);
    const { servingRuns } = readModels;
    const progress = {
      countUnits: (sql: Sql, id: string) => rolloutCounts({ sql, servingRuns }, id),
      listUnprovedUnits: (sql: Sql, id: string, limit: number) => unprovedRolloutUnits({ sql, servingRuns }, id, limit),
    };
    workers.push(runConfigurationWorker({ ...shared, pusher: push, timers, clock }));
    workers.push(runRolloutWorker({ ...shared, ...progress, postgres, clock }));
    workers.push(
      runConfigurationReportWorker({ ...shared, readReports, changes, owns, newId, monotonic }).finally(leave),
    );
  }
  if (config.roles.has('reactor')) {
    const sync = new ReservationSync({ decider, commands, secrets, newId, clock, log });
    workers.push(
      runReactor({ ...shared, timers, sync, newId, clock }),
      runCredentialRevocationWorker({ ...shared, revocations }),
    );
  }
  return workers;
}

/** The change feed for a worker that owns shards: when they change, the worker reads all units. */
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

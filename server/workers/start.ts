/** The workers of a server, and what each is given: the part of the wiring that runs beside the API. */

import type { Config } from '../../platform/config/config.ts';
import type { ReservationSecrets } from '../../platform/credentials/reservation-secrets.ts';
import type { UnitRevocations } from '../../platform/credentials/revocations.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import { TimerWriter } from '../../platform/nats/timer-writer.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { joinGroup } from '../../platform/shards/group.ts';
import type { BatchRecorder } from '../../platform/unit-log/batch-recorder.ts';
import type { ClockOffsets } from '../../platform/unit-log/clock-offsets.ts';
import type { PlatformSigner } from '../../platform/unit-protocol/signatures.ts';
import type { ConfigurationPush } from '../../platform/units/configuration-push.ts';
import type { UnitCommands } from '../../platform/units/unit-commands.ts';
import type { UnitDecider } from '../../platform/units/unit-decider.ts';
import { rolloutCounts, unprovedRolloutUnits } from '../../projections/configuration/queries.ts';
import { configurationReports, fetchTargets } from '../../projections/units/queries.ts';
import { deliverConfigurations } from './configuration/delivery.ts';
import { hearReports, REPORT_SHARD_LETTERS } from './configuration/reports.ts';
import { FETCH_SHARD_LETTERS, fetchLogs } from './fetch/fetch.ts';
import { UnitLogReader } from './fetch/unit-log-reader.ts';
import { NatsInbox } from './ingest/inbox.ts';
import { INGEST_SHARD_LETTERS, ingest } from './ingest/ingest.ts';
import { endCredentials } from './reactor/ended-credentials.ts';
import { react } from './reactor/reactor.ts';
import { ReservationSync } from './reactor/reservation-sync.ts';
import { runRollouts } from './rollouts/runner.ts';

export interface WorkerParts {
  readonly config: Config;
  readonly nats: Nats;
  readonly postgres: Postgres;
  readonly decider: UnitDecider;
  readonly signer: PlatformSigner;
  readonly commands: UnitCommands;
  readonly push: ConfigurationPush;
  readonly secrets: ReservationSecrets;
  readonly revocations: UnitRevocations;
  readonly recorder: BatchRecorder;
  readonly clockOffsets: ClockOffsets;
  readonly newId: () => string;
  readonly clock: () => number;
  readonly pause: (ms: number) => Promise<void>;
  readonly stop: AbortSignal;
  readonly log: Log;
}

/** What works beside the API, by the roles of this process. Each ends when it is told to stop. */
export async function startWorkers(parts: WorkerParts): Promise<Promise<void>[]> {
  const { config, nats, postgres, decider, signer, commands, push, secrets, revocations, recorder, clockOffsets } =
    parts;
  const { newId, clock, pause, stop, log } = parts;
  const { sql } = postgres;
  const shared = { nats, decider, signal: stop, sleep: pause, log };
  const workers = [decider.follow(stop)];
  const join = (group: string, shardLetters: number) => joinGroup({ group, shardLetters, config, nats, stop, log });

  const inbox = new NatsInbox(nats);
  // Before the first batch: its events may be those of a clock that is wrong.
  await clockOffsets.refresh();
  workers.push(clockOffsets.run(stop, pause));
  if (config.roles.has('ingest')) {
    const shards = join('ingest', INGEST_SHARD_LETTERS);
    workers.push(ingest({ ...shared, shards, recorder, inbox, clock }).finally(() => shards.leave()));
  }
  if (config.roles.has('fetch')) {
    const shards = join('fetch', FETCH_SHARD_LETTERS);
    const reader = new UnitLogReader({ nats, signer, clock });
    const targets = (afterName: string | undefined, limit: number) => fetchTargets(sql, { afterName, limit });
    const owns = (unit: string) => shards.owns(unit);
    const fetching = { ...shared, recorder, reader, inbox, targets, owns, clock, intervalMs: config.fetchIntervalMs };
    workers.push(fetchLogs(fetching).finally(() => shards.leave()));
  }
  const timers = new TimerWriter(nats, newId, pause);
  if (config.roles.has('config')) {
    const shards = join('config', REPORT_SHARD_LETTERS);
    const reports = (afterName: string | undefined, limit: number) => configurationReports(sql, { afterName, limit });
    const owns = (unit: string) => shards.owns(unit);
    const progress = { counts: rolloutCounts, unproved: unprovedRolloutUnits };
    workers.push(deliverConfigurations({ ...shared, push, timers, clock }));
    workers.push(runRollouts({ ...shared, ...progress, postgres, clock }));
    workers.push(hearReports({ ...shared, reports, owns, newId, clock }).finally(() => shards.leave()));
  }
  if (config.roles.has('reactor')) {
    const sync = new ReservationSync({ decider, commands, secrets, newId, clock, log });
    workers.push(react({ ...shared, timers, sync, newId, clock }), endCredentials({ ...shared, revocations }));
  }
  return workers;
}

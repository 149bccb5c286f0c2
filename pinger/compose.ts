/**
 * Connects a pinger to the platform: the shards of this process, the heartbeats of their units, the proofs of other processes, and the
 * status messages of this pinger. The server and the pinger as a process of its own both use it.
 */

import { subscribeToUnitChanges, type UnitChangeSubscription } from '../platform/change-feed/subscription.ts';
import type { Config } from '../platform/config/config.ts';
import { type PlatformKeys, unitKey } from '../platform/credentials/keys.ts';
import { type PingerStatus, statusPeriodMs, statusSubject } from '../platform/liveness/pinger-status.ts';
import type { ProofExchange } from '../platform/liveness/proof-exchange.ts';
import { encodeTelemetry, telemetrySubject } from '../platform/liveness/telemetry-message.ts';
import type { Nats, NatsOptions } from '../platform/nats/connection.ts';
import type { AddressResolver } from '../platform/network/address-resolver.ts';
import type { Log } from '../platform/observability/log.ts';
import { joinGroup } from '../platform/shards/group.ts';
import type { Shards } from '../platform/shards/join.ts';
import type { UnitDecider } from '../platform/units/unit-decider.ts';
import { HeartbeatSubscriptions } from './connectivity/heartbeat-subscriptions.ts';
import { ProofQueryBatcher } from './connectivity/proof-query-batcher.ts';
import { type Pinger, startPinger } from './pinger.ts';
import type { PingerClock } from './runtime/clock.ts';
import { type PingTargetSource, SHARD_LETTERS } from './units/target-list.ts';

/** The name of the group of processes that divide the shards between them. */
const GROUP = 'pinger';

export interface PingerDependencies {
  readonly config: Config;
  readonly keys: PlatformKeys;
  readonly natsAccess: Pick<NatsOptions, 'url' | 'creds'>;
  readonly nats: Nats;
  readonly readTargets: PingTargetSource['read'];
  readonly decider: UnitDecider;
  readonly addresses: AddressResolver;
  readonly exchange: ProofExchange;
  readonly clock: PingerClock;
  readonly newId: () => string;
  readonly log: Log;
}

/** Starts a pinger, which joins the group of pingers and then monitors the shards that the group assigns to it. */
export function composePinger(dependencies: PingerDependencies): Pick<Pinger, 'status' | 'stop'> {
  const { config, nats, exchange, clock, newId, log } = dependencies;
  const pingerId = newId();
  const leaving = new AbortController();
  const group = {
    group: GROUP,
    shardLetters: SHARD_LETTERS,
    memberId: pingerId,
    monotonic: clock.monotonic,
    stop: leaving.signal,
  };
  const shards = joinGroup({ ...group, config, nats, log });
  const changes = subscribeToUnitChanges(nats);
  const pinger = createPinger(dependencies, { pingerId, shards, changes });
  const heartbeats = new HeartbeatSubscriptions(nats, (unit, content) =>
    pinger.recordHeartbeat(unit, content, clock.now()),
  );
  const publishStatus = () => {
    // Without a connection the missing status tells the platform that the shards are not monitored.
    if (!nats.connected) return;
    const status = createStatus({ pingerId, at: clock.now(), config, shards, pinger });
    nats.publish(statusSubject(pingerId), JSON.stringify(status));
  };
  const unsubscribes = [
    shards.onChange((owned) => {
      heartbeats.setShards(owned);
      pinger.reshard();
      publishStatus();
    }),
    exchange.subscribe(({ unit, evidence, atMs }) => {
      if (shards.owns(unit)) pinger.recordProof(unit, evidence, atMs);
    }),
    exchange.respond((unit) => pinger.lastProof(unit)),
  ];
  const statusTimer = setInterval(publishStatus, statusPeriodMs(config.pinger.intervalMs));
  return {
    status: () => pinger.status(),
    async stop() {
      clearInterval(statusTimer);
      for (const unsubscribe of unsubscribes) unsubscribe();
      changes.close();
      heartbeats.setShards([]);
      leaving.abort();
      await shards.leave();
      await pinger.stop();
    },
  };
}

interface PingerConnections {
  readonly pingerId: string;
  readonly shards: Shards;
  readonly changes: UnitChangeSubscription;
}

function createPinger(dependencies: PingerDependencies, { pingerId, shards, changes }: PingerConnections): Pinger {
  const { config, keys, natsAccess, nats, readTargets, decider, addresses, exchange, clock, newId, log } = dependencies;
  const proofQueries = new ProofQueryBatcher((units) => exchange.query(units));
  return startPinger({
    targets: { read: readTargets, changes },
    owns: (shard) => shards.ownsShard(shard),
    unitKey: (name, keyVersion) => unitKey(keys.fleetKey, name, keyVersion),
    resolve: (address) => addresses.resolve(address),
    decider,
    publishTelemetry: (results) => nats.publish(telemetrySubject(pingerId), encodeTelemetry(pingerId, results)),
    canReceiveHeartbeats: () => nats.connected,
    // The only member of the group queries no other process and does not wait for answers.
    lastProofElsewhereMs: async (unit) => (shards.members().length > 1 ? await proofQueries.query(unit) : undefined),
    nats: natsAccess,
    newId,
    clock,
    random: Math.random,
    config: config.pinger,
    log,
  });
}

interface StatusSources {
  readonly pingerId: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly config: Config;
  readonly shards: Shards;
  readonly pinger: Pinger;
}

function createStatus({ pingerId, at, config, shards, pinger }: StatusSources): PingerStatus {
  const { intervalMs, timeoutMs, failuresToOffline } = config.pinger;
  const { outages, ...figures } = pinger.status();
  const owned = shards.owned();
  return {
    pingerId,
    at,
    periodMs: statusPeriodMs(intervalMs),
    shards: [...owned],
    intervalMs,
    timeoutMs,
    failuresToOffline,
    ...figures,
    outages: outages.flatMap(({ letter, since, share }) =>
      owned.filter((shard) => shard.startsWith(letter)).map((shard) => ({ shard, since, share })),
    ),
  };
}

/**
 * A pinger with all that it needs of the platform: its shards, the heartbeats of their units, what other processes know, and
 * what it says about itself. The same in `server` as in a process of its own.
 */

import { subscribeToUnitChanges, type UnitChangeSubscription } from '../platform/change-feed/subscription.ts';
import type { Config } from '../platform/config/config.ts';
import { type PlatformKeys, unitKey } from '../platform/credentials/keys.ts';
import { type PingerStatus, statusPeriodMs, statusSubject } from '../platform/liveness/pinger-status.ts';
import type { ProofExchange } from '../platform/liveness/proof-exchange.ts';
import { encodeTelemetry, telemetrySubject } from '../platform/liveness/telemetry.ts';
import type { Nats, NatsOptions } from '../platform/nats/connection.ts';
import { unitHeartbeatFilter, unitOfUnitSubject } from '../platform/nats/subjects.ts';
import type { AddressResolver } from '../platform/network/address-resolver.ts';
import type { Log } from '../platform/observability/log.ts';
import { joinGroup } from '../platform/shards/group.ts';
import type { Shards } from '../platform/shards/join.ts';
import type { UnitDecider } from '../platform/units/unit-decider.ts';
import { ProofQueryBatcher } from './connectivity/proof-query-batcher.ts';
import { type Pinger, startPinger } from './pinger.ts';
import { systemClock } from './time/clock.ts';
import { type PingTargetSource, SHARD_LETTERS } from './units/target-list.ts';

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
  readonly log: Log;
}

/** A pinger that runs. It owns nothing at first. */
export function composePinger(parts: PingerDependencies): Pick<Pinger, 'status' | 'stop'> {
  const { config, nats, exchange, log } = parts;
  const pingerId = Bun.randomUUIDv7();
  const leaving = new AbortController();
  const group = { group: GROUP, shardLetters: SHARD_LETTERS, memberId: pingerId, stop: leaving.signal };
  const shards = joinGroup({ ...group, config, nats, log });
  const changes = subscribeToUnitChanges(nats);
  const pinger = createPinger(parts, { pingerId, shards, changes });
  const heartbeats = new HeartbeatSubscriptions(nats, (unit, content) =>
    pinger.recordHeartbeat(unit, content, Date.now()),
  );
  const say = () => sayStatus(nats, statusOf(pingerId, config, shards, pinger));
  const reshard = (owned: readonly string[]) => {
    heartbeats.listen(owned);
    pinger.reshard();
    say();
  };
  const ends = [
    shards.onChange(reshard),
    exchange.subscribe(({ unit, evidence, atMs }) => shards.owns(unit) && pinger.recordProof(unit, evidence, atMs)),
    exchange.respond((unit) => pinger.lastProof(unit)),
  ];
  const timer = setInterval(say, statusPeriodMs(config.pinger.intervalMs));
  return {
    status: () => pinger.status(),
    async stop() {
      clearInterval(timer);
      for (const end of ends) end();
      changes.close();
      heartbeats.listen([]);
      leaving.abort();
      await shards.leave();
      await pinger.stop();
    },
  };
}

interface PingerLinks {
  readonly pingerId: string;
  readonly shards: Shards;
  readonly changes: UnitChangeSubscription;
}

function createPinger(parts: PingerDependencies, { pingerId, shards, changes }: PingerLinks): Pinger {
  const { config, keys, natsAccess, nats, readTargets, decider, addresses, exchange, log } = parts;
  const questions = new ProofQueryBatcher((units) => exchange.query(units));
  return startPinger({
    targets: { read: readTargets, changes },
    owns: (shard) => shards.ownsShard(shard),
    unitKey: (name, keyVersion) => unitKey(keys.fleetKey, name, keyVersion),
    resolve: (address) => addresses.resolve(address),
    decider,
    publishTelemetry: (results) => nats.publish(telemetrySubject(pingerId), encodeTelemetry(pingerId, results)),
    canReceiveHeartbeats: () => nats.connected,
    // Alone there is nobody to ask.
    lastProofElsewhereMs: async (unit) => (shards.members().length > 1 ? await questions.ask(unit) : undefined),
    nats: natsAccess,
    newId: () => Bun.randomUUIDv7(),
    clock: systemClock,
    config: config.pinger,
    log,
  });
}

function statusOf(pingerId: string, config: Config, shards: Shards, pinger: Pinger): PingerStatus {
  const { intervalMs, timeoutMs, failuresToOffline } = config.pinger;
  const { outages, ...figures } = pinger.status();
  const owned = shards.owned();
  return {
    pingerId,
    at: Date.now(),
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

function sayStatus(nats: Nats, status: PingerStatus): void {
  // While NATS is away, that nothing comes says enough.
  if (nats.connected) nats.publish(statusSubject(status.pingerId), JSON.stringify(status));
}

/** Hears the heartbeats of the units of some shards. */
class HeartbeatSubscriptions {
  readonly #nats: Nats;
  readonly #take: (unit: string, content: Uint8Array) => void;
  readonly #ends = new Map<string, () => void>();

  constructor(nats: Nats, take: (unit: string, content: Uint8Array) => void) {
    this.#nats = nats;
    this.#take = take;
  }

  /** Hears those of these shards, and no others. */
  listen(shards: readonly string[]): void {
    for (const [shard, end] of this.#ends) {
      if (shards.includes(shard)) continue;
      end();
      this.#ends.delete(shard);
    }
    for (const shard of shards) {
      if (!this.#ends.has(shard)) this.#ends.set(shard, this.#subscribe(shard));
    }
  }

  #subscribe(shard: string): () => void {
    return this.#nats.subscribe(unitHeartbeatFilter(shard), ({ subject, data }) => {
      const unit = unitOfUnitSubject(subject);
      if (unit !== undefined) this.#take(unit, data);
    });
  }
}

/**
 * The pinger finds out which units are online and how fast they answer. It runs in the server or as a process of its own.
 *
 * The main thread schedules pings (`schedule/`), decides about transitions (`connectivity/`) and publishes telemetry; the threads of
 * the pool (`pool/`) send pings and receive answers (`probes/`). A unit whose address leads nowhere is not pinged: the pinger
 * relies on its heartbeats.
 */

import { unitHash } from '../domain/shard.ts';
import { chunksOf } from '../platform/batching/chunks-of.ts';
import type { Config } from '../platform/config/config.ts';
import { MAX_TELEMETRY_RESULTS, type TelemetryResult } from '../platform/liveness/telemetry-message.ts';
import type { NatsOptions } from '../platform/nats/connection.ts';
import type { AddressResolver } from '../platform/network/address-resolver.ts';
import { FailureLog } from '../platform/observability/failure-log.ts';
import type { Log } from '../platform/observability/log.ts';
import type { UnitDecider } from '../platform/units/unit-decider.ts';
import { ConnectivityTracker } from './connectivity/connectivity-tracker.ts';
import type { Evidence } from './connectivity/unit-liveness.ts';
import { PingPool } from './pool/ping-pool.ts';
import { PING_OUTCOME } from './pool/slot-results.ts';
import type { PingerClock } from './runtime/clock.ts';
import { JoinQueue } from './schedule/join-queue.ts';
import { PingSchedule, slotWidthMs } from './schedule/ping-schedule.ts';
import { PING_REASON, PingScheduler, type SlotOutcome } from './schedule/ping-scheduler.ts';
import { HeartbeatTelemetry } from './telemetry/heartbeat-telemetry.ts';
import { PingCounters } from './telemetry/ping-counters.ts';
import { PingSummaries } from './telemetry/ping-summaries.ts';
import type { PingerFigures } from './telemetry/pinger-figures.ts';
import { EndpointResolver, type PingEndpoint } from './units/endpoint-resolver.ts';
import { type PingTarget, type PingTargetSource, TargetList } from './units/target-list.ts';
import { TargetPoller } from './units/target-poller.ts';
import { UnitIndex } from './units/unit-index.ts';
import { PROBE_NUMBERS, UnitTable } from './units/unit-table.ts';

/** How often the pinger checks silent units and sends join pings. */
const TICK_MS = 100;

export interface PingerOptions {
  readonly targets: PingTargetSource;
  /** The key of a unit's pings. */
  readonly unitKey: (name: string, keyVersion: number) => Uint8Array;
  /** Whether this process owns a two-letter shard. */
  readonly owns: (shard: string) => boolean;
  readonly resolve: AddressResolver['resolve'];
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** Publishes at most `MAX_TELEMETRY_RESULTS` results. The results are lost when it throws. */
  readonly publishTelemetry: (results: readonly TelemetryResult[]) => void;
  /** Whether this process can receive heartbeats now. Silence counts only while it can. */
  readonly canReceiveHeartbeats: () => boolean;
  /** The last proof of a unit in other processes, milliseconds since 1970. @default no other process is asked */
  readonly lastProofElsewhereMs?: (unit: string) => Promise<number | undefined>;
  /** The NATS server of the NATS probe. @default pings of that probe are discarded */
  readonly nats?: Pick<NatsOptions, 'url' | 'creds'>;
  readonly newId: () => string;
  readonly clock: PingerClock;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly config: Config['pinger'];
  readonly log: Log;
}

export interface Pinger {
  /** Records a proof that a unit is alive. `atMs`: milliseconds since 1970. */
  recordProof(unit: string, evidence: Evidence, atMs: number): void;
  /** Records a heartbeat that arrived on the subject of `unit`. `atMs`: milliseconds since 1970. */
  recordHeartbeat(unit: string, content: Uint8Array, atMs: number): void;
  /** The last proof of a unit that this process monitors. */
  lastProof(unit: string): { readonly evidence: Evidence; readonly atMs: number } | undefined;
  /** Adapts to a change of the shards that this process owns. */
  reshard(): void;
  status(): PingerFigures;
  stop(): Promise<void>;
}

export function startPinger(options: PingerOptions): Pinger {
  const pinger = new RunningPinger(options);
  pinger.start();
  return pinger;
}

class RunningPinger implements Pinger {
  readonly #options: PingerOptions;
  readonly #unitIndex: UnitIndex;
  readonly #targetList: TargetList;
  readonly #targetPoller: TargetPoller;
  readonly #endpoints: EndpointResolver;
  readonly #tracker: ConnectivityTracker;
  readonly #pool: PingPool;
  readonly #scheduler: PingScheduler;
  readonly #joinQueue = new JoinQueue();
  readonly #counters: PingCounters;
  readonly #summaries: PingSummaries;
  readonly #heartbeats: HeartbeatTelemetry;
  readonly #publishFailures: FailureLog;
  /** Monitored units that are not pinged, since they have no usable address. */
  readonly #unpinged = new Set<string>();
  /** Monitored units whose address no name server has resolved yet. */
  readonly #unresolved = new Set<string>();
  #heartbeatListeningMs = 0;
  #lastTickMs: number;
  #cancelTick: (() => void) | undefined;
  #stopped = false;

  constructor(options: PingerOptions) {
    const { targets, owns, lastProofElsewhereMs, decider, newId, clock, random, config, nats, log } = options;
    const { intervalMs, timeoutMs, threads, httpKeepAlive, failuresToOffline } = config;
    const { monotonic } = clock;
    this.#options = options;
    this.#lastTickMs = monotonic();
    const table = UnitTable.create();
    const { capacity } = table;
    const unitIndex = new UnitIndex(capacity);
    const counters = new PingCounters(monotonic);
    this.#unitIndex = unitIndex;
    this.#counters = counters;

    const onChanged = (target: PingTarget, isFullRead: boolean) => this.#onTargetChanged(target, isFullRead);
    const onRemoved = (unit: string) => this.#onTargetRemoved(unit);
    this.#targetList = new TargetList({ targets, owns, monotonic, onChanged, onRemoved });
    this.#targetPoller = new TargetPoller({ list: this.#targetList, clock, log });
    const onResolved = (index: number, target: PingTarget, endpoint: PingEndpoint | undefined) =>
      this.#onResolved(index, target, endpoint);
    this.#endpoints = new EndpointResolver({
      capacity,
      resolve: options.resolve,
      onResolved,
      onUnavailable: (index, target) => this.#onUnavailable(index, target),
      after: clock.after,
      random,
      log,
    });

    const schedule = new PingSchedule(intervalMs, slotWidthMs(timeoutMs));
    const settings = { table: table.shared, timeoutMs, httpKeepAlive, ...(nats === undefined ? {} : { nats }) };
    const worker = new URL('./pool/worker.ts', import.meta.url);
    const pool = new PingPool({ worker, threads, taskMs: schedule.widthMs + timeoutMs, settings, log });
    const onResults = (outcome: SlotOutcome) => this.#onResults(outcome);
    this.#pool = pool;
    this.#scheduler = new PingScheduler({
      schedule,
      table,
      unitIndex,
      pool,
      threads,
      timeoutMs,
      clock,
      counters,
      onResults,
      log,
    });

    this.#summaries = new PingSummaries({
      capacity,
      intervalMs,
      monotonic,
      units: () => this.#scheduler.size,
      isFlapping: (index) => this.#tracker.isFlapping(index),
    });
    this.#heartbeats = new HeartbeatTelemetry({
      capacity,
      publish: (results) => this.#publish(results),
      onUnreadable: () => counters.increment('unreadableHeartbeats'),
      monotonic,
      log,
    });
    this.#publishFailures = new FailureLog({
      operation: 'publishing telemetry',
      consequence: 'Response times and reports of units are lost until it works again. Connectivity is not affected.',
      log,
    });
    this.#tracker = new ConnectivityTracker({
      unitIndex,
      decider,
      failuresToOffline,
      newId,
      clock,
      heartbeatListeningMs: () => this.#heartbeatListeningMs,
      ...(lastProofElsewhereMs === undefined ? {} : { lastProofElsewhereMs }),
      log,
    });
  }

  start(): void {
    this.#targetPoller.start();
    this.#scheduler.start();
    this.#tick();
  }

  recordProof(unit: string, evidence: Evidence, atMs: number): void {
    const index = this.#unitIndex.indexOf(unit) ?? this.#addUnlisted(unit);
    if (index !== undefined) this.#tracker.recordProof(index, evidence, atMs);
  }

  recordHeartbeat(unit: string, content: Uint8Array, atMs: number): void {
    this.#counters.increment('heartbeats');
    this.recordProof(unit, 'heartbeat', atMs);
    this.#heartbeats.record(unit, this.#unitIndex.indexOf(unit), content, atMs);
  }

  lastProof(unit: string): { readonly evidence: Evidence; readonly atMs: number } | undefined {
    const index = this.#unitIndex.indexOf(unit);
    return index === undefined ? undefined : this.#tracker.lastProof(index);
  }

  reshard(): void {
    this.#targetList.reshard();
    this.#targetPoller.refreshNow();
  }

  status(): PingerFigures {
    return {
      units: this.#targetList.size,
      notPinged: this.#unpinged.size + this.#unresolved.size,
      states: this.#tracker.states(),
      flapping: this.#tracker.flapping,
      outages: this.#tracker.outages(),
      scheduleLagMs: this.#counters.lagMs(),
      rates: this.#counters.rates(),
      totals: this.#counters.totals,
      threads: this.#pool.startedThreads,
      replacedThreads: this.#pool.replacedThreads,
    };
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTick?.();
    this.#heartbeats.stop();
    await Promise.all([this.#pool.stop(), this.#scheduler.stop(), this.#targetPoller.stop()]);
    await this.#endpoints.stop();
    await this.#tracker.stop();
  }

  /** Advances the clock of silence, checks units that are not pinged, and sends join pings. */
  #tick(): void {
    if (this.#stopped) return;
    const { clock, canReceiveHeartbeats } = this.#options;
    const nowMs = clock.monotonic();
    // While this process was stalled or suspended, heartbeats could not arrive: at most two ticks count.
    if (canReceiveHeartbeats()) this.#heartbeatListeningMs += Math.min(nowMs - this.#lastTickMs, 2 * TICK_MS);
    this.#lastTickMs = nowMs;
    for (const unit of this.#unpinged) {
      const index = this.#unitIndex.indexOf(unit);
      if (index !== undefined) this.#tracker.checkSilence(index);
    }
    for (const unit of this.#unresolved) {
      const index = this.#unitIndex.indexOf(unit);
      // The silence of a unit that has sent no heartbeat says nothing while it is not pinged.
      if (index !== undefined && this.#tracker.lastProof(index)?.evidence === 'heartbeat')
        this.#tracker.checkSilence(index);
    }
    for (const unit of this.#joinQueue.takeDue(Math.floor(nowMs / TICK_MS))) {
      const index = this.#unitIndex.indexOf(unit);
      if (index !== undefined && this.#scheduler.has(index)) this.#scheduler.requestPing(index);
    }
    this.#cancelTick = clock.after(TICK_MS, () => this.#tick());
  }

  #onResults({ units, reasons, results }: SlotOutcome): void {
    for (let row = 0; row < units.length; row += 1) {
      const index = units[row] ?? 0;
      const unit = this.#unitIndex.nameOf(index);
      const outcome = results.outcomes[row];
      if (unit === undefined || outcome === PING_OUTCOME.discarded) continue;
      const sentAtMs = Math.round(results.sentAtMs[row] ?? 0);
      if (outcome === PING_OUTCOME.answered) {
        this.#joinQueue.remove(unit);
        this.#tracker.recordProof(index, 'ping', sentAtMs);
        this.#summaries.recordAnswer(index, unit, results, row);
      } else {
        if (reasons[row] === PING_REASON.scheduled) this.#onScheduledPingMissed(index, sentAtMs);
        this.#summaries.recordLoss(index, unit, sentAtMs);
      }
    }
    this.#publish(this.#summaries.takeDue());
  }

  #onScheduledPingMissed(index: number, sentAtMs: number): void {
    this.#tracker.recordMiss(index, sentAtMs);
    if (this.#tracker.ignoresMisses(index)) this.#tracker.checkSilence(index);
  }

  /** Monitors a unit that proves itself alive before the target list contains it. */
  #addUnlisted(unit: string): number | undefined {
    const index = this.#unitIndex.addUnlisted(unit);
    if (index !== undefined) this.#tracker.add(index, unitHash(unit));
    return index;
  }

  #publish(results: readonly TelemetryResult[]): void {
    try {
      for (const chunk of chunksOf(results, MAX_TELEMETRY_RESULTS)) this.#options.publishTelemetry(chunk);
      this.#publishFailures.recordSuccess();
    } catch (error) {
      this.#publishFailures.recordFailure(error);
    }
  }

  #onTargetChanged(target: PingTarget, isFullRead: boolean): void {
    const { name, hash, recorded, connectivity } = target;
    const index = this.#unitIndex.add(name);
    if (index === undefined) {
      this.#unpinged.add(name);
      return;
    }
    this.#tracker.add(index, hash, connectivity);
    if (connectivity !== undefined) this.#tracker.compareWithReadModel(index, connectivity);
    if (this.#scheduler.has(index)) this.#scheduler.writeRecorded(index, recorded);
    this.#endpoints.update(index, target, isFullRead);
  }

  /** Pings a unit at its endpoint from now on, or stops pinging it when it has none. */
  #onResolved(index: number, target: PingTarget, endpoint: PingEndpoint | undefined): void {
    const { name, hash, probe, keyVersion, recorded } = target;
    this.#unresolved.delete(name);
    if (endpoint === undefined) {
      this.#scheduler.remove(index);
      this.#unpinged.add(name);
      return;
    }
    const isNew = !this.#scheduler.has(index);
    const key = this.#options.unitKey(name, keyVersion);
    this.#scheduler.upsert(index, { name, hash, ...endpoint, probe: PROBE_NUMBERS[probe], key, recorded });
    this.#unpinged.delete(name);
    if (!isNew) return;
    this.#summaries.reset(index);
    // Also for a unit that a heartbeat has proved online: its response time is known before its phase.
    this.#joinQueue.add(name);
  }

  /** A unit that was pinged keeps its last address. One that never was has an unknown state, which is not offline. */
  #onUnavailable(index: number, { name }: PingTarget): void {
    if (this.#scheduler.has(index) || this.#unpinged.has(name)) return;
    this.#unresolved.add(name);
    this.#tracker.withdrawStatus(index);
  }

  #onTargetRemoved(unit: string): void {
    const index = this.#unitIndex.indexOf(unit);
    if (index !== undefined) {
      this.#scheduler.remove(index);
      this.#tracker.remove(index);
      this.#endpoints.reset(index);
      this.#heartbeats.reset(index);
      this.#unitIndex.remove(unit);
    }
    this.#unpinged.delete(unit);
    this.#unresolved.delete(unit);
    this.#joinQueue.remove(unit);
  }
}

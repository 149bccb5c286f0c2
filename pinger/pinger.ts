/**
 * The pinger: who is online, and how fast. The same in `server` as in a process of its own.
 *
 * This thread only schedules (`rounds.ts`), decides (`connectivity.ts`) and publishes; the threads of the pool ping
 * (`pool.ts`, `worker.ts`). What comes back is evidence and telemetry. A unit whose address is none is not pinged: it lives
 * from its heartbeats (`heartbeats.ts`).
 */

import { isIP } from 'node:net';
import { parseAddress } from '../domain/address.ts';
import { unitHash } from '../domain/shard.ts';
import { chunksOf } from '../platform/batching/chunks-of.ts';
import type { Config } from '../platform/config/config.ts';
import { MAX_TELEMETRY_RESULTS, type TelemetryResult } from '../platform/liveness/telemetry.ts';
import type { NatsOptions } from '../platform/nats/connection.ts';
import type { AddressResolver } from '../platform/network/address-resolver.ts';
import { FailureLog } from '../platform/observability/failure-log.ts';
import type { Log } from '../platform/observability/log.ts';
import type { UnitDecider } from '../platform/units/unit-decider.ts';
import { ConnectivityTracker } from './connectivity/connectivity-tracker.ts';
import type { Evidence } from './connectivity/unit-liveness.ts';
import { PingPool } from './pool/ping-pool.ts';
import { PING_OUTCOME } from './pool/slot-results.ts';
import { JoinQueue } from './schedule/join-queue.ts';
import { PingSchedule, slotWidthMs } from './schedule/ping-schedule.ts';
import { PING_REASON, PingScheduler, type SlotOutcome } from './schedule/ping-scheduler.ts';
import { HeartbeatTelemetry } from './telemetry/heartbeat-telemetry.ts';
import { PingCounters } from './telemetry/ping-counters.ts';
import { PingSummaries } from './telemetry/ping-summaries.ts';
import type { PingerFigures } from './telemetry/pinger-figures.ts';
import type { PingerClock } from './time/clock.ts';
import { type PingTarget, type PingTargetSource, TargetList } from './units/target-list.ts';
import { UnitIndex } from './units/unit-index.ts';
import { PROBE_NUMBERS, UnitTable } from './units/unit-table.ts';

/** Pause between two readings of the targets: how old a recorded place in a ping may be, and how late a new unit joins. */
export const TARGETS_REFRESH_MS = 2_000;
/** A reading that takes long makes the pause longer, so that at most one part in so many of the time is spent reading. */
const REFRESH_DUTY = 10;
/** How often silence, and who should be asked out of turn, are looked at. */
const LOOK_INTERVAL_MS = 100;

export interface PingerOptions {
  readonly targets: PingTargetSource;
  /** The key of a unit's pings. */
  readonly unitKey: (name: string, keyVersion: number) => Uint8Array;
  /** Whether this process watches the units of a two-letter shard. */
  readonly owns: (shard: string) => boolean;
  /** Where an address leads. */
  readonly resolve: AddressResolver['resolve'];
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** Takes `MAX_TELEMETRY_RESULTS` at most. May throw: then they are lost. */
  readonly publishTelemetry: (results: readonly TelemetryResult[]) => void;
  /** Whether heartbeats can be heard now. Silence counts only while they can. */
  readonly canReceiveHeartbeats: () => boolean;
  /** The last proof that other processes know of a unit, milliseconds since 1970. */
  readonly lastProofElsewhereMs?: (unit: string) => Promise<number | undefined>;
  /** Where units of the probe `nats` are asked; without it they are not. */
  readonly nats?: Pick<NatsOptions, 'url' | 'creds'>;
  readonly newId: () => string;
  readonly clock: PingerClock;
  readonly config: Config['pinger'];
  readonly log: Log;
}

export interface Pinger {
  /** A unit has proved elsewhere that it is there. `atMs`: milliseconds since 1970. */
  recordProof(unit: string, evidence: Evidence, atMs: number): void;
  /** A heartbeat has arrived on the subject of `unit`. `atMs`: milliseconds since 1970. */
  recordHeartbeat(unit: string, content: Uint8Array, atMs: number): void;
  /** The last proof of a unit that is known here. */
  lastProof(unit: string): { readonly evidence: Evidence; readonly atMs: number } | undefined;
  /** This process owns other shards than before. */
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
  readonly #units: TargetList;
  readonly #roster: UnitIndex;
  readonly #summaries: PingSummaries;
  readonly #tracker: ConnectivityTracker;
  readonly #pool: PingPool;
  readonly #rounds: PingScheduler;
  readonly #joining: JoinQueue;
  readonly #meter: PingCounters;
  readonly #heartbeats: HeartbeatTelemetry;
  readonly #reading: FailureLog;
  readonly #publishing: FailureLog;
  readonly #stop = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  /** Units that nobody pings. */
  readonly #unpinged = new Set<string>();
  /** How each unit is pinged, as `mannerOf` says; 0 of one that is new. */
  readonly #manners: Float64Array;
  #attendedMs = 0;
  #lookedMs: number;
  #lookTimer: ReturnType<typeof setTimeout> | undefined;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;
  #isRefreshing = false;
  #isRefreshWanted = false;

  constructor(options: PingerOptions) {
    const {
      targets,
      owns,
      lastProofElsewhereMs: provenElsewhereMs,
      decider,
      newId,
      clock,
      config,
      nats,
      log,
    } = options;
    const { intervalMs, timeoutMs, threads, httpKeepAlive } = config;
    this.#options = options;
    this.#units = new TargetList({
      targets,
      owns,
      monotonic: clock.monotonic,
      onChanged: (target, isFullRead) => this.#put(target, isFullRead),
      onRemoved: (unit) => this.#forget(unit),
    });
    const schedule = new PingSchedule(intervalMs, slotWidthMs(timeoutMs));
    const table = UnitTable.create();
    const roster = new UnitIndex(table.capacity);
    this.#roster = roster;
    this.#manners = new Float64Array(table.capacity);
    const settings = { table: table.shared, timeoutMs, httpKeepAlive, ...(nats === undefined ? {} : { nats }) };
    const worker = new URL('./pool/worker.ts', import.meta.url);
    const pool = new PingPool({ worker, threads, taskMs: schedule.widthMs + timeoutMs, settings, log });
    const meter = new PingCounters(clock.monotonic);
    this.#pool = pool;
    this.#meter = meter;
    const onResults = (results: SlotOutcome) => this.#take(results);
    this.#rounds = new PingScheduler({
      schedule,
      table,
      unitIndex: roster,
      pool,
      threads,
      timeoutMs,
      clock,
      counters: meter,
      onResults,
      log,
    });
    this.#summaries = new PingSummaries({
      capacity: table.capacity,
      intervalMs,
      monotonic: clock.monotonic,
      units: () => this.#rounds.size,
      isFlapping: (unit) => this.#tracker.isFlapping(unit),
    });
    this.#joining = new JoinQueue();
    this.#heartbeats = new HeartbeatTelemetry({
      publish: (results) => this.#publish(results),
      onUnreadable: () => meter.increment('unreadableHeartbeats'),
      monotonic: clock.monotonic,
      log,
    });
    this.#reading = new FailureLog('reading which units to ping', log);
    this.#publishing = new FailureLog('publishing what was heard of units', log);
    this.#lookedMs = clock.monotonic();
    this.#tracker = new ConnectivityTracker({
      unitIndex: roster,
      decider,
      failuresToOffline: config.failuresToOffline,
      newId,
      clock,
      heartbeatListeningMs: () => this.#attendedMs,
      ...(provenElsewhereMs === undefined ? {} : { lastProofElsewhereMs: provenElsewhereMs }),
      log,
    });
  }

  start(): void {
    this.#refreshSoon(0);
    this.#rounds.start();
    this.#look();
  }

  recordProof(unit: string, evidence: Evidence, atMs: number): void {
    const index = this.#roster.indexOf(unit) ?? this.#welcome(unit);
    if (index !== undefined) this.#tracker.recordProof(index, evidence, atMs);
  }

  recordHeartbeat(unit: string, content: Uint8Array, atMs: number): void {
    this.#meter.increment('heartbeats');
    this.recordProof(unit, 'heartbeat', atMs);
    this.#heartbeats.record(unit, content, atMs);
  }

  lastProof(unit: string): { readonly evidence: Evidence; readonly atMs: number } | undefined {
    const index = this.#roster.indexOf(unit);
    return index === undefined ? undefined : this.#tracker.lastProof(index);
  }

  reshard(): void {
    this.#units.reshard();
    this.#refreshSoon(0);
  }

  status(): PingerFigures {
    return {
      units: this.#units.size,
      notPinged: this.#unpinged.size,
      states: this.#tracker.states(),
      flapping: this.#tracker.flapping,
      outages: this.#tracker.outages(),
      scheduleLagMs: this.#meter.lagMs(),
      rates: this.#meter.rates(),
      totals: this.#meter.totals,
      threads: this.#pool.threads,
      replacedThreads: this.#pool.replacedThreads,
    };
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#lookTimer);
    clearTimeout(this.#refreshTimer);
    this.#heartbeats.stop();
    await Promise.all([this.#pool.stop(), this.#rounds.stop()]);
    await Promise.all(this.#underWay);
    await this.#tracker.stop();
  }

  /** Lets the clock of silence go on, looks who has been silent, and asks units that are new here. */
  #look(): void {
    if (this.#stop.signal.aborted) return;
    const { clock, canReceiveHeartbeats: heartbeatsArrive } = this.#options;
    const nowMs = clock.monotonic();
    // Not for the time in which this process stood still.
    if (heartbeatsArrive()) this.#attendedMs += Math.min(nowMs - this.#lookedMs, 2 * LOOK_INTERVAL_MS);
    this.#lookedMs = nowMs;
    for (const unit of this.#unpinged) {
      const index = this.#roster.indexOf(unit);
      if (index !== undefined) this.#tracker.checkSilence(index);
    }
    for (const unit of this.#joining.takeDue(Math.floor(nowMs / LOOK_INTERVAL_MS))) {
      const index = this.#roster.indexOf(unit);
      if (index !== undefined && this.#rounds.has(index)) this.#rounds.pingOutOfSchedule(index);
    }
    this.#lookTimer = setTimeout(() => this.#look(), LOOK_INTERVAL_MS);
  }

  #take({ units, reasons: turns, results }: SlotOutcome): void {
    for (let place = 0; place < units.length; place += 1) {
      const index = units[place] ?? 0;
      const unit = this.#roster.nameOf(index);
      const outcome = results.outcomes[place];
      if (unit === undefined || outcome === PING_OUTCOME.discarded) continue;
      const sentAtMs = Math.round(results.sentAtMs[place] ?? 0);
      if (outcome === PING_OUTCOME.answered) {
        this.#joining.remove(unit);
        this.#tracker.recordProof(index, 'ping', sentAtMs);
        this.#summaries.recordAnswer(index, unit, results, place);
      } else {
        if (turns[place] === PING_REASON.own) this.#miss(index, sentAtMs);
        this.#summaries.recordLoss(index, unit, sentAtMs);
      }
    }
    this.#publish(this.#summaries.takeDue());
  }

  #miss(index: number, sentAtMs: number): void {
    this.#tracker.recordMiss(index, sentAtMs);
    if (this.#tracker.ignoresMisses(index)) this.#tracker.checkSilence(index);
  }

  /** A unit that proves itself before the list of targets names it. */
  #welcome(unit: string): number | undefined {
    const index = this.#roster.addUnlisted(unit);
    if (index !== undefined) this.#tracker.add(index, unitHash(unit));
    return index;
  }

  #publish(results: readonly TelemetryResult[]): void {
    try {
      for (const part of chunksOf(results, MAX_TELEMETRY_RESULTS)) this.#options.publishTelemetry(part);
      this.#publishing.recordSuccess();
    } catch (error) {
      this.#publishing.recordFailure(error);
    }
  }

  /** Reads the targets, and comes again. */
  async #refresh(): Promise<void> {
    const { clock } = this.#options;
    const startedMs = clock.monotonic();
    this.#isRefreshing = true;
    this.#isRefreshWanted = false;
    try {
      await this.#units.refresh(this.#stop.signal);
      this.#reading.recordSuccess();
    } catch (error) {
      this.#reading.recordFailure(error);
    }
    this.#isRefreshing = false;
    const pauseMs = Math.max(TARGETS_REFRESH_MS, (clock.monotonic() - startedMs) * REFRESH_DUTY);
    this.#refreshSoon(this.#isRefreshWanted ? 0 : pauseMs);
  }

  /** One reading at a time: one that is wanted meanwhile follows at once. */
  #refreshSoon(pauseMs: number): void {
    clearTimeout(this.#refreshTimer);
    if (this.#isRefreshing) this.#isRefreshWanted = true;
    else if (!this.#stop.signal.aborted) {
      this.#refreshTimer = setTimeout(() => this.#track(this.#refresh()), pauseMs);
    }
  }

  #put(target: PingTarget, isFullRead: boolean): void {
    const { name, hash, recorded, connectivity } = target;
    const index = this.#roster.add(name);
    if (index === undefined) {
      this.#unpinged.add(name);
      return;
    }
    this.#tracker.add(index, hash, connectivity);
    if (connectivity !== undefined) this.#tracker.compareWithReadModel(index, connectivity);
    if (this.#rounds.has(index)) this.#rounds.writeRecorded(index, recorded);
    const manner = mannerOf(target);
    // Where a name leads may change without a word: it is asked again now and then.
    if (this.#manners[index] === manner && !(isFullRead && !isLiteral(target.address))) return;
    this.#manners[index] = manner;
    this.#track(this.#ping(target, manner));
  }

  /** Pings a unit from now on, in another way than before. Names take their time, and nobody waits for them. */
  async #ping(target: PingTarget, manner: number): Promise<void> {
    const { name, hash, probe, recorded } = target;
    const place = await this.#placeOf(target);
    const index = this.#roster.indexOf(name);
    if (index === undefined || this.#manners[index] !== manner) return;
    if (place === undefined) {
      this.#rounds.remove(index);
      this.#unpinged.add(name);
      return;
    }
    const isNew = !this.#rounds.has(index);
    const key = this.#options.unitKey(name, target.keyVersion);
    this.#rounds.upsert(index, { name, hash, ...place, probe: PROBE_NUMBERS[probe], key, recorded });
    this.#unpinged.delete(name);
    if (!isNew) return;
    this.#summaries.reset(index);
    // Also one that is known to be online by its heartbeat: how fast it answers should not wait for its own instant.
    this.#joining.add(name);
  }

  /** Where a unit is pinged; `undefined` when its address leads nowhere. */
  async #placeOf({ name, address }: PingTarget): Promise<{ ip: string; port: number } | undefined> {
    const resolved = await this.#options.resolve(address);
    if (!('problem' in resolved)) return resolved;
    const { problem, message } = resolved;
    this.#options.log.warn('a unit is not pinged: its address leads nowhere', { unit: name, problem, message });
    return undefined;
  }

  #forget(unit: string): void {
    const index = this.#roster.indexOf(unit);
    if (index !== undefined) {
      this.#rounds.remove(index);
      this.#tracker.remove(index);
      this.#manners[index] = 0;
      this.#roster.remove(unit);
    }
    this.#unpinged.delete(unit);
    this.#heartbeats.forget(unit);
    this.#joining.remove(unit);
  }

  /** Keeps what is under way, so that `stop` can wait for it. */
  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#underWay.delete(tracked));
    this.#underWay.add(tracked);
  }
}

/** At which address a unit is pinged, how, with which key: 53 bits of a hash of that, since there are many units. */
function mannerOf({ address, probe, keyVersion }: PingTarget): number {
  return Number(BigInt.asUintN(53, BigInt(Bun.hash(`${address} ${probe} ${keyVersion}`))));
}

/** Whether an address has no name in it. */
function isLiteral(address: string): boolean {
  return isIP(parseAddress(address)?.host ?? '') !== 0;
}

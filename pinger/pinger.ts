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
import type { Config } from '../platform/config.ts';
import type { Log } from '../platform/log.ts';
import { messageOf } from '../platform/message-of.ts';
import type { NatsOptions } from '../platform/nats/connection.ts';
import { MAX_TELEMETRY_RESULTS, type TelemetryResult } from '../platform/telemetry.ts';
import type { UnitDecider } from '../platform/units/unit-decider.ts';
import { ConnectivityTracker } from './connectivity.ts';
import { Heartbeats } from './heartbeats.ts';
import { JoinQueue } from './joining.ts';
import { type Counted, Meter } from './meter.ts';
import { Outage } from './outage.ts';
import { PingPool } from './pool.ts';
import { type PingResults, Rounds, TURN } from './rounds.ts';
import { Schedule, slotWidthMs } from './schedule.ts';
import { type PingTarget, type PingTargets, TargetList } from './targets.ts';
import { CONFIGURATION_HASH_BYTES, OUTCOME } from './tasks.ts';
import { EPOCH_BYTES, isNothing, PROBE, UnitTable, uuidOf } from './unit-table.ts';
import type { Believed, Evidence } from './watch.ts';

/** Pause between two readings of the targets: how old a recorded place in a ping may be, and how late a new unit joins. */
export const TARGETS_REFRESH_MS = 2_000;
/** A reading that takes long makes the pause longer, so that at most one part in so many of the time is spent reading. */
const REFRESH_DUTY = 10;
/** How often silence, and who should be asked out of turn, are looked at. */
const LOOK_INTERVAL_MS = 100;

export interface PingerClock {
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
}

export interface PingerOptions {
  readonly targets: PingTargets;
  /** The key of a unit's pings. */
  readonly unitKey: (name: string, keyVersion: number) => Uint8Array;
  /** The addresses of a host name; @throws when it has none. */
  readonly lookup: (host: string) => Promise<string>;
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** Takes `MAX_TELEMETRY_RESULTS` at most. May throw: then they are lost. */
  readonly publishTelemetry: (results: readonly TelemetryResult[]) => void;
  /** Whether heartbeats can be heard now. Silence counts only while they can. */
  readonly heartbeatsArrive: () => boolean;
  /** Where units of the probe `nats` are asked; without it they are not. */
  readonly nats?: Pick<NatsOptions, 'url' | 'creds'>;
  readonly newId: () => string;
  readonly clock: PingerClock;
  readonly config: Config['pinger'];
  readonly log: Log;
}

export interface PingerStatus {
  readonly units: number;
  /** Units that are not pinged: those whose address is none, and those for which there is no place. */
  readonly notPinged: number;
  readonly states: Readonly<Record<Believed, number>>;
  /** By how much pings left after their instants in the last half minute. */
  readonly scheduleLagMs: { readonly p99: number; readonly max: number };
  /** Per second, over the last half minute. */
  readonly rates: Readonly<Record<Counted, number>>;
  /** Since the start. */
  readonly totals: Readonly<Record<Counted, number>>;
  readonly threads: number;
  readonly replacedThreads: number;
}

export interface Pinger {
  /** A unit has proved elsewhere that it is there. `atMs`: milliseconds since 1970. */
  prove(unit: string, evidence: Evidence, atMs: number): void;
  /** A heartbeat has arrived on the subject of `unit`. `atMs`: milliseconds since 1970. */
  heartbeat(unit: string, content: Uint8Array, atMs: number): void;
  status(): PingerStatus;
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
  readonly #tracker: ConnectivityTracker;
  readonly #pool: PingPool;
  readonly #rounds: Rounds;
  readonly #joining: JoinQueue;
  readonly #meter: Meter;
  readonly #heartbeats: Heartbeats;
  readonly #reading: Outage;
  readonly #publishing: Outage;
  readonly #stop = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  /** Units that nobody pings. */
  readonly #unpinged = new Set<string>();
  #attendedMs = 0;
  #lookedMs: number;
  #lookTimer: ReturnType<typeof setTimeout> | undefined;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: PingerOptions) {
    const { targets, decider, newId, clock, config, nats, log } = options;
    const { intervalMs, timeoutMs, threads, httpKeepAlive } = config;
    this.#options = options;
    this.#units = new TargetList(targets);
    const schedule = new Schedule(intervalMs, slotWidthMs(timeoutMs));
    const table = UnitTable.create();
    const settings = { table: table.shared, timeoutMs, httpKeepAlive, ...(nats === undefined ? {} : { nats }) };
    const worker = new URL('./worker.ts', import.meta.url);
    const pool = new PingPool({ worker, threads, taskMs: schedule.widthMs + timeoutMs, settings, log });
    const meter = new Meter(clock.monotonic);
    this.#pool = pool;
    this.#meter = meter;
    const onResults = (results: PingResults) => this.#take(results);
    this.#rounds = new Rounds({ schedule, table, pool, threads, timeoutMs, clock, meter, onResults, log });
    this.#joining = new JoinQueue();
    this.#heartbeats = new Heartbeats({
      tell: (results) => this.#publish(results),
      onUnreadable: () => meter.count('unreadableHeartbeats'),
      monotonic: clock.monotonic,
      log,
    });
    this.#reading = new Outage('reading which units to ping', log);
    this.#publishing = new Outage('publishing what was heard of units', log);
    this.#lookedMs = clock.monotonic();
    this.#tracker = new ConnectivityTracker({
      decider,
      failuresToOffline: config.failuresToOffline,
      newId,
      now: clock.now,
      attended: () => this.#attendedMs,
      log,
    });
  }

  start(): void {
    this.#track(this.#refresh());
    this.#rounds.start();
    this.#look();
  }

  prove(unit: string, evidence: Evidence, atMs: number): void {
    if (evidence === 'ping') this.#joining.remove(unit);
    this.#tracker.prove(unit, evidence, atMs);
  }

  heartbeat(unit: string, content: Uint8Array, atMs: number): void {
    this.#meter.count('heartbeats');
    this.prove(unit, 'heartbeat', atMs);
    this.#heartbeats.take(unit, content, atMs);
  }

  status(): PingerStatus {
    return {
      units: this.#units.size,
      notPinged: this.#unpinged.size,
      states: this.#tracker.states(),
      scheduleLagMs: this.#meter.lagMs(),
      rates: this.#meter.rates(),
      totals: this.#meter.totals,
      threads: this.#options.config.threads,
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
    const { clock, heartbeatsArrive } = this.#options;
    const nowMs = clock.monotonic();
    // Not for the time in which this process stood still.
    if (heartbeatsArrive()) this.#attendedMs += Math.min(nowMs - this.#lookedMs, 2 * LOOK_INTERVAL_MS);
    this.#lookedMs = nowMs;
    for (const unit of this.#unpinged) this.#tracker.checkSilence(unit);
    for (const unit of this.#joining.take(Math.floor(nowMs / LOOK_INTERVAL_MS))) {
      const index = this.#rounds.indexOf(unit);
      if (index !== undefined) this.#rounds.soon(index);
    }
    this.#lookTimer = setTimeout(() => this.#look(), LOOK_INTERVAL_MS);
  }

  #take({ units, turns, results }: PingResults): void {
    const telemetry: TelemetryResult[] = [];
    for (let place = 0; place < units.length; place += 1) {
      const unit = this.#rounds.nameOf(units[place] ?? 0);
      const outcome = results.outcomes[place];
      if (unit === undefined || outcome === OUTCOME.discarded) continue;
      const at = Math.round(results.sentAtMs[place] ?? 0);
      if (outcome === OUTCOME.answered) {
        telemetry.push({ heard: 'answer', unit, at, rttMs: results.rttMs[place] ?? 0, ...said({ results, place }) });
        this.prove(unit, 'ping', at);
      } else {
        telemetry.push({ heard: 'nothing', unit, at });
        if (turns[place] === TURN.own) this.#miss(unit, at);
      }
    }
    this.#publish(telemetry);
  }

  #miss(unit: string, sentAtMs: number): void {
    this.#tracker.miss(unit, sentAtMs);
    if (this.#tracker.isUnpingable(unit)) this.#tracker.checkSilence(unit);
  }

  #publish(results: readonly TelemetryResult[]): void {
    try {
      for (let first = 0; first < results.length; first += MAX_TELEMETRY_RESULTS) {
        this.#options.publishTelemetry(results.slice(first, first + MAX_TELEMETRY_RESULTS));
      }
      this.#publishing.worked();
    } catch (error) {
      this.#publishing.failed(error);
    }
  }

  /** Reads the targets, and comes again. */
  async #refresh(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stop;
    const startedMs = clock.monotonic();
    try {
      const { changed, left } = await this.#units.refresh(signal);
      for (const unit of left) this.#forget(unit);
      for (const target of changed) await this.#put(target);
      for (const { name, connectivity } of this.#units.all()) {
        if (connectivity !== undefined) this.#tracker.hint(name, connectivity);
      }
      this.#reading.worked();
    } catch (error) {
      this.#reading.failed(error);
    }
    if (signal.aborted) return;
    const pauseMs = Math.max(TARGETS_REFRESH_MS, (clock.monotonic() - startedMs) * REFRESH_DUTY);
    this.#refreshTimer = setTimeout(() => this.#track(this.#refresh()), pauseMs);
  }

  async #put(target: PingTarget): Promise<void> {
    const { name, probe, keyVersion, recorded } = target;
    const place = await this.#placeOf(target);
    const isNew = this.#rounds.indexOf(name) === undefined;
    this.#tracker.add(name);
    const index =
      place === undefined
        ? undefined
        : this.#rounds.put({
            name,
            hash: unitHash(name),
            ...place,
            probe: PROBE[probe],
            key: this.#options.unitKey(name, keyVersion),
            recorded,
          });
    if (index === undefined) this.#rounds.remove(name);
    if (index === undefined) this.#unpinged.add(name);
    else this.#unpinged.delete(name);
    // Also one that is known to be online by its heartbeat: how fast it answers should not wait for its own instant.
    if (isNew && index !== undefined) this.#joining.add(name);
  }

  /** Where a unit is pinged; `undefined` when its address is none. */
  async #placeOf({ name, address }: PingTarget): Promise<{ ip: string; port: number } | undefined> {
    const parsed = parseAddress(address);
    if (parsed === undefined) return undefined;
    const { host, port } = parsed;
    if (isIP(host) !== 0) return { ip: host, port };
    try {
      return { ip: await this.#options.lookup(host), port };
    } catch (error) {
      this.#options.log.warn('a unit is not pinged: its address has no host', { unit: name, reason: messageOf(error) });
      return undefined;
    }
  }

  #forget(unit: string): void {
    this.#rounds.remove(unit);
    this.#unpinged.delete(unit);
    this.#tracker.remove(unit);
    this.#heartbeats.forget(unit);
    this.#joining.remove(unit);
  }

  /** Keeps what is under way, so that `stop` can wait for it. */
  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#underWay.delete(tracked));
    this.#underWay.add(tracked);
  }
}

/** What a unit said about itself in an answer. */
function said({ results, place }: { readonly results: PingResults['results']; readonly place: number }) {
  const epoch = Buffer.from(results.epochs.subarray(place * EPOCH_BYTES, (place + 1) * EPOCH_BYTES));
  const hashAt = place * CONFIGURATION_HASH_BYTES;
  const hash = Buffer.from(results.configurationHashes.subarray(hashAt, hashAt + CONFIGURATION_HASH_BYTES));
  const clockOffsetMs = results.clockOffsetsMs[place] ?? Number.NaN;
  return {
    ...(isNothing(epoch) ? {} : { epoch: uuidOf(epoch, 0), lastSeq: results.lastSeqs[place] ?? 0 }),
    configurationHash: hash.toString('hex'),
    ...(Number.isNaN(clockOffsetMs) ? {} : { clockOffsetMs }),
  };
}

/**
 * The pinger: who is online, and how fast. The same in `server` as in a process of its own.
 *
 * This thread only schedules, decides and publishes; the threads of the pool ping (`pool.ts`). Every slot of the interval
 * (`schedule.ts`) is handed to the pool as it begins; what comes back is evidence (`connectivity.ts`) and telemetry. A slot
 * that comes too late or finds no place is left out and counted: then nothing is known about its units, and nothing is held
 * against them.
 *
 * Units with another probe than `http` are not pinged yet; they live from their heartbeats (`heartbeats.ts`).
 */

import type { Config } from '../platform/config.ts';
import type { Log } from '../platform/log.ts';
import { MAX_TELEMETRY_RESULTS, type TelemetryResult } from '../platform/telemetry.ts';
import type { UnitDecider } from '../platform/units/unit-decider.ts';
import { ConnectivityTracker } from './connectivity.ts';
import { Heartbeats } from './heartbeats.ts';
import { JoinQueue } from './joining.ts';
import { type Counted, Meter } from './meter.ts';
import { Outage } from './outage.ts';
import { MAX_TARGETS_PER_TASK, PingPool } from './pool.ts';
import { dueSlots, indexOfSlot, SLOT_WIDTH_MS, slotAt, startOfSlotMs } from './schedule.ts';
import { type PingTargets, type ProbeKind, TargetList, type Watched } from './targets.ts';
import { OUTCOME, type SlotResult, type SlotTarget } from './tasks.ts';
import type { Believed, Evidence } from './watch.ts';

/** Pause between two readings of the targets: how old a recorded place in a ping may be, and how late a new unit joins. */
export const TARGETS_REFRESH_MS = 2_000;
/** A reading that takes long makes the pause longer, so that at most one part in so many of the time is spent reading. */
const REFRESH_DUTY = 10;

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
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** Takes `MAX_TELEMETRY_RESULTS` at most. May throw: then they are lost. */
  readonly publishTelemetry: (results: readonly TelemetryResult[]) => void;
  /** Whether heartbeats can be heard now. Silence counts only while they can. */
  readonly heartbeatsArrive: () => boolean;
  readonly newId: () => string;
  readonly clock: PingerClock;
  readonly config: Config['pinger'];
  readonly log: Log;
}

export interface PingerStatus {
  readonly units: number;
  /** Units that are not pinged: those of another probe, by probe, and those whose address is none. */
  readonly notPinged: { readonly udp: number; readonly nats: number; readonly badAddress: number };
  readonly states: Readonly<Record<Believed, number>>;
  /** The worst of the last half minute. */
  readonly scheduleLagMs: number;
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
  readonly #joining = new JoinQueue();
  readonly #meter: Meter;
  readonly #heartbeats: Heartbeats;
  readonly #reading: Outage;
  readonly #publishing: Outage;
  readonly #stop = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  #lastSlot: number;
  #attendedMs = 0;
  #tickedMs: number;
  #slotTimer: ReturnType<typeof setTimeout> | undefined;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;
  #notPinged = '';

  constructor(options: PingerOptions) {
    const { targets, unitKey, decider, newId, clock, config, log } = options;
    this.#options = options;
    this.#units = new TargetList(targets, unitKey, config.intervalMs);
    const worker = new URL('./worker.ts', import.meta.url);
    this.#pool = new PingPool({ worker, threads: config.threads, timeoutMs: config.timeoutMs, log });
    this.#meter = new Meter(clock.monotonic);
    this.#heartbeats = new Heartbeats({
      tell: (results) => this.#publish(results),
      onUnreadable: () => this.#meter.count('unreadableHeartbeats'),
      monotonic: clock.monotonic,
      log,
    });
    this.#reading = new Outage('reading which units to ping', log);
    this.#publishing = new Outage('publishing what was heard of units', log);
    this.#lastSlot = slotAt(clock.now(), config.intervalMs);
    this.#tickedMs = clock.monotonic();
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
    this.#tick();
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
      notPinged: this.#countNotPinged(),
      states: this.#tracker.states(),
      scheduleLagMs: this.#meter.worstLagMs(),
      rates: this.#meter.rates(),
      totals: this.#meter.totals,
      threads: this.#options.config.threads,
      replacedThreads: this.#pool.replacedThreads,
    };
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#slotTimer);
    clearTimeout(this.#refreshTimer);
    this.#heartbeats.stop();
    await this.#pool.stop();
    await Promise.all(this.#underWay);
    await this.#tracker.stop();
  }

  /** Takes what is due, and comes again when the next slot begins. */
  #tick(): void {
    if (this.#stop.signal.aborted) return;
    const { clock, config } = this.#options;
    this.#attend();
    const due = dueSlots(this.#lastSlot, clock.now(), config.intervalMs);
    this.#lastSlot = due.lastSlot;
    this.#meter.lag(due.lagMs);
    if (due.skipped > 0) this.#meter.count('skippedSlots', due.skipped);
    for (const slot of due.slots) this.#takeSlot(slot);
    const untilNextMs = startOfSlotMs(this.#lastSlot + 1, config.intervalMs) - clock.now();
    // Never longer than a slot: a clock that jumps is noticed.
    this.#slotTimer = setTimeout(() => this.#tick(), Math.min(SLOT_WIDTH_MS, Math.max(0, untilNextMs)));
  }

  /** Lets the clock of silence go on, but not for the time in which this process stood still. */
  #attend(): void {
    const { clock, heartbeatsArrive } = this.#options;
    const nowMs = clock.monotonic();
    if (heartbeatsArrive()) this.#attendedMs += Math.min(nowMs - this.#tickedMs, 2 * SLOT_WIDTH_MS);
    this.#tickedMs = nowMs;
  }

  #takeSlot(slot: number): void {
    const pings: SlotTarget[] = [];
    for (const { target, ping } of this.#units.inSlot(indexOfSlot(slot, this.#options.config.intervalMs))) {
      if (ping !== undefined) pings.push(ping);
      if (ping === undefined || this.#tracker.isUnpingable(target.name)) this.#tracker.checkSilence(target.name);
    }
    this.#ping(pings, (unit, sentAtMs) => this.#tracker.miss(unit, sentAtMs));
    const joining = this.#joining.take(slot).flatMap((unit) => this.#units.get(unit)?.ping ?? []);
    // Asked out of turn: that it is not there yet counts for nothing.
    this.#ping(joining, () => undefined);
  }

  #ping(targets: readonly SlotTarget[], onMiss: (unit: string, sentAtMs: number) => void): void {
    for (let first = 0; first < targets.length; first += MAX_TARGETS_PER_TASK) {
      const part = targets.slice(first, first + MAX_TARGETS_PER_TASK);
      if (this.#pool.full) this.#meter.count('discarded', part.length);
      else this.#track(this.#pingPart(part, onMiss));
    }
  }

  async #pingPart(targets: readonly SlotTarget[], onMiss: (unit: string, sentAtMs: number) => void): Promise<void> {
    this.#meter.count('pings', targets.length);
    const result = await this.#pool.ping(targets);
    if (this.#stop.signal.aborted) return;
    if (result === undefined) this.#meter.count('discarded', targets.length);
    else this.#apply(targets, result, onMiss);
  }

  #apply(targets: readonly SlotTarget[], result: SlotResult, onMiss: (unit: string, sentAtMs: number) => void): void {
    const telemetry: TelemetryResult[] = [];
    targets.forEach(({ unit }, index) => {
      const at = Math.round(result.sentAtMs[index] ?? 0);
      switch (result.outcomes[index]) {
        case OUTCOME.answered:
          this.#meter.count('answered');
          telemetry.push({ heard: 'answer', unit, at, rttMs: result.rttMs[index] ?? 0, ...result.replies[index] });
          this.prove(unit, 'ping', at);
          break;
        case OUTCOME.missed:
        case OUTCOME.forged:
          this.#meter.count(result.outcomes[index] === OUTCOME.forged ? 'forged' : 'missed');
          telemetry.push({ heard: 'nothing', unit, at });
          onMiss(unit, at);
          break;
        default:
          this.#meter.count('discarded');
      }
    });
    this.#publish(telemetry);
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
      const { joined, left } = await this.#units.refresh(signal);
      for (const unit of left) this.#forget(unit);
      for (const unit of joined) this.#welcome(this.#units.get(unit));
      for (const { target } of this.#units.all()) {
        if (target.connectivity !== undefined) this.#tracker.hint(target.name, target.connectivity);
      }
      this.#reading.worked();
      this.#sayWhoIsNotPinged();
    } catch (error) {
      this.#reading.failed(error);
    }
    if (signal.aborted) return;
    const pauseMs = Math.max(TARGETS_REFRESH_MS, (clock.monotonic() - startedMs) * REFRESH_DUTY);
    this.#refreshTimer = setTimeout(() => this.#track(this.#refresh()), pauseMs);
  }

  #welcome(watched: Watched | undefined): void {
    if (watched === undefined) return;
    const { name } = watched.target;
    this.#tracker.add(name);
    // Also one that is known to be online by its heartbeat: how fast it answers should not wait for its own instant.
    if (watched.ping !== undefined) this.#joining.add(name);
  }

  #forget(unit: string): void {
    this.#tracker.remove(unit);
    this.#heartbeats.forget(unit);
    this.#joining.remove(unit);
  }

  #countNotPinged(): PingerStatus['notPinged'] {
    const counts: Record<ProbeKind, number> = { http: 0, udp: 0, nats: 0 };
    for (const { target, ping } of this.#units.all()) if (ping === undefined) counts[target.probe] += 1;
    return { udp: counts.udp, nats: counts.nats, badAddress: counts.http };
  }

  #sayWhoIsNotPinged(): void {
    const counts = this.#countNotPinged();
    const text = JSON.stringify(counts);
    const any = counts.udp + counts.nats + counts.badAddress > 0;
    if (any && text !== this.#notPinged) {
      this.#options.log.info('some units are not pinged: they are online by their heartbeats alone', counts);
    }
    this.#notPinged = text;
  }

  /** Keeps what is under way, so that `stop` can wait for it. */
  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#underWay.delete(tracked));
    this.#underWay.add(tracked);
  }
}

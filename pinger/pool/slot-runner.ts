/**
 * Runs the slots of one thread: every ping leaves at its own instant, and its wait ends by an answer or by the time-out.
 *
 * One timer serves all that is under way. It comes when the next ping is due, and otherwise often enough to see a thread that
 * stood still: then nobody knows what would have arrived in time, so what was under way is discarded instead of missed. The
 * same when the system's clock jumps: the machine may have slept.
 *
 * A unit has one ping under way. One that is asked again before that gives up the first, and nothing is known of that.
 */

import { clockOffsetFromPingMs } from '../../domain/device/unit-clock.ts';
import {
  CONFIGURATION_HASH_BYTES,
  PING_ANOMALIES,
  type PingAnomaly,
  type Probe,
  type ProbeListener,
  type ProbeReply,
} from '../probes/probe.ts';
import { ClockJumpDetector, type PingerClock } from '../time/clock.ts';
import { EPOCH_BYTES, PROBE_COUNT, type UnitTable } from '../units/unit-table.ts';
import { PING_OUTCOME, type PingOutcome, SlotResults } from './slot-results.ts';
import type { SlotTask } from './slot-task.ts';

/** Slots that one thread has under way. */
export const MAX_RUNS = 256;
/** Pings that leave in one go; more wait for the next, so that what arrives is not kept waiting. */
const MAX_SENDS_PER_STEP = 256;
/** How often time-outs are looked at, at least. */
const MAX_STEP_MS = 20;
/** A step that comes so much late means that the thread stood still. */
export const MAX_STALL_MS = 150;
/** A slot is handed over by so much before it begins, at most. */
export const MAX_LEAD_MS = 1_000;
const NO_RUN = 0;

export interface SlotRunnerOptions {
  readonly table: UnitTable;
  readonly timeoutMs: number;
  readonly clock: PingerClock;
  /** The probe of each `PROBE`, given whom to tell what came of the pings; pings of one that is missing are discarded. */
  readonly openProbes: (arrivals: ProbeListener) => Promise<readonly (Probe | undefined)[]>;
}

interface Run {
  readonly units: Uint32Array;
  /** When each is due, on the clock that never jumps. */
  readonly dueMs: Float64Array;
  /** When its wait began. */
  readonly startedMs: Float64Array;
  readonly sentMs: Float64Array;
  readonly results: SlotResults;
  /** The first that was not sent yet. */
  next: number;
  /** The first whose wait may not have ended. */
  waiting: number;
  /** How many are not settled. */
  open: number;
  readonly done: (results: SlotResults) => void;
}

export class SlotRunner implements ProbeListener {
  readonly now: () => number;
  readonly monotonic: () => number;
  readonly #options: SlotRunnerOptions;
  #probes: readonly (Probe | undefined)[] = [];
  readonly #runs = new Map<number, Run>();
  /** Of the unit's ping that is under way: its run, and its place there. */
  readonly #runOf: Uint16Array;
  readonly #placeOf: Uint32Array;
  readonly #forged: Uint8Array;
  readonly #batches = Array.from({ length: PROBE_COUNT }, () => ({
    units: new Uint32Array(MAX_SENDS_PER_STEP),
    size: 0,
  }));
  readonly #strays = new Float64Array(PING_ANOMALIES.length);
  #lastRun = NO_RUN;
  #cancel: (() => void) | undefined;
  #steppedMs: number;
  /** What was sent before is not judged: the thread stood still, or the clock jumped. */
  #unjudgedBeforeMs = Number.NEGATIVE_INFINITY;
  readonly #clockWatch: ClockJumpDetector;

  private constructor(options: SlotRunnerOptions) {
    this.#options = options;
    const { clock, table } = options;
    this.now = clock.now;
    this.monotonic = clock.monotonic;
    const { capacity } = table;
    this.#runOf = new Uint16Array(capacity);
    this.#placeOf = new Uint32Array(capacity);
    this.#forged = new Uint8Array(capacity);
    this.#steppedMs = clock.monotonic();
    this.#clockWatch = new ClockJumpDetector(clock);
  }

  /** @throws what `openProbes` throws */
  static async open(options: SlotRunnerOptions): Promise<SlotRunner> {
    const runner = new SlotRunner(options);
    runner.#probes = await options.openProbes(runner);
    return runner;
  }

  /**
   * Pings the units of a slot. Lasts until each has answered or its time is up. Beyond `MAX_RUNS` all are discarded, and so are
   * those of a slot that would not begin soon, or should have ended: the clock jumped, or the thread stood still, on the way.
   */
  run({ startMs, units, offsetsMs }: SlotTask): Promise<SlotResults> {
    const results = SlotResults.allDiscarded(units.length);
    const leadMs = startMs - this.now();
    const isOfNow = leadMs <= MAX_LEAD_MS && leadMs >= -MAX_LEAD_MS - this.#options.timeoutMs;
    if (units.length === 0 || this.#runs.size >= MAX_RUNS || !isOfNow) return Promise.resolve(results);
    const nowMs = this.monotonic();
    const beginsMs = nowMs + leadMs;
    const dueMs = Float64Array.from(offsetsMs, (offsetMs) => beginsMs + offsetMs);
    return new Promise((done) => {
      do this.#lastRun = (this.#lastRun % (MAX_RUNS * 2)) + 1;
      while (this.#runs.has(this.#lastRun));
      this.#runs.set(this.#lastRun, {
        units,
        dueMs,
        startedMs: new Float64Array(units.length),
        sentMs: new Float64Array(units.length),
        results,
        next: 0,
        waiting: 0,
        open: units.length,
        done,
      });
      if (this.#runs.size === 1) this.#steppedMs = nowMs;
      this.#comeAgain(nowMs);
    });
  }

  async close(): Promise<void> {
    this.#cancel?.();
    await Promise.all(this.#probes.map((probe) => probe?.close()));
  }

  isAwaited(unit: number): boolean {
    return this.#runOf[unit] !== NO_RUN;
  }

  onSent(unit: number, atMs: number): void {
    const run = this.#runs.get(this.#runOf[unit] ?? NO_RUN);
    if (run === undefined) return;
    const place = this.#placeOf[unit] ?? 0;
    run.sentMs[place] = atMs;
    run.results.sentAtMs[place] = atMs + this.#clockWatch.offsetMs;
    run.results.lagsMs[place] = Math.max(0, atMs - (run.dueMs[place] ?? atMs));
  }

  onAnswered(unit: number, reply: ProbeReply, arrivedMs: number): void {
    const run = this.#runs.get(this.#runOf[unit] ?? NO_RUN);
    if (run === undefined) return;
    const place = this.#placeOf[unit] ?? 0;
    // It came after its time, only nobody has looked yet.
    if (arrivedMs - (run.startedMs[place] ?? 0) >= this.#options.timeoutMs) this.onAnomaly('late');
    else {
      this.#note(run.results, place, reply, arrivedMs - (run.sentMs[place] ?? arrivedMs));
      this.#settle(unit, run, place, PING_OUTCOME.answered);
    }
  }

  #note(results: SlotResults, place: number, reply: ProbeReply, rttMs: number): void {
    const offsetMs = clockOffsetFromPingMs(reply.clockMs, results.sentAtMs[place] ?? 0, rttMs);
    results.rttMs[place] = rttMs;
    results.lastSeqs[place] = reply.lastSeq;
    results.clockOffsetsMs[place] = offsetMs ?? Number.NaN;
    copy(reply.bytes, reply.epochAt, results.epochs, place, EPOCH_BYTES);
    copy(reply.bytes, reply.configurationHashAt, results.configurationHashes, place, CONFIGURATION_HASH_BYTES);
  }

  onMissed(unit: number): void {
    this.#end(unit, this.#forged[unit] === 1 ? PING_OUTCOME.forged : PING_OUTCOME.missed);
  }

  onForged(unit: number): void {
    this.#count('forged');
    if (this.isAwaited(unit)) this.#forged[unit] = 1;
  }

  onUnsent(unit: number): void {
    this.#count('unsent');
    this.#end(unit, PING_OUTCOME.discarded);
  }

  onAnomaly(what: Exclude<PingAnomaly, 'forged' | 'unsent'>): void {
    this.#count(what);
  }

  #count(what: PingAnomaly): void {
    const index = PING_ANOMALIES.indexOf(what);
    this.#strays[index] = (this.#strays[index] ?? 0) + 1;
  }

  #end(unit: number, outcome: PingOutcome): void {
    const run = this.#runs.get(this.#runOf[unit] ?? NO_RUN);
    if (run !== undefined) this.#settle(unit, run, this.#placeOf[unit] ?? 0, outcome);
  }

  #settle(unit: number, run: Run, place: number, outcome: PingOutcome): void {
    const number = this.#runOf[unit] ?? NO_RUN;
    run.results.outcomes[place] = outcome;
    this.#runOf[unit] = NO_RUN;
    this.#forged[unit] = 0;
    run.open -= 1;
    if (run.open > 0) return;
    this.#runs.delete(number);
    run.results.anomalies.set(this.#strays);
    this.#strays.fill(0);
    run.done(run.results);
  }

  #step(): void {
    const nowMs = this.monotonic();
    this.#look(nowMs);
    let left = MAX_SENDS_PER_STEP;
    for (const [number, run] of this.#runs) {
      this.#expire(run, nowMs);
      left -= this.#gather(number, run, nowMs, left);
    }
    this.#send();
    this.#comeAgain(nowMs);
  }

  /** Sees whether the thread stood still or the clock jumped since the last step. */
  #look(nowMs: number): void {
    const jumped = this.#clockWatch.detectJumpMs() !== 0;
    if (jumped || nowMs - this.#steppedMs > MAX_STEP_MS + MAX_STALL_MS) this.#unjudgedBeforeMs = nowMs;
    this.#steppedMs = nowMs;
  }

  #expire(run: Run, nowMs: number): void {
    const { units, startedMs } = run;
    for (; run.waiting < run.next; run.waiting += 1) {
      const place = run.waiting;
      const unit = units[place] ?? 0;
      const isOpen = this.#runs.get(this.#runOf[unit] ?? NO_RUN) === run && this.#placeOf[unit] === place;
      if (!isOpen) continue;
      const started = startedMs[place] ?? 0;
      if (nowMs - started < this.#options.timeoutMs) return;
      this.#probeOf(unit)?.cancel(unit);
      if (started < this.#unjudgedBeforeMs) this.#end(unit, PING_OUTCOME.discarded);
      else this.onMissed(unit);
    }
  }

  /** Takes what is due. @returns how many */
  #gather(number: number, run: Run, nowMs: number, most: number): number {
    const { units, dueMs, startedMs } = run;
    const first = run.next;
    const end = Math.min(units.length, first + most);
    for (; run.next < end && (dueMs[run.next] ?? 0) <= nowMs; run.next += 1) {
      const unit = units[run.next] ?? 0;
      if (this.isAwaited(unit)) {
        this.#probeOf(unit)?.cancel(unit);
        this.#end(unit, PING_OUTCOME.discarded);
      }
      this.#runOf[unit] = number;
      this.#placeOf[unit] = run.next;
      startedMs[run.next] = nowMs;
      const batch = this.#batches[this.#options.table.probes[unit] ?? 0];
      if (batch === undefined) continue;
      batch.units[batch.size] = unit;
      batch.size += 1;
    }
    return run.next - first;
  }

  #send(): void {
    for (const [number, batch] of this.#batches.entries()) {
      const units = batch.units.subarray(0, batch.size);
      batch.size = 0;
      const probe = this.#probes[number];
      if (probe !== undefined) probe.send(units);
      else for (const unit of units) this.onUnsent(unit);
    }
  }

  #probeOf(unit: number): Probe | undefined {
    return this.#probes[this.#options.table.probes[unit] ?? 0];
  }

  #comeAgain(nowMs: number): void {
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.#runs.size === 0) return;
    let nextMs = nowMs + MAX_STEP_MS;
    for (const run of this.#runs.values()) nextMs = Math.min(nextMs, run.dueMs[run.next] ?? nextMs);
    this.#cancel = this.#options.clock.after(Math.max(0, Math.ceil(nextMs - nowMs)), () => this.#step());
  }
}

function copy(from: Uint8Array, at: number, into: Uint8Array, place: number, bytes: number): void {
  for (let byte = 0; byte < bytes; byte += 1) into[place * bytes + byte] = from[at + byte] ?? 0;
}

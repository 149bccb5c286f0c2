/**
 * Runs the slots of one thread: every ping leaves at the time at which it is due, and ends by an answer or by the time-out.
 *
 * One timer drives all slots. It fires when the next ping is due, and at least every `MAX_STEP_MS`, so that the runner detects
 * when its thread has stalled. After a stall the runner cannot know whether an answer arrived in time, and after a clock jump the
 * machine may have slept; it therefore discards the pings that were in flight instead of reporting them as missed.
 *
 * A unit has at most one ping in flight. A second ping of the unit discards the first.
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
import type { PingerClock } from '../runtime/clock.ts';
import { ClockJumpDetector } from '../runtime/clock-jump-detector.ts';
import { EPOCH_BYTES, PROBE_COUNT, type UnitTable } from '../units/unit-table.ts';
import { PING_OUTCOME, type PingOutcome, SlotResults } from './slot-results.ts';
import type { SlotTask } from './slot-task.ts';

/** Most slots that one thread runs at a time; further slots are discarded. */
const MAX_RUNNING_SLOTS = 256;
/** Most pings that leave in one step; the others follow in the next step, after the answers that have arrived meanwhile. */
const MAX_SENDS_PER_STEP = 256;
/** The longest time between two steps. */
const MAX_STEP_MS = 20;
/** The thread has stalled when a step is late by more than this. */
const MAX_STALL_MS = 150;
/** The longest time before its start at which a slot is accepted. */
const MAX_LEAD_MS = 1_000;
/** Marks a unit without a ping in flight. */
const NO_SLOT = 0;

export interface SlotRunnerOptions {
  readonly table: UnitTable;
  readonly timeoutMs: number;
  readonly clock: PingerClock;
  /** Opens the probes, in the order of `PROBE_NUMBERS`. Pings of a probe that is `undefined` are discarded. */
  readonly openProbes: (listener: ProbeListener) => Promise<readonly (Probe | undefined)[]>;
}

/** A slot that is running. Arrays have an entry for each ping, in the order of the task; times are on the monotonic clock. */
interface RunningSlot {
  readonly units: Uint32Array;
  readonly dueMs: Float64Array;
  /** When the wait for the answer began. */
  readonly startedMs: Float64Array;
  /** When the ping left: later than `startedMs` when the probe connected first. */
  readonly sentMs: Float64Array;
  readonly results: SlotResults;
  /** The row of the first ping that has not left. */
  nextRow: number;
  /** The row of the first ping whose time-out may be ahead. */
  firstWaitingRow: number;
  /** How many pings have no outcome yet. */
  unsettled: number;
  readonly resolve: (results: SlotResults) => void;
}

export class SlotRunner implements ProbeListener {
  readonly now: () => number;
  readonly monotonic: () => number;
  readonly #options: SlotRunnerOptions;
  #probes: readonly (Probe | undefined)[] = [];
  readonly #slots = new Map<number, RunningSlot>();
  /** By unit: the key in `#slots` of its ping in flight, or `NO_SLOT`. */
  readonly #slotOf: Uint16Array;
  /** By unit: the row of its ping in flight. */
  readonly #rowOf: Uint32Array;
  /** By unit: 1 when a forged answer arrived during its ping in flight. */
  readonly #hasForgedAnswer: Uint8Array;
  readonly #batches = Array.from({ length: PROBE_COUNT }, () => ({
    units: new Uint32Array(MAX_SENDS_PER_STEP),
    size: 0,
  }));
  readonly #anomalies = new Float64Array(PING_ANOMALIES.length);
  #lastSlotKey = NO_SLOT;
  #cancelStep: (() => void) | undefined;
  #lastStepMs: number;
  /** Unanswered pings that were sent before this moment are discarded, because the thread stalled or the clock jumped. */
  #discardBeforeMs = Number.NEGATIVE_INFINITY;
  readonly #jumpDetector: ClockJumpDetector;

  private constructor(options: SlotRunnerOptions) {
    this.#options = options;
    const { clock, table } = options;
    this.now = clock.now;
    this.monotonic = clock.monotonic;
    const { capacity } = table;
    this.#slotOf = new Uint16Array(capacity);
    this.#rowOf = new Uint32Array(capacity);
    this.#hasForgedAnswer = new Uint8Array(capacity);
    this.#lastStepMs = clock.monotonic();
    this.#jumpDetector = new ClockJumpDetector(clock);
  }

  /** @throws what `openProbes` throws */
  static async open(options: SlotRunnerOptions): Promise<SlotRunner> {
    const runner = new SlotRunner(options);
    runner.#probes = await options.openProbes(runner);
    return runner;
  }

  /**
   * Pings the units of a slot. Discards all of them when `MAX_RUNNING_SLOTS` run already, and when the slot starts too far ahead or
   * is over: the clock jumped, or the thread stalled, between the main thread and this one.
   * @returns the results, once every unit has answered or timed out
   */
  run({ startMs, units, offsetsMs }: SlotTask): Promise<SlotResults> {
    const results = SlotResults.createDiscarded(units.length);
    const leadMs = startMs - this.now();
    const isCurrent = leadMs <= MAX_LEAD_MS && leadMs >= -MAX_LEAD_MS - this.#options.timeoutMs;
    if (units.length === 0 || this.#slots.size >= MAX_RUNNING_SLOTS || !isCurrent) return Promise.resolve(results);
    const nowMs = this.monotonic();
    const beginsMs = nowMs + leadMs;
    const dueMs = Float64Array.from(offsetsMs, (offsetMs) => beginsMs + offsetMs);
    return new Promise((resolve) => {
      this.#slots.set(this.#nextSlotKey(), {
        units,
        dueMs,
        startedMs: new Float64Array(units.length),
        sentMs: new Float64Array(units.length),
        results,
        nextRow: 0,
        firstWaitingRow: 0,
        unsettled: units.length,
        resolve,
      });
      if (this.#slots.size === 1) this.#lastStepMs = nowMs;
      this.#scheduleStep(nowMs);
    });
  }

  /** Closes all probes. Slots that are running never resolve. */
  async close(): Promise<void> {
    this.#cancelStep?.();
    await Promise.all(this.#probes.map((probe) => probe?.close()));
  }

  isAwaited(unit: number): boolean {
    return this.#slotOf[unit] !== NO_SLOT;
  }

  onSent(unit: number, atMs: number): void {
    const slot = this.#slots.get(this.#slotOf[unit] ?? NO_SLOT);
    if (slot === undefined) return;
    const row = this.#rowOf[unit] ?? 0;
    slot.sentMs[row] = atMs;
    slot.results.sentAtMs[row] = atMs + this.#jumpDetector.offsetMs;
    slot.results.lagsMs[row] = Math.max(0, atMs - (slot.dueMs[row] ?? atMs));
  }

  onAnswered(unit: number, reply: ProbeReply, arrivedMs: number): void {
    const slot = this.#slots.get(this.#slotOf[unit] ?? NO_SLOT);
    if (slot === undefined) return;
    const row = this.#rowOf[unit] ?? 0;
    // The answer arrived after the time-out, but before the step that would have expired the ping.
    if (arrivedMs - (slot.startedMs[row] ?? 0) >= this.#options.timeoutMs) this.onAnomaly('late');
    else {
      writeReply(slot.results, row, reply, arrivedMs - (slot.sentMs[row] ?? arrivedMs));
      this.#settle(unit, slot, row, PING_OUTCOME.answered);
    }
  }

  onMissed(unit: number): void {
    this.#settleUnit(unit, this.#hasForgedAnswer[unit] === 1 ? PING_OUTCOME.forged : PING_OUTCOME.missed);
  }

  onForged(unit: number): void {
    this.#countAnomaly('forged');
    if (this.isAwaited(unit)) this.#hasForgedAnswer[unit] = 1;
  }

  onUnsent(unit: number): void {
    this.#countAnomaly('unsent');
    this.#settleUnit(unit, PING_OUTCOME.discarded);
  }

  onAnomaly(anomaly: Exclude<PingAnomaly, 'forged' | 'unsent'>): void {
    this.#countAnomaly(anomaly);
  }

  #countAnomaly(anomaly: PingAnomaly): void {
    const index = PING_ANOMALIES.indexOf(anomaly);
    this.#anomalies[index] = (this.#anomalies[index] ?? 0) + 1;
  }

  #settleUnit(unit: number, outcome: PingOutcome): void {
    const slot = this.#slots.get(this.#slotOf[unit] ?? NO_SLOT);
    if (slot !== undefined) this.#settle(unit, slot, this.#rowOf[unit] ?? 0, outcome);
  }

  #settle(unit: number, slot: RunningSlot, row: number, outcome: PingOutcome): void {
    const key = this.#slotOf[unit] ?? NO_SLOT;
    slot.results.outcomes[row] = outcome;
    this.#slotOf[unit] = NO_SLOT;
    this.#hasForgedAnswer[unit] = 0;
    slot.unsettled -= 1;
    if (slot.unsettled > 0) return;
    this.#slots.delete(key);
    slot.results.anomalies.set(this.#anomalies);
    this.#anomalies.fill(0);
    slot.resolve(slot.results);
  }

  /** Expires pings whose time-out has passed, and sends those that are due. */
  #step(): void {
    const nowMs = this.monotonic();
    this.#detectStall(nowMs);
    let remainingSends = MAX_SENDS_PER_STEP;
    for (const [key, slot] of this.#slots) {
      this.#expire(slot, nowMs);
      remainingSends -= this.#collectDue(key, slot, nowMs, remainingSends);
    }
    this.#sendBatches();
    this.#scheduleStep(nowMs);
  }

  #detectStall(nowMs: number): void {
    const hasJumped = this.#jumpDetector.detectJumpMs() !== 0;
    if (hasJumped || nowMs - this.#lastStepMs > MAX_STEP_MS + MAX_STALL_MS) this.#discardBeforeMs = nowMs;
    this.#lastStepMs = nowMs;
  }

  #expire(slot: RunningSlot, nowMs: number): void {
    const { units, startedMs } = slot;
    for (; slot.firstWaitingRow < slot.nextRow; slot.firstWaitingRow += 1) {
      const row = slot.firstWaitingRow;
      const unit = units[row] ?? 0;
      const isInFlight = this.#slots.get(this.#slotOf[unit] ?? NO_SLOT) === slot && this.#rowOf[unit] === row;
      if (!isInFlight) continue;
      const started = startedMs[row] ?? 0;
      if (nowMs - started < this.#options.timeoutMs) return;
      this.#probeOf(unit)?.cancel(unit);
      if (started < this.#discardBeforeMs) this.#settleUnit(unit, PING_OUTCOME.discarded);
      else this.onMissed(unit);
    }
  }

  /** Moves at most `limit` due pings of a slot into the batches of their probes. @returns how many */
  #collectDue(key: number, slot: RunningSlot, nowMs: number, limit: number): number {
    const { units, dueMs, startedMs } = slot;
    const first = slot.nextRow;
    const end = Math.min(units.length, first + limit);
    for (; slot.nextRow < end && (dueMs[slot.nextRow] ?? 0) <= nowMs; slot.nextRow += 1) {
      const unit = units[slot.nextRow] ?? 0;
      if (this.isAwaited(unit)) {
        this.#probeOf(unit)?.cancel(unit);
        this.#settleUnit(unit, PING_OUTCOME.discarded);
      }
      this.#slotOf[unit] = key;
      this.#rowOf[unit] = slot.nextRow;
      startedMs[slot.nextRow] = nowMs;
      const batch = this.#batches[this.#options.table.probes[unit] ?? 0];
      if (batch === undefined) continue;
      batch.units[batch.size] = unit;
      batch.size += 1;
    }
    return slot.nextRow - first;
  }

  #sendBatches(): void {
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

  #nextSlotKey(): number {
    do this.#lastSlotKey = (this.#lastSlotKey % (MAX_RUNNING_SLOTS * 2)) + 1;
    while (this.#slots.has(this.#lastSlotKey));
    return this.#lastSlotKey;
  }

  #scheduleStep(nowMs: number): void {
    this.#cancelStep?.();
    this.#cancelStep = undefined;
    if (this.#slots.size === 0) return;
    let nextMs = nowMs + MAX_STEP_MS;
    for (const slot of this.#slots.values()) nextMs = Math.min(nextMs, slot.dueMs[slot.nextRow] ?? nextMs);
    this.#cancelStep = this.#options.clock.after(Math.max(0, Math.ceil(nextMs - nowMs)), () => this.#step());
  }
}

function writeReply(results: SlotResults, row: number, reply: ProbeReply, rttMs: number): void {
  const offsetMs = clockOffsetFromPingMs(reply.clockMs, results.sentAtMs[row] ?? 0, rttMs);
  results.rttMs[row] = rttMs;
  results.lastSeqs[row] = reply.lastSeq;
  results.clockOffsetsMs[row] = offsetMs ?? Number.NaN;
  copyToRow(reply.bytes, reply.epochAt, results.epochs, row, EPOCH_BYTES);
  copyToRow(reply.bytes, reply.configurationHashAt, results.configurationHashes, row, CONFIGURATION_HASH_BYTES);
}

function copyToRow(from: Uint8Array, at: number, column: Uint8Array, row: number, bytes: number): void {
  for (let byte = 0; byte < bytes; byte += 1) column[row * bytes + byte] = from[at + byte] ?? 0;
}

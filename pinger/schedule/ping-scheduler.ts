/**
 * The ping scheduler pings every unit once in each interval, at its phase (`ping-schedule.ts`), and between that on request: units
 * that are new here, and units that missed a ping, as far as the retry budget allows.
 *
 * The scheduler hands a slot to the threads shortly before the slot begins; a unit is always pinged by one and the same thread.
 * A slot that is late, or that a thread cannot accept, is skipped and counted: the pinger draws no conclusion about its units.
 *
 * After a jump of the system clock every unit has another phase in real time. The scheduler then restarts at the present slot
 * and catches up nothing. During the interval that follows, a unit may be pinged less than an interval after its last ping, so
 * a missed ping does not count against it.
 */

import { errorMessage } from '../../platform/observability/error-message.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { PingPool } from '../pool/ping-pool.ts';
import { PING_OUTCOME, type SlotResults } from '../pool/slot-results.ts';
import { ThreadAssignment } from '../pool/thread-assignment.ts';
import { PING_ANOMALIES } from '../probes/probe.ts';
import type { PingerClock } from '../runtime/clock.ts';
import { ClockJumpDetector } from '../runtime/clock-jump-detector.ts';
import { TaskSet } from '../runtime/task-set.ts';
import { TokenBucket } from '../runtime/token-bucket.ts';
import type { PingCounters } from '../telemetry/ping-counters.ts';
import type { UnitIndex } from '../units/unit-index.ts';
import type { RecordedPosition, UnitRow, UnitTable } from '../units/unit-table.ts';
import type { PingSchedule } from './ping-schedule.ts';

/** How long before its start a slot is handed to the threads. The main thread may be busy for this long without delaying a ping. */
const LEAD_MS = 250;
/** Most units that await an unscheduled ping; requests beyond that are dropped, and the unit is pinged at its phase. */
const MAX_REQUESTED_UNITS = 50_000;
/** Most unscheduled pings in one slot, so that a start with many units does not cause a burst. */
const MAX_REQUESTED_PER_SLOT = 200;
/** The retry budget: retries per scheduled ping, and how many unused retries accumulate. */
const RETRY_SHARE = 0.1;
const MAX_RETRY_BURST = 100;
/** Minimum time between two warnings about pings that could not be sent. */
const UNSENT_REPORT_INTERVAL_MS = 60_000;

/** Why a unit was pinged. Only a missed scheduled ping counts against the unit. */
export const PING_REASON = { scheduled: 0, unscheduled: 1, retry: 2 } as const;
type RequestReason = (typeof PING_REASON)['unscheduled' | 'retry'];

/** The results of one thread's part of a slot. `units`, `reasons` and the columns of `results` have the same order. */
export interface SlotOutcome {
  readonly units: Uint32Array;
  readonly reasons: Uint8Array;
  readonly results: SlotResults;
}

export interface PingSchedulerOptions {
  readonly schedule: PingSchedule;
  readonly table: UnitTable;
  readonly unitIndex: Pick<UnitIndex, 'beginTask' | 'endTask'>;
  readonly pool: Pick<PingPool, 'ping'>;
  readonly threads: number;
  readonly timeoutMs: number;
  readonly clock: PingerClock;
  readonly counters: PingCounters;
  /** Receives the results of each thread's part of a slot; must not throw. Some of the units may have been removed since. */
  readonly onResults: (outcome: SlotOutcome) => void;
  readonly log: Log;
}

export class PingScheduler {
  readonly #options: PingSchedulerOptions;
  /** 1 at the index of every unit that is pinged. */
  readonly #isPinged: Uint8Array;
  #size = 0;
  readonly #phasesMs: Float64Array;
  /** The units of each slot of an interval, by index, sorted by phase where `#isSorted`. */
  readonly #slots: Uint32Array[];
  readonly #isSorted: boolean[];
  /** How many pings of each unit are in flight. */
  readonly #pingsInFlight: Uint8Array;
  readonly #requests = new Map<number, RequestReason>();
  readonly #retryBudget: TokenBucket;
  #unsent = 0;
  #unsentReportedMs = Number.NEGATIVE_INFINITY;
  readonly #slotsInFlight = new TaskSet();
  readonly #jumpDetector: ClockJumpDetector;
  readonly #assignment: ThreadAssignment;
  #lastSlot: number;
  /** When every unit has been pinged since the last clock jump, on the monotonic clock. */
  #settledFromMs = Number.NEGATIVE_INFINITY;
  #cancelTick: (() => void) | undefined;
  #stopped = false;

  constructor(options: PingSchedulerOptions) {
    const { schedule, table, threads, timeoutMs, clock } = options;
    this.#options = options;
    this.#assignment = new ThreadAssignment({ threads, intervalMs: schedule.intervalMs, timeoutMs });
    this.#isPinged = new Uint8Array(table.capacity);
    this.#phasesMs = new Float64Array(table.capacity);
    this.#pingsInFlight = new Uint8Array(table.capacity);
    this.#slots = Array.from({ length: schedule.slotsPerInterval }, () => new Uint32Array(0));
    this.#isSorted = this.#slots.map(() => true);
    this.#retryBudget = new TokenBucket(MAX_RETRY_BURST, clock.monotonic);
    this.#jumpDetector = new ClockJumpDetector(clock);
    this.#lastSlot = schedule.slotAt(clock.now() + LEAD_MS);
  }

  start(): void {
    this.#tick();
  }

  /** Sends no further pings, and waits for those in flight. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTick?.();
    await this.#slotsInFlight.settled();
  }

  /** How many units are pinged. */
  get size(): number {
    return this.#size;
  }

  /** Whether the unit at this index is pinged. */
  has(index: number): boolean {
    return this.#isPinged[index] === 1;
  }

  /** Pings a unit from the next interval on, or pings it at another address or with another key than before. */
  upsert(index: number, unit: UnitRow): void {
    const { table, schedule } = this.#options;
    table.write(index, unit);
    if (this.has(index)) return;
    this.#isPinged[index] = 1;
    this.#size += 1;
    this.#phasesMs[index] = schedule.phaseOf(unit.hash);
    this.#addToSlot(index);
  }

  remove(index: number): void {
    if (!this.has(index)) return;
    this.#isPinged[index] = 0;
    this.#size -= 1;
    this.#requests.delete(index);
    const slotIndex = this.#slotIndexOf(index);
    this.#slots[slotIndex] = (this.#slots[slotIndex] ?? new Uint32Array(0)).filter((other) => other !== index);
  }

  writeRecorded(index: number, recorded: RecordedPosition | undefined): void {
    this.#options.table.writeRecorded(index, recorded);
  }

  /** Pings a unit in one of the next slots. A miss of this ping does not count against the unit. */
  requestPing(index: number): void {
    this.#request(index, PING_REASON.unscheduled);
  }

  #request(index: number, reason: RequestReason): void {
    if (this.#requests.size < MAX_REQUESTED_UNITS || this.#requests.has(index)) this.#requests.set(index, reason);
  }

  #slotIndexOf(index: number): number {
    return this.#options.schedule.slotIndexOfPhase(this.#phasesMs[index] ?? 0);
  }

  #addToSlot(index: number): void {
    const slotIndex = this.#slotIndexOf(index);
    const before = this.#slots[slotIndex] ?? new Uint32Array(0);
    const units = new Uint32Array(before.length + 1);
    units.set(before);
    units[before.length] = index;
    this.#slots[slotIndex] = units;
    this.#isSorted[slotIndex] = false;
  }

  /** Starts the slots that are due, and schedules the next tick before the next slot begins. */
  #tick(): void {
    if (this.#stopped) return;
    const { clock, schedule, counters } = this.#options;
    const jumpMs = this.#jumpDetector.detectJumpMs();
    if (jumpMs !== 0) this.#restart(jumpMs);
    const due = schedule.dueSlots(this.#lastSlot, clock.now() + LEAD_MS);
    this.#lastSlot = due.lastSlot;
    if (due.skipped > 0) counters.increment('skippedSlots', due.skipped);
    for (const slot of due.slots) this.#startSlot(slot);
    const untilNextMs = schedule.slotStartMs(this.#lastSlot + 1) - LEAD_MS - clock.now();
    // At most one slot width ahead, so that the next tick detects a clock jump soon.
    this.#cancelTick = clock.after(Math.min(schedule.widthMs, Math.max(0, untilNextMs)), () => this.#tick());
  }

  #restart(jumpMs: number): void {
    const { clock, schedule, counters, log } = this.#options;
    counters.increment('clockJumps');
    log.warn(
      'The system clock jumped. The ping schedule restarts at the new time; no unit is judged by a ping from before.',
      {
        jumpMs: Math.round(jumpMs),
      },
    );
    this.#lastSlot = schedule.slotAt(clock.now() + LEAD_MS);
    this.#settledFromMs = clock.monotonic() + schedule.intervalMs;
  }

  #startSlot(slot: number): void {
    const { schedule, threads, table, clock } = this.#options;
    const startMs = schedule.slotStartMs(slot);
    const isSettled = clock.monotonic() >= this.#settledFromMs;
    const scheduledReason = isSettled ? PING_REASON.scheduled : PING_REASON.unscheduled;
    const scheduled = this.#scheduledUnits(schedule.slotIndexOf(slot));
    const requested = this.#takeRequested(slot, scheduled);
    for (let thread = 0; thread < threads; thread += 1) {
      const isOfThread = (index: number) => this.#assignment.threadOf(index, table.probes[index] ?? 0) === thread;
      const batch = interleave({
        scheduled: scheduled.filter(isOfThread),
        scheduledReason,
        requested: requested.filter(([index]) => isOfThread(index)),
        offsetMsOf: (index) => (this.#phasesMs[index] ?? 0) % schedule.widthMs,
        widthMs: schedule.widthMs,
      });
      if (batch.units.length > 0) this.#slotsInFlight.add(this.#ping(thread, startMs, batch));
    }
  }

  /** The units of a slot, sorted by phase. */
  #scheduledUnits(slotIndex: number): Uint32Array {
    const units = this.#slots[slotIndex] ?? new Uint32Array(0);
    if (!this.#isSorted[slotIndex]) units.sort((a, b) => (this.#phasesMs[a] ?? 0) - (this.#phasesMs[b] ?? 0));
    this.#isSorted[slotIndex] = true;
    return units;
  }

  /** Takes requests for this slot. Drops those of units with a ping in flight or with a scheduled ping within the time-out. */
  #takeRequested(slot: number, scheduled: Uint32Array): (readonly [index: number, reason: number])[] {
    if (this.#requests.size === 0) return [];
    const taken: (readonly [number, number])[] = [];
    for (const index of scheduled) this.#requests.delete(index);
    for (const [index, reason] of this.#requests) {
      if (taken.length >= MAX_REQUESTED_PER_SLOT) break;
      this.#requests.delete(index);
      if (this.#pingsInFlight[index] === 0 && !this.#isScheduledSoon(index, slot)) taken.push([index, reason]);
    }
    return taken;
  }

  #isScheduledSoon(index: number, slot: number): boolean {
    const { schedule, timeoutMs } = this.#options;
    const { slotsPerInterval, widthMs } = schedule;
    const slotsAhead = (this.#slotIndexOf(index) - schedule.slotIndexOf(slot) + slotsPerInterval) % slotsPerInterval;
    return (slotsAhead - 1) * widthMs <= timeoutMs;
  }

  async #ping(thread: number, startMs: number, { units, reasons, offsetsMs }: SlotBatch): Promise<void> {
    const { pool, unitIndex, counters, log, onResults } = this.#options;
    const task = unitIndex.beginTask();
    counters.increment('pings', units.length);
    for (const index of units) this.#pingsInFlight[index] = (this.#pingsInFlight[index] ?? 0) + 1;
    try {
      const results = await pool.ping(thread, { startMs, units, offsetsMs });
      for (const index of units) this.#pingsInFlight[index] = (this.#pingsInFlight[index] ?? 1) - 1;
      if (this.#stopped) return;
      if (results === undefined) counters.increment('discarded', units.length);
      else {
        this.#count({ units, reasons, results });
        onResults({ units, reasons, results });
      }
    } catch (error) {
      log.error('The results of a slot could not be processed. Its pings are lost; the next slot continues.', {
        reason: errorMessage(error),
        units: units.length,
      });
    } finally {
      unitIndex.endTask(task);
    }
  }

  #count({ units, reasons, results }: SlotOutcome): void {
    const { counters } = this.#options;
    for (const [index, anomaly] of PING_ANOMALIES.entries()) counters.increment(anomaly, results.anomalies[index] ?? 0);
    this.#reportUnsent(results.anomalies[PING_ANOMALIES.indexOf('unsent')] ?? 0);
    let [answered, missed, discarded] = [0, 0, 0];
    for (let row = 0; row < units.length; row += 1) {
      const isScheduled = reasons[row] === PING_REASON.scheduled;
      // A ping that was never sent has no lag.
      if (isScheduled && results.sentAtMs[row] !== 0) counters.recordLag(results.lagsMs[row] ?? 0);
      if (results.outcomes[row] === PING_OUTCOME.answered) answered += 1;
      else if (results.outcomes[row] === PING_OUTCOME.discarded) discarded += 1;
      else {
        missed += 1;
        if (isScheduled) this.#retry(units[row] ?? 0);
      }
    }
    counters.increment('answered', answered);
    counters.increment('missed', missed);
    counters.increment('discarded', discarded);
  }

  #reportUnsent(pings: number): void {
    const { clock, log } = this.#options;
    const nowMs = clock.monotonic();
    this.#unsent += pings;
    if (this.#unsent === 0 || nowMs - this.#unsentReportedMs < UNSENT_REPORT_INTERVAL_MS) return;
    log.warn(
      'Pings could not be sent: this machine has no free descriptor, port, memory or NATS connection. No unit is judged by ' +
        'them. Raise the limit of open files or the range of local ports, or check NATS.',
      { pings: this.#unsent },
    );
    this.#unsent = 0;
    this.#unsentReportedMs = nowMs;
  }

  #retry(index: number): void {
    const { schedule, counters } = this.#options;
    if (!this.has(index) || !this.#retryBudget.tryTake((RETRY_SHARE * this.size) / schedule.intervalMs)) return;
    counters.increment('retries');
    this.#request(index, PING_REASON.retry);
  }
}

/** The pings of one slot on one thread, sorted by the offset at which each is due. */
interface SlotBatch {
  readonly units: Uint32Array;
  readonly reasons: Uint8Array;
  /** Milliseconds after the start of the slot. */
  readonly offsetsMs: Float32Array;
}

interface SlotParts {
  /** Sorted by offset. */
  readonly scheduled: Uint32Array;
  readonly scheduledReason: number;
  readonly requested: readonly (readonly [index: number, reason: number])[];
  readonly offsetMsOf: (index: number) => number;
  readonly widthMs: number;
}

/** Places scheduled units at their offsets in the slot, and spreads requested units evenly over it. */
function interleave({ scheduled, scheduledReason, requested, offsetMsOf, widthMs }: SlotParts): SlotBatch {
  const count = scheduled.length + requested.length;
  const [units, reasons, offsetsMs] = [new Uint32Array(count), new Uint8Array(count), new Float32Array(count)];
  let [nextScheduled, nextRequested] = [0, 0];
  for (let row = 0; row < count; row += 1) {
    const isLeft = nextScheduled < scheduled.length;
    const scheduledMs = isLeft ? offsetMsOf(scheduled[nextScheduled] ?? 0) : Number.POSITIVE_INFINITY;
    const requestedMs =
      nextRequested < requested.length ? (nextRequested * widthMs) / requested.length : Number.POSITIVE_INFINITY;
    const request = requestedMs < scheduledMs ? requested[nextRequested] : undefined;
    units[row] = request?.[0] ?? scheduled[nextScheduled] ?? 0;
    reasons[row] = request?.[1] ?? scheduledReason;
    offsetsMs[row] = Math.min(scheduledMs, requestedMs);
    if (request === undefined) nextScheduled += 1;
    else nextRequested += 1;
  }
  return { units, reasons, offsetsMs };
}

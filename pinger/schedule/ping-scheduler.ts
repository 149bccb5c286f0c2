/**
 * The rounds of the pinger: every unit once in each interval at its own instant, and between that the units that should be
 * asked out of turn: those that are new here, and those that did not answer, as far as the budget of retries goes.
 *
 * A slot is handed to the threads shortly before it begins, each unit to the thread that it always meets. A slot that comes
 * too late or finds no place is left out and counted: then nothing is known about its units, and nothing is held against them.
 * The system's clock may jump, and with it the instants of all units. Then the rounds start anew at once, with nothing to catch
 * up. Until each unit was asked once, a unit may be asked sooner than an interval after the last time: that it does not answer
 * counts for nothing.
 */

import { errorMessage } from '../../platform/observability/error-message.ts';
import type { Log } from '../../platform/observability/log.ts';
import type { PingPool } from '../pool/ping-pool.ts';
import { PING_OUTCOME, type SlotResults } from '../pool/slot-results.ts';
import { ThreadAssignment } from '../pool/thread-assignment.ts';
import { PING_ANOMALIES } from '../probes/probe.ts';
import type { PingCounters } from '../telemetry/ping-counters.ts';
import { ClockJumpDetector, type PingerClock } from '../time/clock.ts';
import { TokenBucket } from '../time/token-bucket.ts';
import type { UnitIndex } from '../units/unit-index.ts';
import type { RecordedPlace, UnitRow, UnitTable } from '../units/unit-table.ts';
import type { PingSchedule } from './ping-schedule.ts';

/** How long before it begins a slot is handed to the threads: the thread that decides and publishes may be busy for so long. */
const LEAD_MS = 250;
/** Units that wait to be asked out of turn; of further ones nobody asks before their turn. */
const MAX_WAITING_OUT_OF_TURN = 50_000;
/** Most pings out of turn in one slot, so that a start with many units is no storm. */
const MAX_OUT_OF_TURN_PER_SLOT = 200;
/** Retries come to at most this part of all pings. */
const RETRY_SHARE = 0.1;
/** Retries that may be made at once when there were none for a while. */
const MAX_RETRY_BURST = 100;

/** The longest that pings which could not be sent go unmentioned. */
const UNSENT_REPORT_INTERVAL_MS = 60_000;

/** Why a unit was asked. */
export const PING_REASON = { own: 0, soon: 1, retry: 2 } as const;

/** What came of a thread's part of a slot. `units`, `turns` and the columns of `results` have the same order. */
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
  /** Called with what came of each part of a slot; must not throw. Some units may have been removed meanwhile. */
  readonly onResults: (results: SlotOutcome) => void;
  readonly log: Log;
}

export class PingScheduler {
  readonly #options: PingSchedulerOptions;
  /** Which indexes are those of units that are pinged, and how many. */
  readonly #isIn: Uint8Array;
  #size = 0;
  readonly #instantsMs: Float64Array;
  /** Of each unit, by which slot of the interval. */
  readonly #slots: Uint32Array[];
  readonly #isSorted: boolean[];
  /** Pings under way of each unit. */
  readonly #underWay: Uint8Array;
  readonly #outOfTurn = new Map<number, (typeof PING_REASON)['soon' | 'retry']>();
  readonly #retries: TokenBucket;
  #unsent = 0;
  #unsentReportedMs = Number.NEGATIVE_INFINITY;
  readonly #working = new Set<Promise<void>>();
  readonly #clockWatch: ClockJumpDetector;
  readonly #dealing: ThreadAssignment;
  #lastSlot: number;
  /** From this moment of the clock that never jumps on, each unit is asked an interval after the last time. */
  #inTurnFromMs = Number.NEGATIVE_INFINITY;
  #cancel: (() => void) | undefined;
  #stopped = false;

  constructor(options: PingSchedulerOptions) {
    const { schedule, table, threads, timeoutMs, clock } = options;
    this.#options = options;
    this.#dealing = new ThreadAssignment({ threads, intervalMs: schedule.intervalMs, timeoutMs });
    this.#isIn = new Uint8Array(table.capacity);
    this.#instantsMs = new Float64Array(table.capacity);
    this.#underWay = new Uint8Array(table.capacity);
    this.#slots = Array.from({ length: schedule.slotsPerInterval }, () => new Uint32Array(0));
    this.#isSorted = this.#slots.map(() => true);
    this.#retries = new TokenBucket(MAX_RETRY_BURST, clock.monotonic);
    this.#clockWatch = new ClockJumpDetector(clock);
    this.#lastSlot = schedule.slotAt(clock.now() + LEAD_MS);
  }

  start(): void {
    this.#tick();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel?.();
    await Promise.all(this.#working);
  }

  get size(): number {
    return this.#size;
  }

  has(index: number): boolean {
    return this.#isIn[index] === 1;
  }

  /** Pings a unit from now on, or in another way. */
  upsert(index: number, unit: UnitRow): void {
    const { table, schedule } = this.#options;
    table.write(index, unit);
    if (this.has(index)) return;
    this.#isIn[index] = 1;
    this.#size += 1;
    this.#instantsMs[index] = schedule.instantOf(unit.hash);
    this.#enlist(index);
  }

  remove(index: number): void {
    if (!this.has(index)) return;
    this.#isIn[index] = 0;
    this.#size -= 1;
    this.#outOfTurn.delete(index);
    const slot = this.#slotOf(index);
    this.#slots[slot] = (this.#slots[slot] ?? new Uint32Array(0)).filter((other) => other !== index);
  }

  writeRecorded(index: number, recorded: RecordedPlace | undefined): void {
    this.#options.table.writeRecorded(index, recorded);
  }

  /** Asks a unit out of turn, as soon as there is place. That it does not answer then counts for nothing. */
  pingOutOfSchedule(index: number): void {
    this.#askOutOfTurn(index, PING_REASON.soon);
  }

  #askOutOfTurn(index: number, turn: (typeof PING_REASON)['soon' | 'retry']): void {
    if (this.#outOfTurn.size < MAX_WAITING_OUT_OF_TURN || this.#outOfTurn.has(index)) this.#outOfTurn.set(index, turn);
  }

  #slotOf(index: number): number {
    return this.#options.schedule.indexOfInstant(this.#instantsMs[index] ?? 0);
  }

  #enlist(index: number): void {
    const slot = this.#slotOf(index);
    const before = this.#slots[slot] ?? new Uint32Array(0);
    const units = new Uint32Array(before.length + 1);
    units.set(before);
    units[before.length] = index;
    this.#slots[slot] = units;
    this.#isSorted[slot] = false;
  }

  /** Takes what is due, and comes again before the next slot begins. */
  #tick(): void {
    if (this.#stopped) return;
    const { clock, schedule, counters: meter } = this.#options;
    const jumpMs = this.#clockWatch.detectJumpMs();
    if (jumpMs !== 0) this.#startAnew(jumpMs);
    const due = schedule.dueSlots(this.#lastSlot, clock.now() + LEAD_MS);
    this.#lastSlot = due.lastSlot;
    if (due.skipped > 0) meter.increment('skippedSlots', due.skipped);
    for (const slot of due.slots) this.#takeSlot(slot);
    const untilNextMs = schedule.startMs(this.#lastSlot + 1) - LEAD_MS - clock.now();
    // Never longer than a slot: a clock that jumps is noticed.
    this.#cancel = clock.after(Math.min(schedule.widthMs, Math.max(0, untilNextMs)), () => this.#tick());
  }

  #startAnew(jumpMs: number): void {
    const { clock, schedule, counters: meter, log } = this.#options;
    meter.increment('clockJumps');
    log.warn("the system's clock jumped: the rounds start anew", { jumpMs: Math.round(jumpMs) });
    this.#lastSlot = schedule.slotAt(clock.now() + LEAD_MS);
    this.#inTurnFromMs = clock.monotonic() + schedule.intervalMs;
  }

  #takeSlot(slot: number): void {
    const { schedule, threads, table, clock } = this.#options;
    const startMs = schedule.startMs(slot);
    const ownTurn = clock.monotonic() < this.#inTurnFromMs ? PING_REASON.soon : PING_REASON.own;
    const own = this.#inOrder(schedule.indexOfSlot(slot));
    const others = this.#takeOutOfTurn(slot, own);
    for (let thread = 0; thread < threads; thread += 1) {
      const isOfThread = (index: number) => this.#dealing.threadOf(index, table.probes[index] ?? 0) === thread;
      const part = merge(
        own.filter(isOfThread),
        others.filter(([index]) => isOfThread(index)),
        (index) => (this.#instantsMs[index] ?? 0) % schedule.widthMs,
        schedule.widthMs,
        ownTurn,
      );
      if (part.units.length > 0) this.#track(this.#ping(thread, startMs, part));
    }
  }

  #inOrder(slot: number): Uint32Array {
    const units = this.#slots[slot] ?? new Uint32Array(0);
    if (!this.#isSorted[slot]) units.sort((a, b) => (this.#instantsMs[a] ?? 0) - (this.#instantsMs[b] ?? 0));
    this.#isSorted[slot] = true;
    return units;
  }

  /** Not those whose turn has come or comes before the time is up, nor those that are being asked. */
  #takeOutOfTurn(slot: number, own: Uint32Array): (readonly [index: number, turn: number])[] {
    if (this.#outOfTurn.size === 0) return [];
    const taken: (readonly [number, number])[] = [];
    for (const index of own) this.#outOfTurn.delete(index);
    for (const [index, turn] of this.#outOfTurn) {
      if (taken.length >= MAX_OUT_OF_TURN_PER_SLOT) break;
      this.#outOfTurn.delete(index);
      if (this.#underWay[index] === 0 && !this.#isTurnNear(index, slot)) taken.push([index, turn]);
    }
    return taken;
  }

  #isTurnNear(index: number, slot: number): boolean {
    const { schedule, timeoutMs } = this.#options;
    const slots =
      (this.#slotOf(index) - schedule.indexOfSlot(slot) + schedule.slotsPerInterval) % schedule.slotsPerInterval;
    return (slots - 1) * schedule.widthMs <= timeoutMs;
  }

  async #ping(thread: number, startMs: number, { units, turns, offsetsMs }: Part): Promise<void> {
    const { pool, unitIndex: roster, counters: meter, log, onResults } = this.#options;
    const task = roster.beginTask();
    meter.increment('pings', units.length);
    for (const index of units) this.#underWay[index] = (this.#underWay[index] ?? 0) + 1;
    try {
      const results = await pool.ping(thread, { startMs, units, offsetsMs });
      for (const index of units) this.#underWay[index] = (this.#underWay[index] ?? 1) - 1;
      if (this.#stopped) return;
      if (results === undefined) meter.increment('discarded', units.length);
      else {
        this.#measure({ units, reasons: turns, results });
        onResults({ units, reasons: turns, results });
      }
    } catch (error) {
      log.error('what came of a slot could not be taken', { reason: errorMessage(error) });
    } finally {
      roster.endTask(task);
    }
  }

  #measure({ units, reasons: turns, results }: SlotOutcome): void {
    const { counters: meter } = this.#options;
    for (const [index, stray] of PING_ANOMALIES.entries()) meter.increment(stray, results.anomalies[index] ?? 0);
    this.#reportUnsent(results.anomalies[PING_ANOMALIES.indexOf('unsent')] ?? 0);
    let [answered, missed, discarded] = [0, 0, 0];
    for (let place = 0; place < units.length; place += 1) {
      // What was never sent was not late.
      if (turns[place] === PING_REASON.own && results.sentAtMs[place] !== 0)
        meter.recordLag(results.lagsMs[place] ?? 0);
      if (results.outcomes[place] === PING_OUTCOME.answered) answered += 1;
      else if (results.outcomes[place] === PING_OUTCOME.discarded) discarded += 1;
      else {
        missed += 1;
        if (turns[place] === PING_REASON.own) this.#retry(units[place] ?? 0);
      }
    }
    meter.increment('answered', answered);
    meter.increment('missed', missed);
    meter.increment('discarded', discarded);
  }

  #reportUnsent(pings: number): void {
    const { clock, log } = this.#options;
    const nowMs = clock.monotonic();
    this.#unsent += pings;
    if (this.#unsent === 0 || nowMs - this.#unsentReportedMs < UNSENT_REPORT_INTERVAL_MS) return;
    log.warn('pings were not sent: there is no descriptor, port, memory or connection for them', {
      pings: this.#unsent,
    });
    this.#unsent = 0;
    this.#unsentReportedMs = nowMs;
  }

  #retry(index: number): void {
    const { schedule, counters: meter } = this.#options;
    if (!this.has(index) || !this.#retries.tryTake((RETRY_SHARE * this.size) / schedule.intervalMs)) return;
    meter.increment('retries');
    this.#askOutOfTurn(index, PING_REASON.retry);
  }

  /** Keeps what is under way, so that `stop` can wait for it. */
  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#working.delete(tracked));
    this.#working.add(tracked);
  }
}

interface Part {
  readonly units: Uint32Array;
  readonly turns: Uint8Array;
  readonly offsetsMs: Float32Array;
}

/** Those whose turn it is at their instants, the others evenly between them. */
function merge(
  own: Uint32Array,
  others: readonly (readonly [index: number, turn: number])[],
  offsetMs: (index: number) => number,
  widthMs: number,
  ownTurn: number,
): Part {
  const count = own.length + others.length;
  const [units, turns, offsetsMs] = [new Uint32Array(count), new Uint8Array(count), new Float32Array(count)];
  let [nextOwn, nextOther] = [0, 0];
  for (let place = 0; place < count; place += 1) {
    const ownMs = nextOwn < own.length ? offsetMs(own[nextOwn] ?? 0) : Number.POSITIVE_INFINITY;
    const otherMs = nextOther < others.length ? (nextOther * widthMs) / others.length : Number.POSITIVE_INFINITY;
    offsetsMs[place] = Math.min(ownMs, otherMs);
    const [index, turn] = (otherMs < ownMs ? others[nextOther] : [own[nextOwn] ?? 0, ownTurn]) ?? [0, ownTurn];
    units[place] = index;
    turns[place] = turn;
    if (otherMs < ownMs) nextOther += 1;
    else nextOwn += 1;
  }
  return { units, turns, offsetsMs };
}

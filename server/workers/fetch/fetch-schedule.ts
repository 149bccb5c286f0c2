/**
 * Decides which units the fetch worker asks for their log, and when. The schedule is pure: time is an argument.
 *
 * A unit of `delivery: "fetch"` has one slot in each interval, at `hash(unit) mod interval` in absolute time, so that the load
 * on units and servers is flat. In the same slot the worker asks a unit that pushes and that no pinger pings, when the platform has
 * recorded more of its log than it has confirmed to the unit: a unit may delete only confirmed events, and only a ping or a fetch
 * confirms them. Outside its slot the worker asks a unit whose log has a gap, and a unit that reports events of which none has been
 * recorded for `BEHIND_GRACE_MS`. The worker retries a unit that yields no events with exponential backoff (5 s to 5 min).
 *
 * The schedule holds only units of which one of these is or may become true, in a queue by the time at which each may become due.
 * So the cost of a step depends on the number of due units, not on the size of the fleet.
 */

import TinyQueue from 'tinyqueue';
import { unitHash } from '../../../domain/shard.ts';
import type { LogPosition } from '../../../platform/unit-log/unit-log-client.ts';

/** A unit that is behind for less than this is not asked, because its next push may bring the events. */
export const BEHIND_GRACE_MS = 15_000;
/** Exponential backoff between attempts that yield no events: the pause doubles from the first value to the second. */
export const FIRST_RETRY_MS = 5_000;
export const MAX_RETRY_MS = 300_000;
/** Pause after an attempt that yielded events: the read model shows them meanwhile. */
export const PROGRESS_PAUSE_MS = 1_000;
/** Pings confirm recorded events to a unit until this long after its last answer. */
export const PINGED_FOR_MS = 600_000;
/** Hex digits of the unit's hash that choose its slot: with eight, slots are finer than a millisecond in any interval. */
const SLOT_HASH_LETTERS = 8;
/** Stale entries of the queue are dropped when the queue is longer than this, and than so many times the number of units. */
const MIN_COMPACTION_LENGTH = 1_000;
const COMPACTION_FACTOR = 4;

export interface FetchTarget {
  readonly name: string;
  readonly delivery: 'push' | 'fetch';
  readonly online: boolean;
  /** When the unit last answered a ping, milliseconds since 1970. Each ping confirms which events are recorded. */
  readonly lastPingAnsweredAtMs: number | undefined;
  /** Events are missing between events that the platform has received. */
  readonly hasGap: boolean;
  /** The last position of its log that the unit reported. */
  readonly reported: LogPosition | undefined;
  /** The last recorded position. The read model that supplies it may lag. */
  readonly recorded: LogPosition | undefined;
}

/**
 * Why a unit is asked: `slot` is its slot of the interval, `confirm` tells it which events are recorded, `behind` brings events
 * that it reports and did not push, `gap` brings events that are missing between recorded or waiting ones.
 */
export type FetchReason = 'slot' | 'confirm' | 'behind' | 'gap';

export interface DueFetch {
  readonly name: string;
  readonly reason: FetchReason;
}

/** What the schedule remembers of a unit. Times are milliseconds since 1970. */
interface ScheduledUnit {
  target: FetchTarget;
  /** When the read model was last read for it. */
  readAtMs: number;
  /** Where its slot begins in the interval: 0 to below 1. */
  readonly phase: number;
  /** Number of the slot in which the worker asked the unit last. */
  lastSlot: number;
  /** `EPOCH:SEQ`, or empty when nothing of the unit is recorded. */
  recorded: string;
  recordedSinceMs: number;
  /** Since when the unit is behind and `recorded` has not changed. */
  behindSinceMs: number;
  /** The recorded position that was confirmed to the unit; undefined when this process does not know. */
  confirmed: string | undefined;
  /** Attempts in a row that yielded no events. */
  failures: number;
  /** End of the backoff. */
  notBeforeMs: number;
  /** When the unit may become due. An entry of the queue with another time is stale. */
  dueMs: number;
}

interface QueueEntry {
  readonly name: string;
  readonly dueMs: number;
}

export class FetchSchedule {
  readonly #intervalMs: number;
  readonly #units = new Map<string, ScheduledUnit>();
  #queue = new TinyQueue<QueueEntry>([], (a, b) => a.dueMs - b.dueMs);

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Units that the schedule holds. */
  get size(): number {
    return this.#units.size;
  }

  /** Entries of the queue, stale ones included. */
  get queueLength(): number {
    return this.#queue.length;
  }

  /** Records what the read model says of a unit. */
  update(target: FetchTarget, nowMs: number): void {
    const unit = this.#units.get(target.name) ?? this.#newUnit(target, nowMs);
    unit.target = target;
    unit.readAtMs = nowMs;
    const recorded = positionText(target.recorded);
    const hasProgressed = unit.recorded !== recorded;
    if (hasProgressed) unit.recordedSinceMs = nowMs;
    if (hasProgressed || !isBehind(target)) unit.behindSinceMs = nowMs;
    unit.recorded = recorded;
    // A ping that was answered after the position was recorded has confirmed it.
    if ((target.lastPingAnsweredAtMs ?? 0) > unit.recordedSinceMs) unit.confirmed = recorded;
    if (!mayBecomeDue(unit)) {
      this.#units.delete(target.name);
      return;
    }
    this.#units.set(target.name, unit);
    this.#schedule(unit, nowMs);
  }

  remove(name: string): void {
    this.#units.delete(name);
  }

  /** Removes every unit that is not among those names. */
  retain(names: ReadonlySet<string>): void {
    for (const name of this.#units.keys()) if (!names.has(name)) this.#units.delete(name);
  }

  /** Whether `due` may find something now. */
  hasDue(nowMs: number): boolean {
    return (this.#queue.peek()?.dueMs ?? Number.POSITIVE_INFINITY) <= nowMs;
  }

  /**
   * Removes due units from the queue. @returns at most `limit` units to ask, of which the caller records each attempt, and the
   * units whose rows the caller reads again (`outdated`), because their last known ping is long ago
   */
  due(nowMs: number, limit: number): { readonly fetches: readonly DueFetch[]; readonly outdated: readonly string[] } {
    const fetches: DueFetch[] = [];
    const outdated: string[] = [];
    while (fetches.length < limit) {
      const next = this.#queue.peek();
      if (next === undefined || next.dueMs > nowMs) break;
      this.#queue.pop();
      const unit = this.#units.get(next.name);
      if (unit === undefined || unit.dueMs !== next.dueMs) continue;
      unit.dueMs = Number.POSITIVE_INFINITY;
      const reason = this.#reason(unit, nowMs);
      if (reason !== undefined) fetches.push({ name: next.name, reason });
      else if (isUnconfirmed(unit) && wasPinged(unit) && nowMs >= confirmedByPingsUntilMs(unit.target))
        outdated.push(next.name);
      else this.#schedule(unit, nowMs);
    }
    return { fetches, outdated };
  }

  /** Records that the worker starts to fetch from a unit, and begins its backoff. */
  recordAttempt(name: string, nowMs: number): void {
    const unit = this.#units.get(name);
    if (unit === undefined) return;
    unit.lastSlot = this.#slotOf(unit, nowMs);
    unit.notBeforeMs = nowMs + Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** unit.failures);
    unit.failures += 1;
    this.#schedule(unit, nowMs);
  }

  /**
   * Records that a unit answered with `events` new events. The request has confirmed to it which events are recorded. A fetch that
   * achieved its purpose ends the backoff.
   */
  recordAnswer({ name, reason }: DueFetch, events: number, nowMs: number): void {
    const unit = this.#units.get(name);
    if (unit === undefined) return;
    unit.confirmed = unit.recorded;
    if (events > 0 || reason === 'confirm') {
      unit.failures = 0;
      unit.notBeforeMs = nowMs + PROGRESS_PAUSE_MS;
    }
    this.#schedule(unit, nowMs);
  }

  #newUnit(target: FetchTarget, nowMs: number): ScheduledUnit {
    const phase = Number.parseInt(unitHash(target.name).slice(0, SLOT_HASH_LETTERS), 16) / 16 ** SLOT_HASH_LETTERS;
    const recorded = positionText(target.recorded);
    const unit: ScheduledUnit = {
      target,
      phase,
      lastSlot: 0,
      recorded,
      recordedSinceMs: nowMs,
      behindSinceMs: nowMs,
      confirmed: undefined,
      readAtMs: nowMs,
      failures: 0,
      notBeforeMs: 0,
      dueMs: Number.POSITIVE_INFINITY,
    };
    // A new unit is due in its next slot, so that a process that starts does not ask all units at once.
    unit.lastSlot = this.#slotOf(unit, nowMs);
    return unit;
  }

  #schedule(unit: ScheduledUnit, nowMs: number): void {
    const dueMs = this.#nextDueMs(unit, nowMs);
    if (dueMs === unit.dueMs) return;
    unit.dueMs = dueMs;
    if (Number.isFinite(dueMs)) this.#queue.push({ name: unit.target.name, dueMs });
    this.#dropStaleEntries();
  }

  /** When the unit may become due, if its row does not change before. */
  #nextDueMs(unit: ScheduledUnit, nowMs: number): number {
    const { target, notBeforeMs } = unit;
    if (!target.online) return Number.POSITIVE_INFINITY;
    const slotMs = (unit.lastSlot + 1 + unit.phase) * this.#intervalMs;
    const times = [Number.POSITIVE_INFINITY];
    if (target.delivery === 'fetch') times.push(slotMs);
    if (target.hasGap) times.push(notBeforeMs);
    if (isBehind(target) && target.delivery === 'push')
      times.push(Math.max(notBeforeMs, unit.behindSinceMs + BEHIND_GRACE_MS));
    if (isUnconfirmed(unit))
      times.push(wasPinged(unit) ? confirmedByPingsUntilMs(target) : Math.max(slotMs, notBeforeMs));
    return Math.max(nowMs, Math.min(...times));
  }

  #reason(unit: ScheduledUnit, nowMs: number): FetchReason | undefined {
    const { target } = unit;
    if (!target.online) return undefined;
    const isInNewSlot = this.#slotOf(unit, nowMs) !== unit.lastSlot;
    if (isInNewSlot && target.delivery === 'fetch') return 'slot';
    if (nowMs < unit.notBeforeMs) return undefined;
    if (isInNewSlot && isUnconfirmed(unit) && !wasPinged(unit)) return 'confirm';
    if (target.hasGap) return 'gap';
    const hasWaited = nowMs - unit.behindSinceMs >= BEHIND_GRACE_MS;
    return target.delivery === 'push' && isBehind(target) && hasWaited ? 'behind' : undefined;
  }

  /** Slots are numbered from 1970. */
  #slotOf({ phase }: ScheduledUnit, nowMs: number): number {
    return Math.floor(nowMs / this.#intervalMs - phase);
  }

  /** Keeps the length of the queue in proportion to the number of units. */
  #dropStaleEntries(): void {
    if (this.#queue.length < Math.max(MIN_COMPACTION_LENGTH, COMPACTION_FACTOR * this.#units.size)) return;
    const entries = [...this.#units.values()].filter(({ dueMs }) => Number.isFinite(dueMs));
    this.#queue = new TinyQueue(
      entries.map(({ target, dueMs }) => ({ name: target.name, dueMs })),
      (a, b) => a.dueMs - b.dueMs,
    );
  }
}

function positionText(place: LogPosition | undefined): string {
  return place === undefined ? '' : `${place.epoch}:${place.seq}`;
}

/** Whether the unit reports a later position than the recorded one, or another epoch. */
function isBehind({ reported, recorded }: FetchTarget): boolean {
  if (reported === undefined || reported.seq === 0) return false;
  return recorded?.epoch !== reported.epoch || recorded.seq < reported.seq;
}

/** Whether a recorded position waits to be confirmed. A unit of `delivery: "fetch"` has it confirmed in its slot. */
function isUnconfirmed({ target, recorded, confirmed }: ScheduledUnit): boolean {
  return target.delivery === 'push' && recorded !== '' && recorded !== confirmed;
}

function confirmedByPingsUntilMs({ lastPingAnsweredAtMs = Number.NEGATIVE_INFINITY }: FetchTarget): number {
  return lastPingAnsweredAtMs + PINGED_FOR_MS;
}

/** Whether pings confirmed recorded events to the unit when its row was read. */
function wasPinged({ target, readAtMs }: ScheduledUnit): boolean {
  return confirmedByPingsUntilMs(target) > readAtMs;
}

/** Whether the schedule holds a unit. It keeps what it confirmed to an unpinged unit, so that it confirms a position once. */
function mayBecomeDue(unit: ScheduledUnit): boolean {
  const { target } = unit;
  return target.delivery === 'fetch' || target.hasGap || isBehind(target) || isUnconfirmed(unit) || !wasPinged(unit);
}

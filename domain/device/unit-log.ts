/**
 * Gaps, lost ranges and recovered events of a unit's log: the fold of its `log` events. `device` holds what is recorded.
 *
 *   events arrive out of order ──grace──▶ gap detected ──they arrive──▶ closed
 *                                               └──the unit has deleted them──▶ closed as lost; the log goes on behind it
 */

import { type EventOf, type KnownEvent, versionOf } from '../events/catalogue.ts';
import { lockerOfSubject } from '../events/cloud-event.ts';
import type { EventDraft } from '../events/drafts.ts';
import type { DeviceState } from './device.ts';
import { recordedSeq } from './epochs.ts';
import { occurredAt } from './unit-clock.ts';
import { findUsage, type Usage } from './usage.ts';

/** Places of recovered events that are kept, so that no event is recovered twice. */
const MAX_REMEMBERED_RECOVERIES = 500;
/** Open gaps of a unit. A batch behind a further one is refused; it would need epochs that begin in many places at once. */
export const MAX_OPEN_GAPS_PER_UNIT = 16;
/** Lost ranges of a unit that are kept, the last ones. A range counts until the next event of its epoch is recorded. */
export const MAX_LOST_RANGES_PER_UNIT = 100;

/** A range of seqs; both ends are inclusive. */
export interface SeqRange {
  readonly fromSeq: number;
  readonly toSeq: number;
}

export interface UnitLogState {
  /** The open gap of each epoch, at most `MAX_OPEN_GAPS_PER_UNIT`. */
  readonly gaps: Readonly<Record<string, SeqRange>>;
  /** The last lost range of each epoch: the log goes on behind it. At most `MAX_LOST_RANGES_PER_UNIT`, the newest last. */
  readonly lost: Readonly<Record<string, SeqRange>>;
  /** `EPOCH:SEQ` of recovered events. */
  readonly recovered: readonly string[];
  /** Usages of reservations that only recovered events prove. */
  readonly usages: Readonly<Record<string, Usage>>;
}

export const EMPTY_UNIT_LOG: UnitLogState = { gaps: {}, lost: {}, recovered: [], usages: {} };

export function evolveUnitLog(state: UnitLogState, event: KnownEvent): UnitLogState {
  switch (event.type) {
    case 'UnitLogGapDetected': {
      const { epoch, fromSeq, toSeq } = event.data;
      if (!hasRoomForGap(state, epoch)) return state;
      return { ...state, gaps: { ...state.gaps, [epoch]: { fromSeq, toSeq } } };
    }
    case 'UnitLogGapClosed':
      return applyGapClosed(state, event.data);
    case 'UnitEventRecovered':
      return applyRecovery(state, event.data, lockerOfSubject(event.subject));
    default:
      return state;
  }
}

function applyGapClosed(
  state: UnitLogState,
  { epoch, fromSeq, toSeq, lost }: EventOf<'UnitLogGapClosed'>,
): UnitLogState {
  const { [epoch]: open, ...gaps } = state.gaps;
  const rest = open !== undefined && open.toSeq > toSeq ? { fromSeq: toSeq + 1, toSeq: open.toSeq } : undefined;
  return {
    ...state,
    gaps: rest === undefined ? gaps : { ...gaps, [epoch]: rest },
    lost: lost ? withLostRange(state.lost, epoch, { fromSeq, toSeq }) : state.lost,
  };
}

function withLostRange(lost: UnitLogState['lost'], epoch: string, range: SeqRange): UnitLogState['lost'] {
  const { [epoch]: _, ...others } = lost;
  return Object.fromEntries([...Object.entries(others), [epoch, range]].slice(-MAX_LOST_RANGES_PER_UNIT));
}

function applyRecovery(
  state: UnitLogState,
  data: EventOf<'UnitEventRecovered'>,
  locker: string | undefined,
): UnitLogState {
  const recovered = [...state.recovered, logKeyOf(data)].slice(-MAX_REMEMBERED_RECOVERIES);
  const { reservationId } = data.data;
  if (!isReadableUsage(data) || locker === undefined || typeof reservationId !== 'string')
    return { ...state, recovered };
  const known = Object.hasOwn(state.usages, reservationId) ? state.usages[reservationId] : undefined;
  const { time, clockOffsetMs } = data;
  const at = occurredAt(clockOffsetMs === undefined ? { time } : { time, clockoffsetms: clockOffsetMs });
  const use: Usage =
    data.type === 'RentalStarted'
      ? { ...known, locker, startedAt: at }
      : { locker, startedAt: at, ...known, endedAt: at };
  const uses = Object.entries({ ...state.usages, [reservationId]: use }).slice(-MAX_REMEMBERED_RECOVERIES);
  return { ...state, recovered, usages: Object.fromEntries(uses) };
}

/** Whether an event proves a usage, in a version of its schema that this code can read. */
function isReadableUsage({ type, v }: EventOf<'UnitEventRecovered'>): boolean {
  return (type === 'RentalStarted' || type === 'RentalEnded') && v === versionOf(type);
}

function logKeyOf({ epoch, seq }: { readonly epoch: string; readonly seq: number }): string {
  return `${epoch}:${seq}`;
}

/** The seq that must come next in an epoch; lost ranges are skipped. */
export function nextExpectedSeq(log: UnitLogState, device: DeviceState, epoch: string): number {
  const next = recordedSeq(device, epoch) + 1;
  const lost = Object.hasOwn(log.lost, epoch) ? log.lost[epoch] : undefined;
  return lost !== undefined && lost.fromSeq <= next && next <= lost.toSeq ? lost.toSeq + 1 : next;
}

/** Whether a gap of an epoch can be recorded, within the bound of open gaps. */
export function hasRoomForGap({ gaps }: UnitLogState, epoch: string): boolean {
  return Object.hasOwn(gaps, epoch) || Object.keys(gaps).length < MAX_OPEN_GAPS_PER_UNIT;
}

/** Records a gap: events from `arrivedSeq` on have waited for earlier ones. */
export function detectGap(
  { log, device }: { readonly log: UnitLogState; readonly device: DeviceState },
  { epoch, arrivedSeq }: { readonly epoch: string; readonly arrivedSeq: number },
): EventDraft[] {
  const fromSeq = nextExpectedSeq(log, device, epoch);
  if (arrivedSeq <= fromSeq || Object.hasOwn(log.gaps, epoch) || !hasRoomForGap(log, epoch)) return [];
  return [{ type: 'UnitLogGapDetected', data: { epoch, fromSeq, toSeq: arrivedSeq - 1 } }];
}

/** Closes every gap whose events have all arrived. */
export function closeFilledGaps({
  log,
  device,
}: {
  readonly log: UnitLogState;
  readonly device: DeviceState;
}): EventDraft[] {
  return Object.entries(log.gaps).flatMap(([epoch, { fromSeq, toSeq }]): EventDraft[] =>
    recordedSeq(device, epoch) < toSeq
      ? []
      : [{ type: 'UnitLogGapClosed', data: { epoch, fromSeq, toSeq, lost: false } }],
  );
}

/**
 * Records the events before `firstAvailableSeq` that are missing as lost, because the unit no longer has them. A gap that was not
 * detected yet is recorded with the same commit.
 */
export function closeLostGap(
  { log, device }: { readonly log: UnitLogState; readonly device: DeviceState },
  { epoch, firstAvailableSeq }: { readonly epoch: string; readonly firstAvailableSeq: number },
): EventDraft[] {
  const fromSeq = nextExpectedSeq(log, device, epoch);
  const toSeq = firstAvailableSeq - 1;
  if (toSeq < fromSeq) return [];
  const closed: EventDraft = { type: 'UnitLogGapClosed', data: { epoch, fromSeq, toSeq, lost: true } };
  if (Object.hasOwn(log.gaps, epoch)) return [closed];
  return [{ type: 'UnitLogGapDetected', data: { epoch, fromSeq, toSeq } }, closed];
}

/** Records a rejected event as recovered. It decides nothing when the event was recovered before. */
export function recoverEvent(
  log: UnitLogState,
  event: EventOf<'UnitEventRecovered'>,
  locker: string | undefined,
): EventDraft[] {
  if (log.recovered.includes(logKeyOf(event))) return [];
  return [{ type: 'UnitEventRecovered', ...(locker === undefined ? {} : { locker }), data: event }];
}

/**
 * The usage of a reservation from all sources: the unit's log may hold its beginning and a recovered event its end, or the other way
 * round.
 */
export function usageOf(
  { device, log }: { readonly device: DeviceState; readonly log: UnitLogState },
  reservationId: string,
): Usage | undefined {
  const reported = findUsage(device.usages, reservationId);
  const recovered = log.usages[reservationId];
  if (reported === undefined || recovered === undefined) return reported ?? recovered;
  return { ...recovered, ...reported };
}

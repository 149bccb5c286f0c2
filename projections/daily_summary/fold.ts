/**
 * The days of a unit: a fold over its marks, in the order in which things happened.
 *
 * How it works. A standing is the unit at a moment: who is in its lockers, whether it answers, and what has added up since its
 * day began. From mark to mark time passes with all that stands, and where a day ends on the way, its row is finished and the
 * next one begins. Each row keeps the standing with which it began: what comes late is folded in from there, with all that
 * happened after it.
 *
 * What holds. Rows follow from the set of the marks alone, not from when they came. They reach to the last mark; what passes
 * after it, while nothing is told, is added when somebody asks (`queries.ts`).
 */

import { type Day, dayAt, nextDay, startOfDay, zoneOrUtc } from './calendar.ts';
import type { DatedFact, Fact, Registration } from './facts.ts';

/** Rentals that ended before they began, by a clock that was set back in between: so many are remembered. */
const MAX_ENDED_EARLY = 64;
/** A longer time without any mark is that of a clock that jumped: no days are made for it. */
const MAX_SILENCE_MS = 4_000 * 24 * 60 * 60_000;

export interface DayFigures {
  readonly rentals: number;
  /** Minor units by currency. */
  readonly revenue: Readonly<Record<string, number>>;
  readonly hardwareErrors: number;
  readonly openFailures: number;
  readonly conflicts: number;
  /** Of all lockers together. */
  readonly rentedMs: number;
  readonly inServiceMs: number;
  readonly onlineMs: number;
  /** The part of the day in which the unit belonged to the fleet. */
  readonly lifeMs: number;
}

export interface DayState {
  readonly registeredAtMs: number;
  readonly atMs: number;
  /** Of the last mark. */
  readonly tie: string;
  readonly zone: string;
  readonly isRetired: boolean;
  readonly isOnline: boolean;
  readonly inService: readonly string[];
  /** The rental in each locker that has one. */
  readonly rentals: Readonly<Record<string, string>>;
  readonly endedEarly: readonly string[];
  readonly day: Day;
  readonly startsAtMs: number;
  readonly endsAtMs: number;
  readonly figures: DayFigures;
}

export interface DayRow {
  readonly day: Day;
  readonly startsAtMs: number;
  readonly figures: DayFigures;
  /** The standing with which the row began; undefined for the day in which a fold began to go on. */
  readonly opening: DayState | undefined;
}

const NOTHING: DayFigures = {
  rentals: 0,
  revenue: {},
  hardwareErrors: 0,
  openFailures: 0,
  conflicts: 0,
  rentedMs: 0,
  inServiceMs: 0,
  onlineMs: 0,
  lifeMs: 0,
};

export function startOf({ atMs, timeZone, lockers }: Registration): DayState {
  const unit = { isRetired: false, isOnline: false, inService: lockers, rentals: {}, endedEarly: [] };
  return { ...unit, ...newDay(atMs, zoneOrUtc(timeZone)), registeredAtMs: atMs, atMs, tie: '', figures: NOTHING };
}

function newDay(atMs: number, zone: string): Pick<DayState, 'zone' | 'day' | 'startsAtMs' | 'endsAtMs'> {
  const day = dayAt(atMs, zone);
  return { zone, day, startsAtMs: atMs, endsAtMs: startOfDay(nextDay(day), zone) };
}

/** Whether a mark comes before what a standing has folded. */
export function isLate({ atMs, tie }: Pick<DatedFact, 'atMs' | 'tie'>, standing: DayState): boolean {
  return atMs < standing.atMs || (atMs === standing.atMs && tie <= standing.tie);
}

export function compareFacts(a: DatedFact, b: DatedFact): number {
  return a.atMs - b.atMs || (a.tie < b.tie ? -1 : Number(a.tie > b.tie));
}

/** Folds marks in, which are in order. `opening` is that of the day in which it begins, if that is not known elsewhere. */
export function foldFacts(
  start: DayState,
  opening: DayState | undefined,
  marks: Iterable<DatedFact>,
): { readonly standing: DayState; readonly rows: readonly DayRow[] } {
  const rows: DayRow[] = [];
  let began = opening;
  let standing = start;
  for (const { atMs, tie, fact } of marks) {
    standing = passTime(standing, atMs, (finished, next) => {
      rows.push(rowOf(finished, began));
      began = next;
    });
    standing = { ...applyFact(standing, fact), tie };
  }
  rows.push(rowOf(standing, began));
  return { standing, rows };
}

function rowOf({ day, startsAtMs, figures }: DayState, opening: DayState | undefined): DayRow {
  return { day, startsAtMs, figures, opening };
}

/** The standing at a later moment, if nothing happens until then. */
function passTime(start: DayState, toMs: number, onNewDay: (finished: DayState, next: DayState) => void): DayState {
  let standing = start;
  if (toMs - standing.atMs > MAX_SILENCE_MS) standing = { ...standing, atMs: toMs, endsAtMs: toMs };
  while (toMs >= standing.endsAtMs) {
    const finished = accrue(standing, standing.endsAtMs);
    standing = { ...finished, ...newDay(finished.atMs, finished.zone), figures: NOTHING };
    onNewDay(finished, standing);
  }
  return accrue(standing, toMs);
}

function accrue(standing: DayState, toMs: number): DayState {
  const { atMs, figures, isRetired, isOnline } = standing;
  const ms = toMs - atMs;
  if (ms <= 0) return standing;
  const { rented, inService } = countLockers(standing);
  return {
    ...standing,
    atMs: toMs,
    figures: {
      ...figures,
      rentedMs: figures.rentedMs + rented * ms,
      inServiceMs: figures.inServiceMs + inService * ms,
      onlineMs: figures.onlineMs + (isOnline ? ms : 0),
      lifeMs: figures.lifeMs + (isRetired ? 0 : ms),
    },
  };
}

/** A locker that somebody is in is in service, whatever was said of it. */
export function countLockers({ inService, rentals }: DayState): { rented: number; inService: number } {
  const rented = Object.keys(rentals);
  return { rented: rented.length, inService: new Set([...inService, ...rented]).size };
}

function applyFact(standing: DayState, fact: Fact): DayState {
  switch (fact.is) {
    case 'started':
      return startRental(standing, fact);
    case 'ended':
      return endRental(standing, fact);
    case 'reported': {
      const still = Object.entries(standing.rentals).filter(([locker, id]) => fact.rentals[locker] === id);
      return { ...standing, rentals: Object.fromEntries(still) };
    }
    case 'paid':
      return withFigures(standing, ({ revenue }) => ({
        revenue: { ...revenue, [fact.currency]: (revenue[fact.currency] ?? 0) + fact.amount },
      }));
    case 'hardware-error':
      return withFigures(standing, ({ hardwareErrors }) => ({ hardwareErrors: hardwareErrors + 1 }));
    case 'open-failure':
      return withFigures(standing, ({ openFailures }) => ({ openFailures: openFailures + 1 }));
    case 'conflict':
      return withFigures(standing, ({ conflicts }) => ({ conflicts: conflicts + 1 }));
    case 'online':
    case 'offline':
      return { ...standing, isOnline: fact.is === 'online' && !standing.isRetired };
    case 'in-service':
    case 'out-of-service': {
      const others = standing.inService.filter((id) => id !== fact.locker);
      return { ...standing, inService: fact.is === 'in-service' ? [...others, fact.locker] : others };
    }
    case 'moved':
      return move(standing, zoneOrUtc(fact.zone));
    case 'retired':
      return { ...standing, isRetired: true, isOnline: false, inService: [], rentals: {} };
  }
}

function withFigures(standing: DayState, change: (figures: DayFigures) => Partial<DayFigures>): DayState {
  return { ...standing, figures: { ...standing.figures, ...change(standing.figures) } };
}

/** A locker has one rental: whoever was in it before is gone. A report names again what has begun before. */
function startRental(standing: DayState, { locker, rentalId }: Extract<Fact, { is: 'started' }>): DayState {
  if (standing.rentals[locker] === rentalId) return standing;
  const counted = withFigures(standing, ({ rentals }) => ({ rentals: rentals + 1 }));
  const { [locker]: _, ...others } = counted.rentals;
  if (!counted.endedEarly.includes(rentalId)) return { ...counted, rentals: { ...others, [locker]: rentalId } };
  return { ...counted, rentals: others, endedEarly: counted.endedEarly.filter((id) => id !== rentalId) };
}

function endRental(standing: DayState, { locker, rentalId }: Extract<Fact, { is: 'ended' }>): DayState {
  const { [locker]: running, ...others } = standing.rentals;
  if (running === rentalId) return { ...standing, rentals: others };
  return { ...standing, endedEarly: [...standing.endedEarly, rentalId].slice(-MAX_ENDED_EARLY) };
}

/** The day goes on until the next one begins in the new zone, at once if it has begun there: no day comes twice. */
function move(standing: DayState, zone: string): DayState {
  const endsAtMs = Math.max(startOfDay(nextDay(standing.day), zone), standing.atMs);
  return { ...standing, zone, endsAtMs };
}

/**
 * The days of a unit: a fold over its facts in the order in which they occurred.
 *
 * How it works. A day state is the unit at a moment: its running rentals, whether it is online, and the figures of its day so
 * far. Between two facts, the fold adds the time that passes to the figures. Where a day ends in between, the fold finishes its
 * row and starts the next day. Each row keeps the day state with which its day opened. A late fact is folded from the opening of
 * the day on which it occurred, together with every fact after it.
 *
 * What holds. The rows follow from the set of facts alone, and not from the order in which the platform recorded them. The rows
 * end at the last fact; `queries.ts` adds the time that has passed since then.
 */

import { type Calendar, type Day, dayAt, nextDay, zoneOrUtc } from './calendar.ts';
import type { DatedFact, Fact, Registration } from './facts.ts';
import {
  countInService,
  OUT_OF_SERVICE,
  type ServiceState,
  serviceAt,
  serviceChanges,
  withLocker,
  withMaintenance,
  withoutLocker,
  withoutMaintenance,
} from './service.ts';

/** Bound of `endedEarly`. */
const MAX_ENDED_EARLY = 64;
/** A longer time without a fact means that a clock jumped: the fold creates no rows for it. */
const MAX_IDLE_MS = 4_000 * 24 * 60 * 60_000;

/** The sums of a day. Durations are milliseconds. */
export interface DayFigures {
  readonly rentals: number;
  /** Minor units by currency. */
  readonly revenue: Readonly<Record<string, number>>;
  readonly hardwareErrors: number;
  readonly openFailures: number;
  readonly conflicts: number;
  /** Sum over all lockers, as is `inServiceMs`. */
  readonly rentedMs: number;
  readonly inServiceMs: number;
  readonly onlineMs: number;
  /** The time in which the unit was registered and not retired. */
  readonly lifeMs: number;
}

/** The table stores it as JSON, so its fields are part of the version of the projection. Moments are milliseconds since 1970. */
export interface DayState extends ServiceState {
  readonly registeredAtMs: number;
  readonly atMs: number;
  /** Tie-breaker of the last folded fact. */
  readonly tie: string;
  readonly zone: string;
  readonly isRetired: boolean;
  readonly isOnline: boolean;
  /** Running rental by locker. */
  readonly rentals: Readonly<Record<string, string>>;
  /** Rentals whose end was folded before their start, because the unit's clock was set back in between. */
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
  /** The state with which the day opened; undefined when the fold continued a day whose row already holds it. */
  readonly opening: DayState | undefined;
}

const NO_FIGURES: DayFigures = {
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

/** The state of a unit at its registration. */
export function initialState({ atMs, timeZone, lockers }: Registration, calendar: Calendar): DayState {
  const unit = {
    isRetired: false,
    isOnline: false,
    ...OUT_OF_SERVICE,
    inService: lockers,
    rentals: {},
    endedEarly: [],
  };
  return {
    ...unit,
    ...newDay(calendar, atMs, zoneOrUtc(timeZone)),
    registeredAtMs: atMs,
    atMs,
    tie: '',
    figures: NO_FIGURES,
  };
}

function newDay(
  calendar: Calendar,
  atMs: number,
  zone: string,
): Pick<DayState, 'zone' | 'day' | 'startsAtMs' | 'endsAtMs'> {
  const day = dayAt(atMs, zone);
  return { zone, day, startsAtMs: atMs, endsAtMs: calendar.startOfDay(nextDay(day), zone) };
}

/** Whether a fact occurred before the last folded fact. */
export function isLate({ atMs, tie }: Pick<DatedFact, 'atMs' | 'tie'>, state: DayState): boolean {
  return atMs < state.atMs || (atMs === state.atMs && tie <= state.tie);
}

export function compareFacts(a: DatedFact, b: DatedFact): number {
  return a.atMs - b.atMs || (a.tie < b.tie ? -1 : Number(a.tie > b.tie));
}

/**
 * Folds facts, which must be in order.
 *
 * @param opening the opening of the first day; undefined when its row already holds it
 * @returns the state after the last fact, and a row for each day from that of `start` on
 */
export function foldFacts(
  calendar: Calendar,
  start: DayState,
  opening: DayState | undefined,
  facts: Iterable<DatedFact>,
): { readonly state: DayState; readonly rows: readonly DayRow[] } {
  const rows: DayRow[] = [];
  let openingOfDay = opening;
  let state = start;
  for (const { atMs, tie, fact } of facts) {
    state = advanceTo(calendar, state, atMs, (finished, next) => {
      rows.push(rowOf(finished, openingOfDay));
      openingOfDay = next;
    });
    state = { ...applyFact(calendar, state, fact), tie };
  }
  rows.push(rowOf(state, openingOfDay));
  return { state, rows };
}

function rowOf({ day, startsAtMs, figures }: DayState, opening: DayState | undefined): DayRow {
  return { day, startsAtMs, figures, opening };
}

/** The state at a later moment when no fact occurs until then. */
function advanceTo(
  calendar: Calendar,
  start: DayState,
  toMs: number,
  onNewDay: (finished: DayState, next: DayState) => void,
): DayState {
  let state = start;
  if (toMs - state.atMs > MAX_IDLE_MS) state = { ...state, atMs: toMs, endsAtMs: toMs };
  while (toMs >= state.endsAtMs) {
    const finished = addTime(state, state.endsAtMs);
    state = { ...finished, ...newDay(calendar, finished.atMs, finished.zone), figures: NO_FIGURES };
    onNewDay(finished, state);
  }
  return addTime(state, toMs);
}

/** Adds the time until a moment of the same day to the figures. Lockers leave and return to service in between. */
function addTime(start: DayState, toMs: number): DayState {
  let state = start;
  for (const atMs of [...serviceChanges(start, start.atMs, toMs), toMs])
    state = serviceAt(addEvenTime(state, atMs), atMs);
  return state;
}

/** Adds the time until a moment before which nothing changes. */
function addEvenTime(state: DayState, toMs: number): DayState {
  const { atMs, figures, isRetired, isOnline } = state;
  const ms = toMs - atMs;
  if (ms <= 0) return state;
  const { rented, inService } = countLockers(state);
  return {
    ...state,
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

export function countLockers(state: DayState): { rented: number; inService: number } {
  const rented = Object.keys(state.rentals);
  return { rented: rented.length, inService: countInService(state, rented, state.atMs) };
}

/** How many lockers are in service from the last fact on: the count from a moment until the next, or without an end. */
export function serviceSteps(state: DayState): (readonly [fromMs: number, untilMs: number | null, lockers: number])[] {
  const moments = [state.atMs, ...serviceChanges(state, state.atMs, Number.POSITIVE_INFINITY)];
  return moments.map((atMs, index) => {
    const { inService } = countLockers({ ...serviceAt(state, atMs), atMs });
    return [atMs, moments[index + 1] ?? null, inService];
  });
}

function applyFact(calendar: Calendar, state: DayState, fact: Fact): DayState {
  switch (fact.is) {
    case 'started':
      return startRental(state, fact);
    case 'ended':
      return endRental(state, fact);
    case 'reported': {
      const running = Object.entries(state.rentals).filter(([locker, id]) => fact.rentals[locker] === id);
      return { ...state, rentals: Object.fromEntries(running) };
    }
    case 'paid':
      return withFigures(state, ({ revenue }) => ({
        revenue: { ...revenue, [fact.currency]: (revenue[fact.currency] ?? 0) + fact.amount },
      }));
    case 'hardware-error':
      return withFigures(state, ({ hardwareErrors }) => ({ hardwareErrors: hardwareErrors + 1 }));
    case 'open-failure':
      return withFigures(state, ({ openFailures }) => ({ openFailures: openFailures + 1 }));
    case 'conflict':
      return withFigures(state, ({ conflicts }) => ({ conflicts: conflicts + 1 }));
    case 'online':
    case 'offline':
      return { ...state, isOnline: fact.is === 'online' && !state.isRetired };
    case 'in-service':
      return { ...state, ...withLocker(state, fact.locker) };
    case 'out-of-service':
      return { ...state, ...withoutLocker(state, state.atMs, fact.locker, fact.untilMs) };
    case 'maintenance': {
      const { id, fromMs, untilMs } = fact;
      return { ...state, ...withMaintenance(state, state.atMs, { id, fromMs, untilMs }) };
    }
    case 'maintenance-cancelled':
      return { ...state, ...withoutMaintenance(state, fact.id) };
    case 'registered': {
      const unit = { isRetired: false, isOnline: false, ...OUT_OF_SERVICE, inService: fact.lockers, rentals: {} };
      return changeZone(calendar, { ...state, ...unit }, zoneOrUtc(fact.zone));
    }
    case 'moved':
      return changeZone(calendar, state, zoneOrUtc(fact.zone));
    case 'retired':
      return { ...state, isRetired: true, isOnline: false, ...OUT_OF_SERVICE, rentals: {} };
  }
}

function withFigures(state: DayState, change: (figures: DayFigures) => Partial<DayFigures>): DayState {
  return { ...state, figures: { ...state.figures, ...change(state.figures) } };
}

/** A locker has one rental: a new one ends the one before. Idempotent, because reports name running rentals again. */
function startRental(state: DayState, { locker, rentalId }: Extract<Fact, { is: 'started' }>): DayState {
  if (state.rentals[locker] === rentalId) return state;
  const counted = withFigures(state, ({ rentals }) => ({ rentals: rentals + 1 }));
  const { [locker]: _, ...others } = counted.rentals;
  if (!counted.endedEarly.includes(rentalId)) return { ...counted, rentals: { ...others, [locker]: rentalId } };
  return { ...counted, rentals: others, endedEarly: counted.endedEarly.filter((id) => id !== rentalId) };
}

function endRental(state: DayState, { locker, rentalId }: Extract<Fact, { is: 'ended' }>): DayState {
  const { [locker]: running, ...others } = state.rentals;
  if (running === rentalId) return { ...state, rentals: others };
  return { ...state, endedEarly: [...state.endedEarly, rentalId].slice(-MAX_ENDED_EARLY) };
}

/**
 * Changes the time zone of a unit. The current day ends when the next day starts in the new zone; if that moment has passed, it
 * ends at once. So no day occurs twice.
 */
function changeZone(calendar: Calendar, state: DayState, zone: string): DayState {
  const endsAtMs = Math.max(calendar.startOfDay(nextDay(state.day), zone), state.atMs);
  return { ...state, zone, endsAtMs };
}

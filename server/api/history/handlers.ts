/**
 * A unit at another time. What was is folded again from the event log; what will be follows from the present.
 *
 * Whatever was recorded by a moment had happened by then. So both views begin with the same fold, up to the last commit that was
 * recorded by then, and from the snapshot where that is not newer; the actual one goes on with what came later.
 */

import { MAX_RESERVE_AHEAD_DAYS } from '../../../domain/booking/booking.ts';
import { forecastUnit } from '../../../domain/unit/forecast.ts';
import { LateEventFilter, type RecordedCommit, withReportedUsage } from '../../../domain/unit/time-travel.ts';
import { evolveUnit, lastSequenceOf, newUnitState, type UnitState } from '../../../domain/unit/unit.ts';
import { toInstant, toMs } from '../../../domain/vocabulary.ts';
import type { UnitDecider, UnitSnapshot } from '../../../platform/units/unit-decider.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import {
  firstCommit,
  lastCommitRecordedBy,
  lastCommitUpTo,
  readHistoryEnd,
  unitCommits,
} from '../../../projections/event_log/queries/history.ts';
import { invalidField, Problem, RETRY_AFTER_S } from '../../http/problems.ts';
import type { ReadPositions } from '../../http/read-positions.ts';
import type { StateQuery, View } from './schema.ts';
import { expectedView, pastView, type StateView } from './views.ts';

/** Events that one request may fold. */
export const MAX_FOLDED_EVENTS = 500_000;
/** Requests that fold at the same time in one process: folding takes its one thread. */
export const MAX_RUNNING_FOLDS = 4;
/** How far ahead somebody may ask: nothing is booked beyond. */
export const MAX_FORECAST_DAYS = MAX_RESERVE_AHEAD_DAYS;
const DAY_MS = 86_400_000;

export interface UnitHistoryDependencies {
  /** Sessions that read pages of the log. */
  readonly eventLog: ReadModels;
  readonly positions: ReadPositions;
  readonly decider: Pick<UnitDecider, 'getLatestState'>;
  readonly loadSnapshot: (unit: string) => Promise<UnitSnapshot>;
  /** Of the event store. */
  readonly lastSequence: () => Promise<number>;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  /** @default MAX_FOLDED_EVENTS */
  readonly maxFoldedEvents?: number;
}

/** What somebody asks for, once it is understood. */
type Moment =
  | { readonly is: 'past'; readonly atMs: number; readonly view: View }
  | { readonly is: 'position'; readonly position: number }
  | { readonly is: 'future'; readonly atMs: number; readonly nowMs: number };

export class UnitHistory {
  readonly #deps: UnitHistoryDependencies;
  #running = 0;

  constructor(deps: UnitHistoryDependencies) {
    this.#deps = deps;
  }

  /** @throws Problem `validation`, `not-found`, `unavailable` */
  async stateAt(unit: string, query: StateQuery): Promise<StateView> {
    const moment = momentOf(query, this.#deps.clock());
    await this.#deps.positions.reached('event_log', query.minPosition, unit);
    if (moment.is === 'future') return this.#expected(unit, moment);
    if (this.#running >= MAX_RUNNING_FOLDS) {
      throw new Problem('unavailable', 503, `${MAX_RUNNING_FOLDS} histories are being folded already.`, {
        retryAfterS: RETRY_AFTER_S,
      });
    }
    this.#running += 1;
    try {
      return await (moment.is === 'position' ? this.#atPosition(unit, moment.position) : this.#past(unit, moment));
    } finally {
      this.#running -= 1;
    }
  }

  async #expected(unit: string, { atMs, nowMs }: Extract<Moment, { is: 'future' }>): Promise<StateView> {
    const state = await this.#deps.decider.getLatestState(unit);
    const { registry } = state;
    if (registry.status === 'unregistered') throw noSuchUnit();
    return expectedView(forecastUnit(state, atMs, nowMs), registry, atMs);
  }

  async #atPosition(unit: string, position: number): Promise<StateView> {
    await this.#reach(unit, position);
    const { eventLog } = this.#deps;
    const { parkedFrom } = await readHistoryEnd(eventLog, unit);
    if (parkedFrom !== undefined && parkedFrom <= position) throw parked(parkedFrom);
    const last = await lastCommitUpTo(eventLog, unit, position);
    if (last === undefined) throw await this.#notYet(unit, `at position ${position}`);
    const state = await new Folding(this.#deps, unit, '/query/atPosition').recordedUpTo(position);
    return this.#view(state, last.recordedAtMs, 'believed', `at position ${position}`);
  }

  /** Waits until the log has a position. @throws Problem when there is no such position, or the log is not there in time */
  async #reach(unit: string, position: number): Promise<void> {
    const { eventLog, positions, lastSequence } = this.#deps;
    if ((await readHistoryEnd(eventLog, unit)).position >= position) return;
    const last = await lastSequence();
    if (position > last) throw invalidField('/query/atPosition', `lies beyond the end, which is ${last}`);
    await positions.reached('event_log', String(position), unit);
  }

  async #past(unit: string, { atMs, view }: Extract<Moment, { is: 'past' }>): Promise<StateView> {
    const { eventLog } = this.#deps;
    const end = await readHistoryEnd(eventLog, unit);
    if (end.parkedFrom !== undefined) throw parked(end.parkedFrom);
    const last = (await lastCommitRecordedBy(eventLog, unit, atMs))?.sequence ?? 0;
    const folding = new Folding(this.#deps, unit, '/query/at');
    const believed = await folding.recordedUpTo(last);
    const when = `at ${toInstant(atMs)}`;
    if (view === 'believed') return this.#view(believed, atMs, view, when);
    const actual = await folding.andLate(believed, { after: last, upTo: end.position, atMs });
    return this.#view(withReportedUsage(actual, atMs), atMs, view, when);
  }

  async #view(state: UnitState, atMs: number, view: View, when: string): Promise<StateView> {
    const { registry } = state;
    if (registry.status === 'unregistered') throw await this.#notYet(state.name, when);
    return pastView(state, registry, atMs, view);
  }

  async #notYet(unit: string, when: string): Promise<Problem> {
    const first = await firstCommit(this.#deps.eventLog, unit);
    if (first === undefined) return noSuchUnit();
    const { sequence, recordedAtMs } = first;
    const since = `it was at ${toInstant(recordedAtMs)}, position ${sequence}`;
    return new Problem('not-found', 404, `The unit was not registered yet ${when}: ${since}.`);
  }
}

/** One request's way through the history of a unit, which has a bound. */
class Folding {
  readonly #deps: UnitHistoryDependencies;
  readonly #unit: string;
  /** Of the parameter that asks for too much. */
  readonly #path: string;
  #left: number;

  constructor(deps: UnitHistoryDependencies, unit: string, path: string) {
    this.#deps = deps;
    this.#unit = unit;
    this.#path = path;
    this.#left = deps.maxFoldedEvents ?? MAX_FOLDED_EVENTS;
  }

  /** What was recorded up to a sequence. */
  async recordedUpTo(sequence: number): Promise<UnitState> {
    const snapshot = (await this.#deps.loadSnapshot(this.#unit)).state;
    const start = lastSequenceOf(snapshot) <= sequence ? snapshot : newUnitState(this.#unit);
    const bounds = { after: lastSequenceOf(start), upTo: sequence };
    return this.#fold(start, bounds, evolveUnit);
  }

  /** And what was recorded later, and had happened by a moment. */
  andLate(
    state: UnitState,
    { atMs, ...bounds }: { readonly after: number; readonly upTo: number; readonly atMs: number },
  ): Promise<UnitState> {
    const late = new LateEventFilter(atMs);
    return this.#fold(state, bounds, (present, commit) => {
      const part = late.filterCommit(commit);
      return part === undefined ? present : evolveUnit(present, part);
    });
  }

  async #fold(
    start: UnitState,
    bounds: { readonly after: number; readonly upTo: number },
    evolve: (state: UnitState, commit: RecordedCommit) => UnitState,
  ): Promise<UnitState> {
    if (bounds.after >= bounds.upTo) return start;
    let state = start;
    for await (const commits of unitCommits(this.#deps.eventLog, this.#unit, bounds)) {
      this.#left -= commits.reduce((sum, { events }) => sum + events.length, 0);
      if (this.#left < 0) {
        const most = this.#deps.maxFoldedEvents ?? MAX_FOLDED_EVENTS;
        throw invalidField(this.#path, `needs more events of the unit to be folded than ${most}, which is the most`);
      }
      state = commits.reduce(evolve, state);
    }
    return state;
  }
}

function momentOf({ at, atPosition, view }: StateQuery, nowMs: number): Moment {
  if (at !== undefined && atPosition !== undefined) {
    throw invalidField('/query/atPosition', 'is the other way to say when: either this or `at`');
  }
  if (atPosition !== undefined) {
    if (view === 'actual') {
      throw invalidField('/query/view', 'must be "believed", or left out: a position is a place in the recording');
    }
    return { is: 'position', position: Number.parseInt(atPosition, 10) };
  }
  if (at === undefined) throw invalidField('/query/at', 'is missing, and so is `atPosition`');
  const atMs = toMs(at);
  if (atMs <= nowMs) return { is: 'past', atMs, view: view ?? 'actual' };
  if (view === 'believed')
    throw invalidField('/query/view', 'must be "actual", or left out: nothing is believed yet then');
  if (atMs > nowMs + MAX_FORECAST_DAYS * DAY_MS) {
    throw invalidField('/query/at', `lies more than ${MAX_FORECAST_DAYS} days ahead`);
  }
  return { is: 'future', atMs, nowMs };
}

function noSuchUnit(): Problem {
  return new Problem('not-found', 404, 'There is no such unit.');
}

function parked(from: number): Problem {
  return new Problem(
    'unavailable',
    503,
    `The event log lacks what this unit did from position ${from} on: it is parked.`,
    {
      retryAfterS: RETRY_AFTER_S,
    },
  );
}

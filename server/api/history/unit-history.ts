/**
 * A unit at another time. The server folds the past from the event log, and forecasts the future from the present state.
 *
 * An event that was recorded by some time had happened by then. So both views of the past begin with the same fold of the commits
 * that were recorded by then, starting from the snapshot where it is not newer. The view `actual` then adds the late events.
 */

import { MAX_RESERVE_AHEAD_DAYS } from '../../../domain/booking/customer-decisions.ts';
import { withReportedUsage } from '../../../domain/booking/settlement.ts';
import { forecastUnit } from '../../../domain/unit/forecast.ts';
import { LateEventFilter, type RecordedCommit } from '../../../domain/unit/late-event-filter.ts';
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
import { expectedView, pastView, type StateView } from './state-view.ts';

/** The largest number of events that one request folds. */
export const MAX_FOLDED_EVENTS = 500_000;
/** The largest number of requests that fold at the same time in one process: folding takes its only thread. */
export const MAX_CONCURRENT_FOLDS = 4;
/** The longest forecast: no reservation begins later. */
export const MAX_FORECAST_DAYS = MAX_RESERVE_AHEAD_DAYS;
const DAY_MS = 86_400_000;

export interface UnitHistoryDependencies {
  /** Sessions that read pages of the event log. */
  readonly eventLog: ReadModels;
  readonly positions: ReadPositions;
  readonly decider: Pick<UnitDecider, 'getLatestState'>;
  readonly loadSnapshot: (unit: string) => Promise<UnitSnapshot>;
  /** The last sequence of the event store. */
  readonly lastSequence: () => Promise<number>;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  /** @default MAX_FOLDED_EVENTS */
  readonly maxFoldedEvents?: number;
}

/** The time or position that a query names. */
type RequestedTime =
  | { readonly kind: 'past'; readonly atMs: number; readonly view: View }
  | { readonly kind: 'position'; readonly position: number }
  | { readonly kind: 'future'; readonly atMs: number; readonly nowMs: number };

export class UnitHistory {
  readonly #deps: UnitHistoryDependencies;
  #running = 0;

  constructor(deps: UnitHistoryDependencies) {
    this.#deps = deps;
  }

  /** @throws Problem `validation`, `not-found`, `unavailable` */
  async stateAt(unit: string, query: StateQuery): Promise<StateView> {
    const requested = requestedTime(query, this.#deps.clock());
    if (requested.kind === 'future') return this.#forecast(unit, requested);
    if (this.#running >= MAX_CONCURRENT_FOLDS) {
      throw new Problem(
        'unavailable',
        503,
        `This server folds the history of ${MAX_CONCURRENT_FOLDS} units already, which is the most. Send the request again.`,
        { retryAfterS: RETRY_AFTER_S },
      );
    }
    this.#running += 1;
    try {
      return await (requested.kind === 'position'
        ? this.#atPosition(unit, requested.position)
        : this.#past(unit, requested));
    } finally {
      this.#running -= 1;
    }
  }

  async #forecast(unit: string, { atMs, nowMs }: Extract<RequestedTime, { kind: 'future' }>): Promise<StateView> {
    const state = await this.#deps.decider.getLatestState(unit);
    const { registry } = state;
    if (registry.status === 'unregistered') throw unknownUnit(unit);
    return expectedView(forecastUnit(state, atMs, nowMs), registry, atMs);
  }

  async #atPosition(unit: string, position: number): Promise<StateView> {
    await this.#waitUntilLogged(unit, position);
    const { eventLog } = this.#deps;
    const { parkedFrom } = await readHistoryEnd(eventLog, unit);
    if (parkedFrom !== undefined && parkedFrom <= position) throw eventsParked(unit, parkedFrom);
    const last = await lastCommitUpTo(eventLog, unit, position);
    if (last === undefined) throw await this.#notRegisteredYet(unit, `at position ${position}`);
    const state = await new HistoryFold(this.#deps, unit, '/query/atPosition').recordedUpTo(position);
    return this.#view(state, last.recordedAtMs, 'believed', `at position ${position}`);
  }

  /** Waits until the event log has a position. @throws Problem `validation` beyond the end, `unavailable` when it takes too long */
  async #waitUntilLogged(unit: string, position: number): Promise<void> {
    const { eventLog, positions, lastSequence } = this.#deps;
    if ((await readHistoryEnd(eventLog, unit)).position >= position) return;
    const last = await lastSequence();
    if (position > last)
      throw invalidField('/query/atPosition', `is beyond the end of the event log, which is ${last}`);
    await positions.reached('event_log', String(position), unit);
  }

  async #past(unit: string, { atMs, view }: Extract<RequestedTime, { kind: 'past' }>): Promise<StateView> {
    const { eventLog } = this.#deps;
    const end = await readHistoryEnd(eventLog, unit);
    if (end.parkedFrom !== undefined) throw eventsParked(unit, end.parkedFrom);
    const last = (await lastCommitRecordedBy(eventLog, unit, atMs))?.sequence ?? 0;
    const fold = new HistoryFold(this.#deps, unit, '/query/at');
    const believed = await fold.recordedUpTo(last);
    const when = `at ${toInstant(atMs)}`;
    if (view === 'believed') return this.#view(believed, atMs, view, when);
    const actual = await fold.withLateEvents(believed, { after: last, upTo: end.position, atMs });
    return this.#view(withReportedUsage(actual, atMs), atMs, view, when);
  }

  async #view(state: UnitState, atMs: number, view: View, when: string): Promise<StateView> {
    const { registry } = state;
    if (registry.status === 'unregistered') throw await this.#notRegisteredYet(state.name, when);
    return pastView(state, registry, atMs, view);
  }

  async #notRegisteredYet(unit: string, when: string): Promise<Problem> {
    const first = await firstCommit(this.#deps.eventLog, unit);
    if (first === undefined) return unknownUnit(unit);
    const { sequence, recordedAtMs } = first;
    return new Problem(
      'not-found',
      404,
      `Unit ${unit} was not registered yet ${when}. It was registered at ${toInstant(recordedAtMs)}, position ${sequence}.`,
    );
  }
}

/** Folds the history of a unit for one request, up to a bound on the number of events. */
class HistoryFold {
  readonly #deps: UnitHistoryDependencies;
  readonly #unit: string;
  /** The query parameter that is named when the fold needs too many events. */
  readonly #path: string;
  #left: number;

  constructor(deps: UnitHistoryDependencies, unit: string, path: string) {
    this.#deps = deps;
    this.#unit = unit;
    this.#path = path;
    this.#left = deps.maxFoldedEvents ?? MAX_FOLDED_EVENTS;
  }

  /** The state after the commits up to a sequence. */
  async recordedUpTo(sequence: number): Promise<UnitState> {
    const snapshot = (await this.#deps.loadSnapshot(this.#unit)).state;
    const start = lastSequenceOf(snapshot) <= sequence ? snapshot : newUnitState(this.#unit);
    const bounds = { after: lastSequenceOf(start), upTo: sequence };
    return this.#fold(start, bounds, evolveUnit);
  }

  /** The state with the late events, too: those that happened by `atMs` and were recorded in `bounds`. */
  withLateEvents(
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
        throw invalidField(
          this.#path,
          `needs more than ${most} events of the unit, which is the most that one request folds`,
        );
      }
      state = commits.reduce(evolve, state);
    }
    return state;
  }
}

function requestedTime({ at, atPosition, view }: StateQuery, nowMs: number): RequestedTime {
  if (at !== undefined && atPosition !== undefined) {
    throw invalidField('/query/atPosition', 'cannot be combined with `at`: name a time or a position');
  }
  if (atPosition !== undefined) {
    if (view === 'actual') {
      throw invalidField(
        '/query/view',
        'must be "believed" or left out: at a position the view is always the believed one',
      );
    }
    return { kind: 'position', position: Number.parseInt(atPosition, 10) };
  }
  if (at === undefined) throw invalidField('/query/at', 'is missing: name a time, or a position by `atPosition`');
  const atMs = toMs(at);
  if (atMs <= nowMs) return { kind: 'past', atMs, view: view ?? 'actual' };
  if (view === 'believed')
    throw invalidField('/query/view', 'must be "actual" or left out: nothing is recorded yet at a time in the future');
  if (atMs > nowMs + MAX_FORECAST_DAYS * DAY_MS) {
    throw invalidField('/query/at', `is more than ${MAX_FORECAST_DAYS} days ahead`);
  }
  return { kind: 'future', atMs, nowMs };
}

function unknownUnit(unit: string): Problem {
  return new Problem('not-found', 404, `There is no unit ${unit}.`);
}

function eventsParked(unit: string, from: number): Problem {
  return new Problem(
    'unavailable',
    503,
    `The event log lacks the events of unit ${unit} from position ${from} on: they are parked until ` +
      `POST /v1/projections/event_log/parked/${unit}/retry succeeds.`,
    { retryAfterS: RETRY_AFTER_S },
  );
}

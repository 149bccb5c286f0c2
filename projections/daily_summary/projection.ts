/**
 * `daily_summary`: the figures of each unit on each of its days, by the calendar of its time zone.
 *
 * How it works. The projection extracts facts from events (`facts.ts`) and folds them into days (`fold.ts`). A fact in order is
 * folded from the state of the unit. A late fact is folded from the opening of its day, together with every later fact;
 * therefore the projection keeps facts as long as a late one may come before them.
 */

import type { Tx } from '../../platform/postgres/connection.ts';
import type { CommitBatch, Projection } from '../engine/projection.ts';
import { Calendar } from './calendar.ts';
import { type DatedFact, factsOfCommit, MAX_LATE_MS, type Registration, registeredAgain } from './facts.ts';
import { compareFacts, type DayState, foldFacts, initialState, isLate } from './fold.ts';
import {
  countPayments,
  createTables,
  deleteOldFacts,
  type FoldedUnit,
  loadDayStates,
  loadFacts,
  loadOpenings,
  type RecountedPayment,
  saveDayStates,
  saveDays,
  saveFacts,
} from './tables.ts';

/** Facts are kept this much longer than a fact may be late, because the fold needs all facts of a day, which may have 25 hours. */
const KEPT_LONGER_MS = 2 * 24 * 60 * 60_000;

export function createDailySummary(): Projection {
  const calendar = new Calendar();
  return {
    name: 'daily_summary',
    version: 2,
    createTables,

    async apply(tx, schema, commits) {
      const byUnit = groupByUnit(commits);
      const states = await loadDayStates(tx, schema, [...byUnit.keys()]);
      const units = [...byUnit].flatMap(([unit, { registrations, facts }]): ChangedUnit[] => {
        const known = states.get(unit);
        if (known !== undefined) {
          const again = registrations.map(registeredAgain);
          return [{ unit, state: known, isNew: false, facts: sinceRegistration(known, [...facts, ...again]) }];
        }
        const [first, ...others] = registrations;
        // As in the grid of units, events before the registration of a unit are skipped.
        if (first === undefined) return [];
        const state = initialState(first, calendar);
        const all = [...facts, ...others.map(registeredAgain)];
        return [{ unit, state, isNew: true, facts: sinceRegistration(state, all) }];
      });
      if (units.length === 0) return;
      await saveFacts(tx, schema, units);
      const recounted = await countPayments(tx, schema, units);
      const folded = await foldUnits(tx, schema, calendar, units, recounted);
      await saveDays(tx, schema, folded);
      await saveDayStates(tx, schema, folded);
      const onNewDay = folded.filter(({ rows }) => rows.length > 1);
      await deleteOldFacts(
        tx,
        schema,
        onNewDay.map(({ unit, state }) => ({ unit, beforeMs: state.atMs - MAX_LATE_MS - KEPT_LONGER_MS })),
      );
    },
  };
}

/** A unit with new facts. */
interface ChangedUnit {
  readonly unit: string;
  readonly state: DayState;
  /** Whether the batch registers the unit. */
  readonly isNew: boolean;
  readonly facts: readonly DatedFact[];
}

function groupByUnit(commits: CommitBatch): Map<string, { registrations: Registration[]; facts: DatedFact[] }> {
  const units = new Map<string, { registrations: Registration[]; facts: DatedFact[] }>();
  for (const commit of commits) {
    const { registrations, facts } = factsOfCommit(commit);
    if (registrations.length === 0 && facts.length === 0) continue;
    const ofUnit = units.get(commit.unit) ?? { registrations: [], facts: [] };
    ofUnit.registrations.push(...registrations);
    ofUnit.facts.push(...facts);
    units.set(commit.unit, ofUnit);
  }
  return units;
}

/** A unit has no day before its registration: earlier facts count at the registration. @returns the facts in order */
function sinceRegistration({ registeredAtMs }: DayState, facts: readonly DatedFact[]): DatedFact[] {
  return facts.map((fact) => ({ ...fact, atMs: Math.max(fact.atMs, registeredAtMs) })).toSorted(compareFacts);
}

/** Units with a moment from which their days must be folded again. */
type LateUnits = readonly { readonly unit: string; readonly fromMs: number }[];

async function foldUnits(
  tx: Tx,
  schema: string,
  calendar: Calendar,
  units: readonly ChangedUnit[],
  recounted: readonly RecountedPayment[],
): Promise<FoldedUnit[]> {
  const recountedByUnit = Map.groupBy(recounted, ({ unit }) => unit);
  const folded: FoldedUnit[] = [];
  const late: { unit: string; fromMs: number }[] = [];
  for (const { unit, state, isNew, facts } of units) {
    const changes = recountedByUnit.get(unit) ?? [];
    const lateMs = [...facts, ...changes].filter((fact) => isLate(fact, state)).map(({ atMs }) => atMs);
    if (lateMs.length > 0) {
      late.push({ unit, fromMs: Math.min(...lateMs) });
      continue;
    }
    const countingTies = new Set(changes.filter(({ counts }) => counts).map(({ tie }) => tie));
    const counting = facts.filter(({ payment, tie }) => payment === undefined || countingTies.has(tie));
    folded.push({ unit, ...foldFacts(calendar, state, isNew ? state : undefined, counting) });
  }
  return late.length === 0 ? folded : [...folded, ...(await refold(tx, schema, calendar, late))];
}

/** Folds the days of units again, from the opening of the day of their earliest late fact. */
async function refold(tx: Tx, schema: string, calendar: Calendar, late: LateUnits): Promise<FoldedUnit[]> {
  const openings = [...(await loadOpenings(tx, schema, late))];
  const since = openings.map(([unit, { startsAtMs }]) => ({ unit, fromMs: startsAtMs }));
  const facts = await loadFacts(tx, schema, since);
  return openings.map(([unit, opening]) => ({
    unit,
    refoldedFromMs: opening.startsAtMs,
    ...foldFacts(calendar, opening, opening, facts.get(unit) ?? []),
  }));
}

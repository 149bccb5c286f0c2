/**
 * `daily_summary`: what a unit did on each of its days, by the calendar of its time zone.
 *
 * How it works. Marks (`marks.ts`) are kept as long as something may still come before them, and folded into days (`fold.ts`).
 * What comes in order is folded on from where the unit stands; for what comes late, the days from then on are folded again.
 */

import type { Tx } from '../../platform/postgres/connection.ts';
import type { CommitBatch, Projection } from '../engine/projection.ts';
import { type DatedFact, factsOfCommit, MAX_LATE_MS, type Registration } from './facts.ts';
import { compareFacts, type DayState, foldFacts, isLate, startOf } from './fold.ts';
import {
  countPayments,
  createTables,
  deleteOldFacts,
  type FoldedUnit,
  loadDayStates,
  loadFacts,
  loadOpenings,
  type Recounted,
  saveDayStates,
  saveDays,
  saveFacts,
} from './tables.ts';

/** Marks are kept this much longer than the latest that may come: a day has 25 hours at times. */
const SPARE_MS = 2 * 24 * 60 * 60_000;

export const dailySummary: Projection = {
  name: 'daily_summary',
  version: 1,
  createTables,

  async apply(tx, schema, commits) {
    const told = tellByUnit(commits);
    const known = await loadDayStates(tx, schema, [...told.keys()]);
    const units = [...told].flatMap(([unit, { beginning, marks }]): ToldUnit[] => {
      const standing = known.get(unit);
      if (standing !== undefined) return [{ unit, standing, isNew: false, marks: notBefore(standing, marks) }];
      // What comes before a unit is registered is passed over, as in the grid of units.
      if (beginning === undefined) return [];
      const begun = startOf(beginning);
      return [{ unit, standing: begun, isNew: true, marks: notBefore(begun, marks) }];
    });
    if (units.length === 0) return;
    await saveFacts(tx, schema, units);
    const recounted = await countPayments(tx, schema, units);
    const folded = await foldUnits(tx, schema, units, recounted);
    await saveDays(tx, schema, folded);
    await saveDayStates(tx, schema, folded);
    const onNewDay = folded.filter(({ rows }) => rows.length > 1);
    await deleteOldFacts(
      tx,
      schema,
      onNewDay.map(({ unit, standing }) => ({ unit, beforeMs: standing.atMs - MAX_LATE_MS - SPARE_MS })),
    );
  },
};

interface ToldUnit {
  readonly unit: string;
  readonly standing: DayState;
  readonly isNew: boolean;
  readonly marks: readonly DatedFact[];
}

function tellByUnit(commits: CommitBatch): Map<string, { beginning?: Registration; marks: DatedFact[] }> {
  const units = new Map<string, { beginning?: Registration; marks: DatedFact[] }>();
  for (const commit of commits) {
    const { beginning, marks } = factsOfCommit(commit);
    if (beginning === undefined && marks.length === 0) continue;
    const told = units.get(commit.unit) ?? { marks: [] };
    if (beginning !== undefined) told.beginning ??= beginning;
    told.marks.push(...marks);
    units.set(commit.unit, told);
  }
  return units;
}

/** A unit has no days before the one on which it was registered: what it did before counts there. */
function notBefore({ registeredAtMs }: DayState, marks: readonly DatedFact[]): DatedFact[] {
  return marks.map((mark) => ({ ...mark, atMs: Math.max(mark.atMs, registeredAtMs) })).toSorted(compareFacts);
}

async function foldUnits(
  tx: Tx,
  schema: string,
  units: readonly ToldUnit[],
  recounted: readonly Recounted[],
): Promise<FoldedUnit[]> {
  const recountedOf = Map.groupBy(recounted, ({ unit }) => unit);
  const inTime: FoldedUnit[] = [];
  const late: { unit: string; fromMs: number }[] = [];
  for (const { unit, standing, isNew, marks } of units) {
    const changes = recountedOf.get(unit) ?? [];
    const lateMs = [...marks, ...changes].filter((mark) => isLate(mark, standing)).map(({ atMs }) => atMs);
    if (lateMs.length > 0) {
      late.push({ unit, fromMs: Math.min(...lateMs) });
      continue;
    }
    const counting = new Set(changes.filter(({ counts }) => counts).map(({ tie }) => tie));
    const counted = marks.filter(({ payment, tie }) => payment === undefined || counting.has(tie));
    inTime.push({ unit, ...foldFacts(standing, isNew ? standing : undefined, counted) });
  }
  if (late.length === 0) return inTime;
  return [...inTime, ...(await foldAgain(tx, schema, late))];
}

async function foldAgain(
  tx: Tx,
  schema: string,
  late: readonly { readonly unit: string; readonly fromMs: number }[],
): Promise<FoldedUnit[]> {
  const openings = [...(await loadOpenings(tx, schema, late))];
  const since = openings.map(([unit, { startsAtMs }]) => ({ unit, fromMs: startsAtMs }));
  const marks = await loadFacts(tx, schema, since);
  return openings.map(([unit, opening]) => ({
    unit,
    againFromMs: opening.startsAtMs,
    ...foldFacts(opening, opening, marks.get(unit) ?? []),
  }));
}

/** Read models that keep the folded state of each unit: load it, fold a batch in, hand it back. */

import type { Aggregate } from '../domain/envelope.ts';
import { evolveUnit, newUnitState, UNIT_FOLD_VERSION, type UnitState } from '../domain/unit.ts';
import type { Tx } from '../platform/postgres/connection.ts';
import type { Commit } from './engine/projection.ts';

interface Row {
  readonly unit: string;
  readonly state: UnitState;
}

/**
 * The states of the units in a batch, after it. `table` has the columns `unit` and `state`, which is `json` and not
 * `jsonb`: the folds know the oldest of what they keep by its place. `aggregates` are the subjects that the read model
 * follows.
 */
export async function foldUnitStates(
  tx: Tx,
  table: string,
  commits: readonly Commit[],
  aggregates: ReadonlySet<Aggregate>,
): Promise<Map<string, UnitState>> {
  const followed = commits.filter((commit) => aggregates.has(commit.aggregate));
  const units = [...new Set(followed.map((commit) => commit.unit))];
  const states = new Map(units.map((unit) => [unit, newUnitState(unit)]));
  if (units.length === 0) return states;
  const rows = await tx<Row[]>`select unit, state from ${tx(table)} where unit = any(${units}::text[])`;
  for (const { unit, state } of rows) states.set(unit, state);
  for (const commit of followed) {
    const state = states.get(commit.unit) ?? newUnitState(commit.unit);
    states.set(commit.unit, evolveUnit(state, commit));
  }
  return states;
}

/** The version of a read model that keeps unit states: it changes with the fold, too. */
export function versionWithFold(version: number): number {
  return version * FOLD_VERSIONS + UNIT_FOLD_VERSION;
}

const FOLD_VERSIONS = 1_000;

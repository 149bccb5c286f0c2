/** Folds commits into the states of units, for the read models that keep a state of each unit. */

import { LRUCache } from 'lru-cache';
import type { Aggregate } from '../../domain/events/cloud-event.ts';
import { evolveUnit, newUnitState, UNIT_FOLD_VERSION, type UnitState } from '../../domain/unit/unit.ts';
import { chunksOf } from '../../platform/batching/chunks-of.ts';
import type { Sql, Tx } from '../../platform/postgres/connection.ts';
import { WriteBehindRows } from '../engine/fill/write-behind-rows.ts';
import type { Commit, CommitBatch, Fold } from '../engine/projection.ts';
import { StateSizes } from './state-size.ts';
import {
  createStateTable,
  type FoldedUnit,
  type PositionedFold,
  type PositionedState,
  readStatePositions,
  readStates,
  saveStates,
} from './state-table.ts';

const MIB = 1024 * 1024;
/** Bound of the states that a read model caches while it serves, so that it need not read back what it wrote. JSON bytes. */
const MAX_CACHED_BYTES = 64 * MIB;
/** Bounds of a fold: states that stay in memory, and states that wait to be written. JSON bytes. */
const MAX_CLEAN_BYTES = 128 * MIB;
const MAX_DIRTY_BYTES = 64 * MIB;
const MAX_STATES_PER_WRITE = 250;
/** The version of a read model is its own version times this, plus the version of the fold. */
const FOLD_VERSIONS = 1_000;

export interface UnitStatesOptions {
  /** The subjects that the read model follows. */
  readonly aggregates: ReadonlySet<Aggregate>;
  /** Whether the read model skips the commits of a unit that come before its registration. */
  readonly startsAtRegistration: boolean;
  /** Removes what the read model does not show. */
  readonly trim: (state: UnitState) => UnitState;
}

/**
 * Invariant: a state is a function of the commits up to its position. A cached state is used only when the row of the table
 * has its position, so the cache is correct also after a rollback and when another process wrote the row.
 */
export class UnitStates {
  readonly #options: UnitStatesOptions;
  readonly #sizes = new StateSizes();
  readonly #cache: LRUCache<string, PositionedState>;

  constructor(options: UnitStatesOptions) {
    this.#options = options;
    this.#cache = new LRUCache({
      maxSize: MAX_CACHED_BYTES,
      sizeCalculation: ({ state }) => this.#sizes.bytesOf(state),
    });
  }

  createTable(tx: Tx, schema: string): Promise<void> {
    return createStateTable(tx, schema);
  }

  /** Folds a batch and saves the changed states. @returns the units that changed */
  async fold(tx: Tx, schema: string, commits: CommitBatch): Promise<FoldedUnit[]> {
    const byUnit = this.#groupByUnit(commits);
    if (byUnit.size === 0) return [];
    const known = await this.#load(tx, schema, [...byUnit.keys()]);
    const folded: PositionedFold[] = [];
    for (const [unit, ofUnit] of byUnit) {
      const before = known.get(unit) ?? { state: newUnitState(unit), position: 0 };
      const after = this.#evolve(before, ofUnit);
      if (after.position === before.position) continue;
      folded.push({ before: before.state, after: after.state, position: after.position });
      this.#cache.set(`${schema} ${unit}`, after);
    }
    for (const chunk of chunksOf(folded, MAX_STATES_PER_WRITE)) await saveStates(tx, schema, chunk);
    return folded;
  }

  /** Opens a fold of the table over many batches. `saveOthers` writes the other tables that the read model derives from states. */
  openFold(
    schema: string,
    isFresh: boolean,
    saveOthers: (tx: Tx, folded: readonly FoldedUnit[]) => Promise<void>,
  ): Fold {
    const rows = new WriteBehindRows<PositionedFold>({
      bytesOf: ({ after }) => this.#sizes.bytesOf(after),
      maxCleanBytes: MAX_CLEAN_BYTES,
      isFresh,
    });
    return {
      add: (sql, commits) => this.#addToFold(sql, schema, commits, rows),
      get isFull() {
        return rows.dirtyBytes >= MAX_DIRTY_BYTES;
      },
      drain: () => {
        const drained = rows.drain();
        // The next change of a unit is compared with what this write leaves in its row.
        for (const { after, position } of drained) rows.putClean(after.name, { before: after, after, position });
        return async (tx) => {
          for (const chunk of chunksOf(drained, MAX_STATES_PER_WRITE)) {
            await saveStates(tx, schema, chunk);
            await saveOthers(tx, chunk);
          }
        };
      },
    };
  }

  async #addToFold(
    sql: Sql,
    schema: string,
    commits: CommitBatch,
    rows: WriteBehindRows<PositionedFold>,
  ): Promise<void> {
    const byUnit = this.#groupByUnit(commits);
    for (const [unit, { state, position }] of await readStates(sql, schema, rows.missing(byUnit.keys())))
      rows.putClean(unit, { before: state, after: state, position });
    for (const [unit, ofUnit] of byUnit) {
      const { before, after, position } = rows.get(unit) ?? unchanged(newUnitState(unit));
      const folded = this.#evolve({ state: after, position }, ofUnit);
      if (folded.position !== position) rows.putDirty(unit, { before, after: folded.state, position: folded.position });
    }
  }

  /** Groups the commits of the followed subjects by unit. */
  #groupByUnit(commits: CommitBatch): Map<string, Commit[]> {
    const { aggregates } = this.#options;
    return Map.groupBy(
      commits.filter((commit) => aggregates.has(commit.aggregate)),
      (commit) => commit.unit,
    );
  }

  #evolve(before: PositionedState, commits: CommitBatch): PositionedState {
    const { startsAtRegistration, trim } = this.#options;
    let { state, position } = before;
    for (const commit of commits) {
      const isUnregistered = state.registry.status === 'unregistered' && commit.aggregate !== 'registry';
      if (startsAtRegistration && isUnregistered) continue;
      state = trim(evolveUnit(state, commit));
      position = commit.sequence;
    }
    return { state, position };
  }

  async #load(tx: Tx, schema: string, units: readonly string[]): Promise<ReadonlyMap<string, PositionedState>> {
    const known = new Map<string, PositionedState>();
    const missing: string[] = [];
    for (const { unit, position } of await readStatePositions(tx, schema, units)) {
      const cached = this.#cache.get(`${schema} ${unit}`);
      if (cached?.position === position) known.set(unit, cached);
      else missing.push(unit);
    }
    for (const [unit, state] of await readStates(tx, schema, missing)) known.set(unit, state);
    return known;
  }
}

function unchanged(state: UnitState): PositionedFold {
  return { before: state, after: state, position: 0 };
}

/** Removes the uses of reservations, which only decisions need. */
export function withoutUses(state: UnitState): UnitState {
  if (state.device.usages.length === 0) return state;
  return { ...state, device: { ...state.device, usages: [] } };
}

/** The version of a read model that keeps unit states: it also changes when the fold of a unit changes. */
export function versionWithFold(version: number): number {
  return version * FOLD_VERSIONS + UNIT_FOLD_VERSION;
}

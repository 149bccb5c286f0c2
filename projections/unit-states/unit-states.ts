/** Read models that keep the folded state of each unit: load it, fold a batch in, hand it back. */

import type { Aggregate } from '../../domain/events/envelope.ts';
import { evolveUnit, newUnitState, UNIT_FOLD_VERSION, type UnitState } from '../../domain/unit/unit.ts';
import { chunksOf } from '../../platform/batching/chunks-of.ts';
import type { Sql, Tx } from '../../platform/postgres/connection.ts';
import { WriteBehindRows } from '../engine/fill/write-behind-rows.ts';
import type { Commit, CommitBatch, Fold } from '../engine/projection.ts';

/** States that a read model keeps in memory, so that it need not read back what it has written. */
const MAX_CACHED_STATES = 5_000;
const FOLD_VERSIONS = 1_000;
/** States that a rebuild keeps in memory, and how many may wait there to be written. */
const MAX_KEPT_STATES = 10_000;
const MAX_WAITING_STATES = 5_000;
/** States that one statement writes. */
const MAX_STATES_PER_WRITE = 250;

export interface UnitStatesOptions {
  /** The subjects that the read model follows. */
  readonly aggregates: ReadonlySet<Aggregate>;
  /** Whether a unit begins with its registration, and what came before is passed over. */
  readonly startsAtRegistration: boolean;
  /** Takes out what the read model does not show. */
  readonly trim: (state: UnitState) => UnitState;
}

/** A unit before and after a batch. Parts that did not change are the same objects. */
export interface FoldedUnit {
  readonly before: UnitState;
  readonly after: UnitState;
}

/** With the position of its last commit. */
interface Changed extends FoldedUnit {
  readonly position: number;
}

/** A row of the table `unit_state`; what is still as it was in the beginning is null. */
export type StateRow = { readonly [Part in StatePart]: UnitState[Part] | null };
type StatePart = Exclude<keyof UnitState, 'name'>;

interface Cached {
  readonly state: UnitState;
  readonly position: number;
}

/**
 * The states of one read model, in the table `unit_state` of its schema. Each part of a state is a column of its own, so
 * that a door that opens does not write all reservations again. They are `json` and not `jsonb`: the folds know the oldest
 * of what they keep by its place.
 *
 * A state in memory is used only when the row says that it is of the same position, so it does not matter whether what was
 * folded was committed, and who wrote the row: a state is a function of the commits up to its position.
 */
export class UnitStates {
  readonly #folding: UnitStatesOptions;
  readonly #cache = new Map<string, Cached>();

  constructor(folding: UnitStatesOptions) {
    this.#folding = folding;
  }

  async createTable(tx: Tx, schema: string): Promise<void> {
    await tx`
      create table ${tx(`${schema}.unit_state`)} (
        unit text primary key,
        position bigint not null,
        registry json,
        configuration json,
        connectivity json,
        -- Rewritten often: compressing a busy unit's bookings would cost three times what writing them does.
        booking json storage external,
        device json storage external,
        log json,
        sequences json
      ) with (
        fillfactor = 70,
        -- All rows are written again and again: what is dead must go as fast as it comes.
        autovacuum_vacuum_cost_delay = 0,
        toast.autovacuum_vacuum_cost_delay = 0
      )`;
  }

  /** Folds a batch in and saves the states. @returns the units that have changed */
  async fold(tx: Tx, schema: string, commits: CommitBatch): Promise<FoldedUnit[]> {
    const byUnit = this.#followed(commits);
    if (byUnit.size === 0) return [];
    const known = await this.#load(tx, schema, [...byUnit.keys()]);
    const folded: Changed[] = [];
    for (const [unit, ofUnit] of byUnit) {
      const before = known.get(unit) ?? { state: newUnitState(unit), position: 0 };
      const after = this.#evolve(before, ofUnit);
      if (after.position === before.position) continue;
      folded.push({ before: before.state, after: after.state, position: after.position });
      this.#remember(schema, unit, after);
    }
    for (const part of chunksOf(folded, MAX_STATES_PER_WRITE)) await save(tx, schema, part);
    return folded;
  }

  /** Fills the table from many batches at once; `saveOthers` writes what else the read model shows of a unit. */
  openFold(
    schema: string,
    isFresh: boolean,
    saveOthers: (tx: Tx, folded: readonly FoldedUnit[]) => Promise<void>,
  ): Fold {
    const kept = new WriteBehindRows<Changed>(MAX_KEPT_STATES, isFresh);
    return {
      add: async (sql, commits) => {
        const byUnit = this.#followed(commits);
        for (const row of await readStates(sql, schema, kept.missing(byUnit.keys()))) {
          const { unit, position } = row;
          const state = stateOf(unit, row);
          kept.putClean(unit, { before: state, after: state, position });
        }
        for (const [unit, ofUnit] of byUnit) {
          const { before, after, position } = kept.get(unit) ?? unchanged(newUnitState(unit));
          const folded = this.#evolve({ state: after, position }, ofUnit);
          if (folded.position !== position)
            kept.putDirty(unit, { before, after: folded.state, position: folded.position });
        }
      },
      get isFull() {
        return kept.dirtyCount >= MAX_WAITING_STATES;
      },
      drain: () => {
        const folded = kept.drain();
        // The next change begins where this one is written.
        for (const { after, position } of folded) kept.putClean(after.name, { before: after, after, position });
        return async (tx) => {
          for (const part of chunksOf(folded, MAX_STATES_PER_WRITE)) {
            await save(tx, schema, part);
            await saveOthers(tx, part);
          }
        };
      },
    };
  }

  #followed(commits: CommitBatch): Map<string, Commit[]> {
    const { aggregates } = this.#folding;
    return Map.groupBy(
      commits.filter((commit) => aggregates.has(commit.aggregate)),
      (commit) => commit.unit,
    );
  }

  #evolve(before: Cached, commits: CommitBatch): Cached {
    const { startsAtRegistration: isFromRegistration, trim: keep } = this.#folding;
    let { state, position } = before;
    for (const commit of commits) {
      const isEarly = isFromRegistration && state.registry.status === 'unregistered' && commit.aggregate !== 'registry';
      if (isEarly) continue;
      state = keep(evolveUnit(state, commit));
      position = commit.sequence;
    }
    return { state, position };
  }

  async #load(tx: Tx, schema: string, units: readonly string[]): Promise<ReadonlyMap<string, Cached>> {
    const table = tx(`${schema}.unit_state`);
    const rows = await tx<{ unit: string; position: number }[]>`
      select unit, position from ${table} where unit = any(${units}::text[])`;
    const known = new Map<string, Cached>();
    const missing: string[] = [];
    for (const { unit, position } of rows) {
      const cached = this.#cache.get(`${schema} ${unit}`);
      if (cached?.position === position) known.set(unit, cached);
      else missing.push(unit);
    }
    if (missing.length === 0) return known;
    for (const row of await readStates(tx, schema, missing))
      known.set(row.unit, { state: stateOf(row.unit, row), position: row.position });
    return known;
  }

  #remember(schema: string, unit: string, cached: Cached): void {
    const key = `${schema} ${unit}`;
    this.#cache.delete(key);
    this.#cache.set(key, cached);
    if (this.#cache.size <= MAX_CACHED_STATES) return;
    const [oldest] = this.#cache.keys();
    if (oldest !== undefined) this.#cache.delete(oldest);
  }
}

async function readStates(
  sql: Sql,
  schema: string,
  units: readonly string[],
): Promise<readonly ({ readonly unit: string; readonly position: number } & StateRow)[]> {
  if (units.length === 0) return [];
  return sql<({ unit: string; position: number } & StateRow)[]>`
    select unit, position, registry, configuration, connectivity, booking, device, log, sequences
    from ${sql(`${schema}.unit_state`)} where unit = any(${units}::text[])`;
}

function unchanged(state: UnitState): Changed {
  return { before: state, after: state, position: 0 };
}

/** The state that a row of `unit_state` holds. */
export function stateOf(unit: string, row: StateRow): UnitState {
  const { registry, configuration, connectivity, booking, device, log, sequences } = newUnitState(unit);
  return {
    name: unit,
    registry: row.registry ?? registry,
    configuration: row.configuration ?? configuration,
    connectivity: row.connectivity ?? connectivity,
    booking: row.booking ?? booking,
    device: row.device ?? device,
    log: row.log ?? log,
    sequences: row.sequences ?? sequences,
  };
}

async function save(tx: Tx, schema: string, folded: readonly Changed[]): Promise<void> {
  const part = (name: StatePart) =>
    folded.map(({ before, after }) => (before[name] === after[name] ? null : JSON.stringify(after[name])));
  await tx`
    insert into ${tx(`${schema}.unit_state`)} as s (unit, position, registry, configuration, connectivity, booking, device, log, sequences)
    select unit, position, registry::json, configuration::json, connectivity::json, booking::json, device::json, log::json, sequences::json
    from unnest(
      ${folded.map(({ after }) => after.name)}::text[],
      ${folded.map(({ position }) => position)}::bigint[],
      ${part('registry')}::text[],
      ${part('configuration')}::text[],
      ${part('connectivity')}::text[],
      ${part('booking')}::text[],
      ${part('device')}::text[],
      ${part('log')}::text[],
      ${part('sequences')}::text[]
    ) as batch (unit, position, registry, configuration, connectivity, booking, device, log, sequences)
    on conflict (unit) do update set
      position = excluded.position,
      registry = coalesce(excluded.registry, s.registry),
      configuration = coalesce(excluded.configuration, s.configuration),
      connectivity = coalesce(excluded.connectivity, s.connectivity),
      booking = coalesce(excluded.booking, s.booking),
      device = coalesce(excluded.device, s.device),
      log = coalesce(excluded.log, s.log),
      sequences = coalesce(excluded.sequences, s.sequences)`;
}

/** A state without the uses of reservations, of which only decisions want to know. */
export function withoutUses(state: UnitState): UnitState {
  if (state.device.uses.length === 0) return state;
  return { ...state, device: { ...state.device, uses: [] } };
}

/** The version of a read model that keeps unit states: it changes with the fold, too. */
export function versionWithFold(version: number): number {
  return version * FOLD_VERSIONS + UNIT_FOLD_VERSION;
}

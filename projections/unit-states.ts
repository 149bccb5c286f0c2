/** Read models that keep the folded state of each unit: load it, fold a batch in, hand it back. */

import type { Aggregate } from '../domain/envelope.ts';
import { evolveUnit, newUnitState, UNIT_FOLD_VERSION, type UnitState } from '../domain/unit.ts';
import type { Tx } from '../platform/postgres/connection.ts';
import type { Commit } from './engine/projection.ts';

/** States that a read model keeps in memory, so that it need not read back what it has written. */
const MAX_CACHED_STATES = 5_000;
const FOLD_VERSIONS = 1_000;

export interface Folding {
  /** The subjects that the read model follows. */
  readonly aggregates: ReadonlySet<Aggregate>;
  /** Whether a unit begins with its registration, and what came before is passed over. */
  readonly isFromRegistration: boolean;
  /** Takes out what the read model does not show. */
  readonly keep: (state: UnitState) => UnitState;
}

/** A unit before and after a batch. Parts that did not change are the same objects. */
export interface FoldedUnit {
  readonly before: UnitState;
  readonly after: UnitState;
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
  readonly #folding: Folding;
  readonly #cache = new Map<string, Cached>();

  constructor(folding: Folding) {
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
      ) with (fillfactor = 70)`;
  }

  /** Folds a batch in and saves the states. @returns the units that have changed */
  async fold(tx: Tx, schema: string, commits: readonly Commit[]): Promise<FoldedUnit[]> {
    const { aggregates, isFromRegistration, keep } = this.#folding;
    const byUnit = Map.groupBy(
      commits.filter((commit) => aggregates.has(commit.aggregate)),
      (commit) => commit.unit,
    );
    if (byUnit.size === 0) return [];
    const known = await this.#load(tx, schema, [...byUnit.keys()]);
    const folded: (FoldedUnit & { readonly position: number })[] = [];
    for (const [unit, ofUnit] of byUnit) {
      const before = known.get(unit) ?? { state: newUnitState(unit), position: 0 };
      let { state, position } = before;
      for (const commit of ofUnit) {
        const isEarly =
          isFromRegistration && state.registry.status === 'unregistered' && commit.aggregate !== 'registry';
        if (isEarly) continue;
        state = keep(evolveUnit(state, commit));
        position = commit.sequence;
      }
      if (position === before.position) continue;
      folded.push({ before: before.state, after: state, position });
      this.#remember(schema, unit, { state, position });
    }
    if (folded.length > 0) await save(tx, schema, folded);
    return folded;
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
    const read = await tx<({ unit: string; position: number } & StateRow)[]>`
      select unit, position, registry, configuration, connectivity, booking, device, log, sequences from ${table}
      where unit = any(${missing}::text[])`;
    for (const row of read) known.set(row.unit, { state: stateOf(row.unit, row), position: row.position });
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

async function save(
  tx: Tx,
  schema: string,
  folded: readonly (FoldedUnit & { readonly position: number })[],
): Promise<void> {
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
  if (Object.keys(state.device.uses).length === 0) return state;
  return { ...state, device: { ...state.device, uses: {} } };
}

/** The version of a read model that keeps unit states: it changes with the fold, too. */
export function versionWithFold(version: number): number {
  return version * FOLD_VERSIONS + UNIT_FOLD_VERSION;
}

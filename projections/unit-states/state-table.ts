/**
 * The table `unit_state` of a read model: the folded state of each unit.
 *
 * Each part of a state is a column, so that an event at a door does not rewrite all reservations. The columns are `json` and
 * not `jsonb`, because the folds rely on the order of keys: they evict the oldest entry first. Null stands for a part that is
 * still as in a new unit.
 */

import { newUnitState, type UnitState } from '../../domain/unit/unit.ts';
import type { Sql, Tx } from '../../platform/postgres/connection.ts';

type StatePart = Exclude<keyof UnitState, 'name'>;

/** The parts of a state as columns. */
export type StateRow = { readonly [Part in StatePart]: UnitState[Part] | null };

/** The state of a unit, and the position of its last folded commit. */
export interface PositionedState {
  readonly state: UnitState;
  readonly position: number;
}

/** A unit before and after a fold. Parts that did not change are identical objects. */
export interface FoldedUnit {
  readonly before: UnitState;
  readonly after: UnitState;
}

/** A folded unit with the position of its last folded commit. */
export interface PositionedFold extends FoldedUnit {
  readonly position: number;
}

export async function createStateTable(tx: Tx, schema: string): Promise<void> {
  await tx`
    create table ${tx(`${schema}.unit_state`)} (
      unit text primary key,
      position bigint not null,
      registry json,
      configuration json,
      connectivity json,
      -- Uncompressed: compressing the bookings of a busy unit at each write costs three times what the write itself costs.
      booking json storage external,
      device json storage external,
      log json,
      sequences json
    ) with (
      fillfactor = 70,
      -- Every row is rewritten again and again, so vacuum must remove dead rows as fast as they come.
      autovacuum_vacuum_cost_delay = 0,
      toast.autovacuum_vacuum_cost_delay = 0
    )`;
}

/** Reads the positions of some units; a unit without a row is missing in the result. */
export async function readStatePositions(
  sql: Sql,
  schema: string,
  units: readonly string[],
): Promise<readonly { readonly unit: string; readonly position: number }[]> {
  return sql<{ unit: string; position: number }[]>`
    select unit, position from ${sql(`${schema}.unit_state`)} where unit = any(${units}::text[])`;
}

/** Reads the states of some units; a unit without a row is missing in the result. */
export async function readStates(
  sql: Sql,
  schema: string,
  units: readonly string[],
): Promise<ReadonlyMap<string, PositionedState>> {
  if (units.length === 0) return new Map();
  const rows = await sql<({ unit: string; position: number } & StateRow)[]>`
    select unit, position, registry, configuration, connectivity, booking, device, log, sequences
    from ${sql(`${schema}.unit_state`)} where unit = any(${units}::text[])`;
  return new Map(rows.map((row) => [row.unit, { state: stateOf(row.unit, row), position: row.position }]));
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

/** Writes the parts that changed; the others keep their value. */
export async function saveStates(tx: Tx, schema: string, folded: readonly PositionedFold[]): Promise<void> {
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

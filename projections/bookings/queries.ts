import { laneOf } from '../../domain/shard.ts';
import { newUnitState, UNIT_FOLD_VERSION, type UnitState } from '../../domain/unit.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import type { UnitSnapshot } from '../../platform/units/unit-decider.ts';
import { servingRun } from '../engine/serving.ts';

interface Row {
  readonly lane_position: number;
  readonly parked_from: number | null;
  readonly fold_version: number | null;
  readonly state: UnitState | null;
}

/**
 * The last snapshot of a unit and how far it is complete: to the checkpoint of its lane, or to just before the commit at
 * which it is parked. Row and checkpoint come from one statement, so that they belong together. A unit without a usable row
 * starts empty.
 */
export async function loadSnapshot(sql: Sql, unit: string): Promise<UnitSnapshot> {
  const { runId, schema } = await servingRun(sql, 'bookings');
  const [row] = await sql<Row[]>`
    select c.position as lane_position, s.fold_version, s.state,
      (select min(p.position) from platform.projection_parked p where p.run_id = c.run_id and p.unit = ${unit}) as parked_from
    from platform.projection_checkpoints c
    left join ${sql(`${schema}.unit_state`)} s on s.unit = ${unit}
    where c.run_id = ${runId} and c.lane = ${laneOf(unit)}`;
  if (row === undefined) return { state: newUnitState(unit), completeTo: 0 };
  const completeTo = row.parked_from === null ? row.lane_position : row.parked_from - 1;
  if (row.state === null) return { state: newUnitState(unit), completeTo };
  if (row.fold_version !== UNIT_FOLD_VERSION) return { state: newUnitState(unit), completeTo: 0 };
  return { state: row.state, completeTo };
}

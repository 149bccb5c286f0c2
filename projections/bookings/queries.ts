import { laneOf } from '../../domain/shard.ts';
import { newUnitState } from '../../domain/unit.ts';
import type { Sql } from '../../platform/postgres/connection.ts';
import type { UnitSnapshot } from '../../platform/units/unit-decider.ts';
import { servingRun } from '../engine/serving.ts';
import { type StateRow, stateOf } from '../unit-states.ts';
import { BOOKINGS_VERSION } from './projection.ts';

interface Row extends StateRow {
  readonly version: number;
  readonly lane_position: number;
  readonly parked_from: number | null;
}

/**
 * The last snapshot of a unit and how far it is complete: to the checkpoint of its lane, or to just before the commit at
 * which it is parked. Row and checkpoint come from one statement, so that they belong together. A unit without a row has no
 * commits up to there; when the snapshots are of another version, the unit is to be read from the beginning.
 */
export async function loadSnapshot(sql: Sql, unit: string): Promise<UnitSnapshot> {
  const { runId, schema } = await servingRun(sql, 'bookings');
  const [row] = await sql<Row[]>`
    select r.version, c.position as lane_position, p.position as parked_from,
      s.registry, s.connectivity, s.booking, s.device, s.log, s.sequences
    from platform.projection_checkpoints c
    join platform.projection_runs r on r.id = c.run_id
    left join platform.projection_parked p on p.run_id = c.run_id and p.unit = ${unit}
    left join ${sql(`${schema}.unit_state`)} s on s.unit = ${unit}
    where c.run_id = ${runId} and c.lane = ${laneOf(unit)}`;
  if (row === undefined || row.version !== BOOKINGS_VERSION) return { state: newUnitState(unit), completeTo: 0 };
  const completeTo = row.parked_from === null ? row.lane_position : row.parked_from - 1;
  return { state: stateOf(unit, row), completeTo };
}

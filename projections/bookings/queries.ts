import { laneOf } from '../../domain/shard.ts';
import { newUnitState } from '../../domain/unit/unit.ts';
import type { UnitSnapshot } from '../../platform/units/unit-decider.ts';
import type { ReadModels } from '../engine/queries/serving-runs.ts';
import { type StateRow, stateOf } from '../unit-states/unit-states.ts';
import { BOOKINGS_VERSION } from './projection.ts';

/** Units whose snapshots are read in one statement. */
const MAX_UNITS_PER_READ = 500;

interface Row extends StateRow {
  readonly unit: string;
  readonly version: number;
  readonly lane_position: number;
  readonly parked_from: number | null;
}

/**
 * Reads the last snapshots of units, all that are asked for at the same moment in one statement.
 * @returns what reads that of a unit, and how far it is complete: to the checkpoint of its lane, or to just before the commit
 *   at which it is parked. A unit without a row has no commits up to there.
 */
export function snapshotReader(readModels: ReadModels): (unit: string) => Promise<UnitSnapshot> {
  let waiting: { readonly unit: string; readonly answer: PromiseWithResolvers<UnitSnapshot> }[] = [];
  const read = async () => {
    const asked = waiting;
    waiting = [];
    try {
      const snapshots = await readSnapshots(readModels, [...new Set(asked.map(({ unit }) => unit))]);
      for (const { unit, answer } of asked) answer.resolve(snapshots.get(unit) ?? unread(unit));
    } catch (error) {
      for (const { answer } of asked) answer.reject(error);
    }
  };
  return (unit) => {
    const answer = Promise.withResolvers<UnitSnapshot>();
    waiting.push({ unit, answer });
    if (waiting.length >= MAX_UNITS_PER_READ) void read();
    else if (waiting.length === 1) setImmediate(() => void read());
    return answer.promise;
  };
}

/** Row and checkpoint come from one statement, so that they belong together. */
async function readSnapshots(
  { sql, servingRuns }: ReadModels,
  units: readonly string[],
): Promise<ReadonlyMap<string, UnitSnapshot>> {
  if (units.length === 0) return new Map();
  const { runId, schema } = await servingRuns.find('bookings');
  const rows = await sql<Row[]>`
    select asked.unit, r.version, c.position as lane_position, p.position as parked_from,
      s.registry, s.configuration, s.connectivity, s.booking, s.device, s.log, s.sequences
    from unnest(${units}::text[], ${units.map(laneOf)}::int[]) as asked(unit, lane)
    join platform.projection_checkpoints c on c.run_id = ${runId} and c.lane = asked.lane
    join platform.projection_runs r on r.id = c.run_id
    left join platform.projection_parked p on p.run_id = c.run_id and p.unit = asked.unit
    left join ${sql(`${schema}.unit_state`)} s on s.unit = asked.unit`;
  return new Map(
    rows.flatMap((row): [string, UnitSnapshot][] => {
      // Of another version: the unit is to be read from the beginning.
      if (row.version !== BOOKINGS_VERSION) return [];
      const completeTo = row.parked_from === null ? row.lane_position : row.parked_from - 1;
      return [[row.unit, { state: stateOf(row.unit, row), completeTo }]];
    }),
  );
}

function unread(unit: string): UnitSnapshot {
  return { state: newUnitState(unit), completeTo: 0 };
}

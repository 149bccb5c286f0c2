import { laneOf } from '../../domain/shard.ts';
import { newUnitState } from '../../domain/unit/unit.ts';
import { PostgresUnavailableError } from '../../platform/postgres/connection.ts';
import type { UnitSnapshot } from '../../platform/units/unit-decider.ts';
import type { ReadModels } from '../engine/queries/serving-runs.ts';
import { type StateRow, stateOf } from '../unit-states/state-table.ts';
import { BOOKINGS_VERSION } from './projection.ts';

/** Requests that share one statement at most. */
const MAX_UNITS_PER_READ = 500;

interface Row extends StateRow {
  readonly unit: string;
  readonly version: number;
  readonly lane_position: number;
  readonly parked_from: number | null;
}

/**
 * Creates a reader of snapshots. Requests that arrive in the same turn of the event loop share one statement.
 *
 * @returns a function that reads the snapshot of a unit. The snapshot is complete up to `completeTo`: the checkpoint of the lane,
 *   or the position before the commit at which the unit is parked. A unit without a row has no commit up to there.
 */
export function snapshotReader(readModels: ReadModels): (unit: string) => Promise<UnitSnapshot> {
  let waiting: { readonly unit: string; readonly answer: PromiseWithResolvers<UnitSnapshot> }[] = [];
  const read = async () => {
    const requests = waiting;
    waiting = [];
    try {
      const snapshots = await readSnapshots(readModels, [...new Set(requests.map(({ unit }) => unit))]);
      for (const { unit, answer } of requests) answer.resolve(snapshots.get(unit) ?? emptySnapshot(unit));
    } catch (error) {
      for (const { answer } of requests) answer.reject(error);
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

/** One statement reads rows and checkpoints, so that both are of one moment. */
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
      // To fold a unit by other rules than those of the snapshot would mean reading the store from its beginning.
      if (row.version !== BOOKINGS_VERSION) {
        throw new PostgresUnavailableError(
          `The read model bookings serves version ${row.version}, and this code needs ${BOOKINGS_VERSION}. Retry when that is built.`,
        );
      }
      const completeTo = row.parked_from === null ? row.lane_position : row.parked_from - 1;
      return [[row.unit, { state: stateOf(row.unit, row), completeTo }]];
    }),
  );
}

function emptySnapshot(unit: string): UnitSnapshot {
  return { state: newUnitState(unit), completeTo: 0 };
}

/** A unit that time alone changes at `dueMs`, milliseconds since 1970. */
export interface DueUnit {
  readonly unit: string;
  /** Position of the last commit of the unit that the read model has. */
  readonly position: number;
  readonly dueMs: number;
}

/** Reads a page of the units that are due at `nowMs`, the longest due first. `after` is the last unit of the page before. */
export async function dueUnits(
  { sql, servingRuns }: ReadModels,
  { nowMs, after, limit }: { readonly nowMs: number; readonly after?: DueUnit; readonly limit: number },
): Promise<readonly DueUnit[]> {
  const { schema } = await servingRuns.find('bookings');
  const rest =
    after === undefined ? sql.part`` : sql.part`and (d.due_at, d.unit) > (${new Date(after.dueMs)}, ${after.unit})`;
  const rows = await sql<{ unit: string; position: number; due_at: Date }[]>`
    select d.unit, s.position, d.due_at from ${sql(`${schema}.settlement_due`)} d
    join ${sql(`${schema}.unit_state`)} s on s.unit = d.unit
    where d.due_at <= ${new Date(nowMs)} ${rest}
    order by d.due_at, d.unit limit ${limit}`;
  return rows.map(({ unit, position, due_at }) => ({ unit, position, dueMs: due_at.getTime() }));
}

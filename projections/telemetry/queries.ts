import type { Sql } from '../../platform/postgres/connection.ts';

/** Most units that are named in one answer. With more clocks wrong than that, it is ours that is wrong. */
const MAX_WRONG_CLOCKS = 100_000;

/** By how many milliseconds the clocks of units are ahead, for those whose clock is wrong. */
export async function clockOffsets(sql: Sql): Promise<ReadonlyMap<string, number>> {
  const rows = await sql<{ unit: string; clock_offset_ms: number }[]>`
    select unit, clock_offset_ms from platform.unit_telemetry where clock_wrong order by unit limit ${MAX_WRONG_CLOCKS}`;
  return new Map(rows.map(({ unit, clock_offset_ms }) => [unit, clock_offset_ms]));
}

/** The days of the daily summary as the API shows and exports them. */

import { type DaySummary, listDays, type SummaryQuery } from '../../../projections/daily_summary/queries.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { type CsvValue, csvContentType, csvLines } from '../../http/csv.ts';
import type { Export } from '../../http/export-streams.ts';

const MINUTE_MS = 60_000;
/** Days in one page of an export. */
const EXPORT_PAGE_DAYS = 100;

type Day = ReturnType<typeof dayView>;

/** A day as the API shows it: times in minutes, and the shares that follow from them. */
export function dayView({ rentedMs, inServiceMs, onlineMs, lifeMs, ...day }: DaySummary, unit: string | undefined) {
  return {
    ...day,
    ...(unit === undefined ? {} : { unit }),
    lockerMinutesRented: minutes(rentedMs),
    lockerMinutesInService: minutes(inServiceMs),
    occupancy: ratio(rentedMs, inServiceMs),
    minutesOnline: minutes(onlineMs),
    minutes: minutes(lifeMs),
    uptime: ratio(onlineMs, lifeMs),
  };
}

/** Minutes with two decimals. */
function minutes(ms: number): number {
  return Math.round((ms / MINUTE_MS) * 100) / 100;
}

function ratio(part: number, whole: number): number | null {
  return whole === 0 ? null : Math.round((part / whole) * 10_000) / 10_000;
}

const COLUMNS: Readonly<Record<string, (day: Day) => CsvValue>> = {
  day: ({ day }) => day,
  unit: ({ unit }) => unit,
  units: ({ units }) => units,
  isOver: ({ isOver }) => String(isOver),
  rentals: ({ rentals }) => rentals,
  revenue: ({ revenue }) => JSON.stringify(revenue),
  lockerMinutesRented: ({ lockerMinutesRented }) => lockerMinutesRented,
  lockerMinutesInService: ({ lockerMinutesInService }) => lockerMinutesInService,
  occupancy: ({ occupancy }) => occupancy,
  minutesOnline: ({ minutesOnline }) => minutesOnline,
  minutes: ({ minutes }) => minutes,
  uptime: ({ uptime }) => uptime,
  hardwareErrors: ({ hardwareErrors }) => hardwareErrors,
  openFailures: ({ openFailures }) => openFailures,
  conflicts: ({ conflicts }) => conflicts,
};

export function dayExport(readModels: ReadModels, query: SummaryQuery, nowMs: number): Export {
  return {
    contentType: csvContentType(query.cursor === undefined),
    fileName: 'daily-summary.csv',
    pieces: csv(readModels, query, nowMs),
  };
}

async function* csv(readModels: ReadModels, query: SummaryQuery, nowMs: number): AsyncGenerator<string> {
  if (query.cursor === undefined) yield csvLines([Object.keys(COLUMNS)]);
  let { cursor } = query;
  do {
    const page = await listDays(readModels, {
      ...query,
      ...(cursor === undefined ? {} : { cursor }),
      limit: EXPORT_PAGE_DAYS,
      nowMs,
    });
    const values = Object.values(COLUMNS);
    yield csvLines(page.items.map((item) => dayView(item, query.unit)).map((day) => values.map((value) => value(day))));
    cursor = page.nextCursor ?? undefined;
  } while (cursor !== undefined);
}

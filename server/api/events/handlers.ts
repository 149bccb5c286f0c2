/** The lines of an export of the event log: CSV with columns that stay, or a JSON object a line. */

import { lockerOfSubject } from '../../../domain/events/envelope.ts';
import type { EventExport, ExportedEvent } from '../../../projections/event_log/queries/events.ts';
import { NDJSON } from '../../http/body.ts';
import { CSV, type CsvValue, csvContentType, csvLines } from '../../http/csv.ts';
import type { Export } from '../../http/exports.ts';
import { invalidField, Problem, problemOf } from '../../http/problems.ts';

export type ExportType = typeof CSV | typeof NDJSON;

/** Further columns come behind these: their order is what readers know. */
const COLUMNS: Readonly<Record<string, (exported: ExportedEvent) => CsvValue>> = {
  position: ({ event }) => event.position,
  recordedAt: ({ event }) => event.recordedAt,
  time: ({ event }) => event.time,
  correctedTime: ({ event }) => event.correctedTime,
  type: ({ event }) => event.type,
  unit: ({ event }) => event.subject.split('/', 1)[0],
  locker: ({ event }) => lockerOfSubject(event.subject),
  id: ({ event }) => event.id,
  source: ({ event }) => event.source,
  subject: ({ event }) => event.subject,
  dataschema: ({ event }) => event.dataschema,
  actor: ({ event }) => event.actor,
  correlationid: ({ event }) => event.correlationid,
  causationid: ({ event }) => event.causationid,
  unitepoch: ({ event }) => event.unitepoch,
  unitseq: ({ event }) => event.unitseq,
  offline: ({ event }) => (event.offline === undefined ? undefined : String(event.offline)),
  clockoffsetms: ({ event }) => event.clockoffsetms,
  unitextra: ({ event }) => event.unitextra,
  data: ({ event }) => JSON.stringify(event.data),
  cursor: ({ cursor }) => cursor,
};
export const COLUMN_NAMES = Object.keys(COLUMNS);
const VALUES = Object.values(COLUMNS);

/** Types that one request may ask for. */
export const MAX_TYPES = 20;
const MAX_TYPE_LENGTH = 100;

/** The types of a query. @throws Problem */
export function typesOf(types: readonly string[]): readonly string[] {
  if (types.length > MAX_TYPES) throw invalidField('/query/type', `must have at most ${MAX_TYPES} types`);
  if (types.some((type) => type === '' || type.length > MAX_TYPE_LENGTH)) {
    throw invalidField('/query/type', `must be types of 1 to ${MAX_TYPE_LENGTH} characters`);
  }
  return types;
}

/** `isRest`: it goes on where another broke off, and its lines are put behind those that came then. */
export function eventExport(type: ExportType, { pages, upTo }: EventExport, isRest: boolean): Export {
  const headers = { 'lockfleet-position': String(upTo) };
  if (type === CSV) {
    return { contentType: csvContentType(!isRest), fileName: 'events.csv', headers, pieces: csv(pages, isRest) };
  }
  return { contentType: NDJSON, fileName: 'events.ndjson', headers, pieces: ndjson(pages) };
}

async function* csv(pages: EventExport['pages'], isRest: boolean): AsyncGenerator<string> {
  if (!isRest) yield csvLines([COLUMN_NAMES]);
  for await (const page of pages) yield csvLines(page.map((exported) => VALUES.map((value) => value(exported))));
}

async function* ndjson(pages: EventExport['pages']): AsyncGenerator<string> {
  try {
    for await (const page of pages) yield page.map(({ event, cursor }) => line({ ...event, cursor })).join('');
  } catch (error) {
    const problem = problemOf(error) ?? new Problem('unavailable', 500, 'Something went wrong on our side.');
    yield line({ problem: problem.document });
    throw error;
  }
}

function line(value: object): string {
  return `${JSON.stringify(value)}\n`;
}

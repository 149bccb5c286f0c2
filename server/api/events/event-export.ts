/** Exports of the event log: CSV with fixed columns, or one JSON object a line. */

import { lockerOfSubject } from '../../../domain/events/cloud-event.ts';
import type { EventExport, ExportedEvent } from '../../../projections/event_log/queries/events.ts';
import { CSV, type CsvValue, csvContentType, csvLines } from '../../http/csv.ts';
import type { Export } from '../../http/export-streams.ts';
import { INTERNAL_DETAIL, invalidField, Problem, problemOf } from '../../http/problems.ts';
import { NDJSON } from '../../http/request-body.ts';
import { MAX_TYPES } from './schema.ts';

export type ExportType = typeof CSV | typeof NDJSON;

/** Readers rely on the order of the columns: a new column is appended. */
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

/** The longest event type that a query may name, in characters. */
const MAX_TYPE_LENGTH = 100;

/** Checks the types of a query. @throws Problem `validation` */
export function requireTypes(types: readonly string[]): readonly string[] {
  if (types.length > MAX_TYPES) throw invalidField('/query/type', `must have at most ${MAX_TYPES} types`);
  if (types.some((type) => type === '' || type.length > MAX_TYPE_LENGTH)) {
    throw invalidField('/query/type', `must be types of 1 to ${MAX_TYPE_LENGTH} characters`);
  }
  return types;
}

/** `isRest`: the client appends this export to an interrupted one, so that it has no header line. */
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
    const problem = problemOf(error) ?? new Problem('internal', 500, INTERNAL_DETAIL);
    yield line({ problem: problem.document });
    throw error;
  }
}

function line(value: object): string {
  return `${JSON.stringify(value)}\n`;
}

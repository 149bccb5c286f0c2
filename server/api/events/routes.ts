import { Elysia } from 'elysia';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { exportEvents, listEvents } from '../../../projections/event_log/queries/events.ts';
import type { ApiMacros } from '../../http/api-macros.ts';
import { CSV } from '../../http/csv.ts';
import type { ExportStreams } from '../../http/export-streams.ts';
import { preferredType } from '../../http/preferred-type.ts';
import { NDJSON } from '../../http/request-body.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import { eventExport, requireTypes } from './event-export.ts';
import { LIST_EVENTS } from './schema.ts';

export interface EventRouteDependencies {
  readonly exports: ExportStreams;
  /** Sessions that read pages of the event log. */
  readonly eventLog: ReadModels;
}

export function eventRoutes(macros: ApiMacros, { exports, eventLog }: EventRouteDependencies) {
  return new Elysia({ prefix: '/v1/events' }).use(macros).get(
    '',
    async ({ query, headers, request, server }) => {
      const { minPosition: _, limit = DEFAULT_LIMIT, count, type: types, ...others } = query;
      const filter = types === undefined ? others : { ...others, type: requireTypes(types) };
      const type = preferredType(headers.accept, ['application/json', CSV, NDJSON]);
      if (type === 'application/json') return listEvents(eventLog, { ...filter, limit, ...(count ? { count } : {}) });
      const exported = await exportEvents(eventLog, filter);
      return exports.respond(eventExport(type, exported, filter.cursor !== undefined), request, server);
    },
    LIST_EVENTS,
  );
}

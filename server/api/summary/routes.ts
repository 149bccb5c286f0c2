import { Elysia } from 'elysia';
import { toInstant } from '../../../domain/vocabulary.ts';
import { isSummaryDay, listDays } from '../../../projections/daily_summary/queries.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import type { ApiMacros } from '../../http/api-macros.ts';
import { CSV } from '../../http/csv.ts';
import type { ExportStreams } from '../../http/export-streams.ts';
import { preferredType } from '../../http/preferred-type.ts';
import { invalidField } from '../../http/problems.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import { dayExport, dayView } from './day-view.ts';
import { LIST_DAYS } from './schema.ts';

export interface SummaryRouteDependencies {
  readonly exports: ExportStreams;
  readonly readModels: ReadModels;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

export function summaryRoutes(macros: ApiMacros, { exports, readModels, clock }: SummaryRouteDependencies) {
  return new Elysia({ prefix: '/v1/daily-summary' }).use(macros).get(
    '',
    async ({ query: { minPosition: _, limit = DEFAULT_LIMIT, ...query }, headers, request, server }) => {
      for (const name of ['from', 'until'] as const) {
        const day = query[name];
        if (day !== undefined && !isSummaryDay(day))
          throw invalidField(`/query/${name}`, 'is not a day of the calendar');
      }
      const nowMs = clock();
      if (preferredType(headers.accept, ['application/json', CSV]) === CSV) {
        return exports.respond(dayExport(readModels, query, nowMs), request, server);
      }
      const page = await listDays(readModels, { ...query, limit, nowMs });
      return { ...page, items: page.items.map((day) => dayView(day, query.unit)), asOf: toInstant(nowMs) };
    },
    LIST_DAYS,
  );
}

import { Elysia } from 'elysia';
import { toInstant } from '../../../domain/vocabulary.ts';
import { isSummaryDay, listDays } from '../../../projections/daily_summary/queries.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { CSV } from '../../http/csv.ts';
import type { Exports } from '../../http/exports.ts';
import { preferredType } from '../../http/preferred-type.ts';
import { invalidField } from '../../http/problems.ts';
import type { ReadPositions } from '../../http/read-positions.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import { LIST } from './contract.ts';
import { dayExport, dayView } from './handlers.ts';

export interface SummaryRouteDependencies {
  readonly authenticator: Authenticator;
  readonly positions: ReadPositions;
  readonly exports: Exports;
  readonly readModels: ReadModels;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

export function summaryRoutes({ authenticator, positions, exports, readModels, clock }: SummaryRouteDependencies) {
  return new Elysia({ prefix: '/v1/daily-summary' })
    .derive(async ({ headers }) => ({ principal: await authenticator.authenticate(headers.authorization, 'ops') }))
    .get(
      '',
      async ({ query: { minPosition, limit = DEFAULT_LIMIT, ...query }, headers, request, server }) => {
        for (const name of ['from', 'until'] as const) {
          const day = query[name];
          if (day !== undefined && !isSummaryDay(day))
            throw invalidField(`/query/${name}`, 'is not a day that there is');
        }
        await positions.reached('daily_summary', minPosition, query.unit);
        const nowMs = clock();
        if (preferredType(headers.accept, ['application/json', CSV]) === CSV) {
          return exports.answer(dayExport(readModels, query, nowMs), request, server);
        }
        const page = await listDays(readModels, { ...query, limit, nowMs });
        return { ...page, items: page.items.map((day) => dayView(day, query.unit)), asOf: toInstant(nowMs) };
      },
      LIST,
    );
}

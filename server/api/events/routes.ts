import { Elysia } from 'elysia';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { exportEvents, listEvents } from '../../../projections/event_log/queries/events.ts';
import { NDJSON } from '../../http/body.ts';
import { CSV } from '../../http/csv.ts';
import type { Exports } from '../../http/exports.ts';
import { preferredType } from '../../http/preferred-type.ts';
import type { ReadPositions } from '../../http/read-positions.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import { LIST } from './contract.ts';
import { eventExport, typesOf } from './handlers.ts';

export interface EventDependencies {
  readonly authenticator: Authenticator;
  readonly positions: ReadPositions;
  readonly exports: Exports;
  /** Sessions that read pages of the log. */
  readonly eventLog: ReadModels;
}

export function eventRoutes({ authenticator, positions, exports, eventLog }: EventDependencies) {
  return new Elysia({ prefix: '/v1/events' })
    .derive(async ({ headers }) => ({ principal: await authenticator.authenticate(headers.authorization, 'ops') }))
    .get(
      '',
      async ({ query, headers, request, server }) => {
        const { minPosition, limit = DEFAULT_LIMIT, count, type: types, ...filter } = query;
        const wanted = types === undefined ? filter : { ...filter, type: typesOf(types) };
        await positions.reached('event_log', minPosition, wanted.unit);
        const type = preferredType(headers.accept, ['application/json', CSV, NDJSON]);
        if (type === 'application/json') return listEvents(eventLog, { ...wanted, limit, ...(count ? { count } : {}) });
        const exported = await exportEvents(eventLog, wanted);
        return exports.answer(eventExport(type, exported, wanted.cursor !== undefined), request, server);
      },
      LIST,
    );
}

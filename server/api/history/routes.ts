import { Elysia } from 'elysia';
import type { ApiMacros } from '../../http/api-macros.ts';
import { GET_STATE } from './schema.ts';
import type { UnitHistory } from './unit-history.ts';

export interface HistoryRouteDependencies {
  readonly history: UnitHistory;
}

export function historyRoutes(macros: ApiMacros, { history }: HistoryRouteDependencies) {
  return new Elysia({ prefix: '/v1/units/:name/state' })
    .use(macros)
    .get('', ({ params: { name }, query }) => history.stateAt(name, query), GET_STATE);
}

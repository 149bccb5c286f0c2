import { Elysia } from 'elysia';
import type { Guard } from '../auth/guard.ts';
import { GET_STATE } from './contract.ts';
import type { UnitHistory } from './handlers.ts';

export interface HistoryRouteDependencies {
  readonly guard: Guard;
  readonly history: UnitHistory;
}

export function historyRoutes({ guard, history }: HistoryRouteDependencies) {
  return new Elysia({ prefix: '/v1/units/:name/state' })
    .derive(async ({ headers }) => ({ principal: await guard.require(headers.authorization, 'ops') }))
    .get('', ({ params: { name }, query }) => history.stateAt(name, query), GET_STATE);
}

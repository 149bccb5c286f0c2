import { Elysia } from 'elysia';
import type { Authenticator } from '../auth/authenticator.ts';
import { GET_STATE } from './contract.ts';
import type { UnitHistory } from './handlers.ts';

export interface HistoryRouteDependencies {
  readonly authenticator: Authenticator;
  readonly history: UnitHistory;
}

export function historyRoutes({ authenticator, history }: HistoryRouteDependencies) {
  return new Elysia({ prefix: '/v1/units/:name/state' })
    .derive(async ({ headers }) => ({ principal: await authenticator.authenticate(headers.authorization, 'ops') }))
    .get('', ({ params: { name }, query }) => history.stateAt(name, query), GET_STATE);
}

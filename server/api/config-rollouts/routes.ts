import { Elysia } from 'elysia';
import type { RolloutAction } from '../../../domain/configuration/rollout.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { Writes } from '../../http/writes.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import { ABORT, CREATE, GET_ONE, LIST, LIST_UNITS, PAUSE, RESUME } from './contract.ts';
import type { Rollouts } from './handlers.ts';

export interface RolloutRouteDependencies {
  readonly authenticator: Authenticator;
  readonly writes: Writes;
  readonly rollouts: Rollouts;
}

export function rolloutRoutes({ authenticator, writes, rollouts }: RolloutRouteDependencies) {
  return new Elysia({ prefix: '/v1/config-rollouts' })
    .derive(async ({ headers, path, set }) => {
      const principal = await authenticator.authenticate(headers.authorization, 'ops');
      const actor = `ops:${principal.sub}`;
      const act = (id: string, action: RolloutAction, body: { reason?: string } | null | undefined) => {
        const said = body ?? {};
        const write = { principal, route: `POST ${path}`, key: headers['idempotency-key'], body: said };
        return writes.run(write, set, () => rollouts.act(id, action, actor, said.reason));
      };
      return { principal, actor, act };
    })
    .post(
      '',
      ({ principal, actor, headers, path, body, set }) =>
        writes.run({ principal, route: `POST ${path}`, key: headers['idempotency-key'], body }, set, (commandId) =>
          rollouts.create({ commandId, actor }, body),
        ),
      CREATE,
    )
    .get('', ({ query: { limit = DEFAULT_LIMIT, ...page } }) => rollouts.list({ ...page, limit }), LIST)
    .get('/:id', ({ params: { id } }) => rollouts.view(id), GET_ONE)
    .get(
      '/:id/units',
      ({ params: { id }, query: { limit = DEFAULT_LIMIT, ...query } }) => rollouts.units({ ...query, id, limit }),
      LIST_UNITS,
    )
    .post('/:id/pause', ({ params: { id }, act, body }) => act(id, 'pause', body), PAUSE)
    .post('/:id/resume', ({ params: { id }, act, body }) => act(id, 'resume', body), RESUME)
    .post('/:id/abort', ({ params: { id }, act, body }) => act(id, 'abort', body), ABORT);
}

import { Elysia } from 'elysia';
import type { ApiMacros } from '../../http/api-macros.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { RolloutService } from './rollout-service.ts';
import {
  ABORT_ROLLOUT,
  CREATE_ROLLOUT,
  GET_ROLLOUT,
  LIST_ROLLOUT_UNITS,
  LIST_ROLLOUTS,
  PAUSE_ROLLOUT,
  RESUME_ROLLOUT,
} from './schema.ts';

export interface RolloutRouteDependencies {
  readonly rollouts: RolloutService;
}

export function rolloutRoutes(macros: ApiMacros, { rollouts }: RolloutRouteDependencies) {
  return new Elysia({ prefix: '/v1/config-rollouts' })
    .use(macros)
    .post(
      '',
      ({ caller, write, body }) => write((commandId) => rollouts.create({ commandId, actor: caller.actor }, body)),
      CREATE_ROLLOUT,
    )
    .get('', ({ query: { limit = DEFAULT_LIMIT, ...page } }) => rollouts.list({ ...page, limit }), LIST_ROLLOUTS)
    .get('/:id', ({ params: { id } }) => rollouts.view(id), GET_ROLLOUT)
    .get(
      '/:id/units',
      ({ params: { id }, query: { limit = DEFAULT_LIMIT, ...query } }) => rollouts.listUnits({ ...query, id, limit }),
      LIST_ROLLOUT_UNITS,
    )
    .post(
      '/:id/pause',
      ({ caller, write, params: { id }, body }) => write(() => rollouts.act(id, 'pause', caller.actor, body?.reason)),
      PAUSE_ROLLOUT,
    )
    .post(
      '/:id/resume',
      ({ caller, write, params: { id }, body }) => write(() => rollouts.act(id, 'resume', caller.actor, body?.reason)),
      RESUME_ROLLOUT,
    )
    .post(
      '/:id/abort',
      ({ caller, write, params: { id }, body }) => write(() => rollouts.act(id, 'abort', caller.actor, body?.reason)),
      ABORT_ROLLOUT,
    );
}

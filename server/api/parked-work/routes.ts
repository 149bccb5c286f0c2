import { Elysia } from 'elysia';
import type { ParkedItem, ParkedWorkStore } from '../../../platform/parked-work/parked-work-store.ts';
import type { ApiMacros } from '../../http/api-macros.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { Problem } from '../../http/problems.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import { LIST_PARKED_WORK, RETRY_PARKED_WORK } from './schema.ts';

export interface WorkRouteDependencies {
  readonly parkedWork: ParkedWorkStore;
}

export function workRoutes(macros: ApiMacros, { parkedWork }: WorkRouteDependencies) {
  return new Elysia({ prefix: '/v1/work' })
    .use(macros)
    .get(
      '',
      ({ query: { limit = DEFAULT_LIMIT, ...filter } }) => parkedWork.list({ ...filter, limit }),
      LIST_PARKED_WORK,
    )
    .post('/:id/retry', ({ write, params: { id } }) => write(() => retry(parkedWork, id)), RETRY_PARKED_WORK);
}

/** @throws Problem `not-found` */
async function retry(parkedWork: ParkedWorkStore, id: string): Promise<Answer<ParkedItem, 202>> {
  const body = await parkedWork.retry(id);
  if (body === undefined) throw new Problem('not-found', 404, `There is no parked work ${id}. It may have succeeded.`);
  return { status: 202, body };
}

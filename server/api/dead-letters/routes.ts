import { Elysia } from 'elysia';
import type { DeadLetterStore } from '../../../platform/unit-log/dead-letter-store.ts';
import type { ApiMacros } from '../../http/api-macros.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { DeadLetterService } from './dead-letter-service.ts';
import {
  DISMISS_DEAD_LETTER,
  DISMISS_DEAD_LETTERS,
  GET_DEAD_LETTER,
  LIST_DEAD_LETTERS,
  RETRY_DEAD_LETTER,
} from './schema.ts';

export interface DeadLetterRouteDependencies {
  readonly deadLetterStore: DeadLetterStore;
  readonly deadLetters: DeadLetterService;
}

export function deadLetterRoutes(macros: ApiMacros, { deadLetterStore, deadLetters }: DeadLetterRouteDependencies) {
  return new Elysia({ prefix: '/v1/dead-letters' })
    .use(macros)
    .get(
      '',
      ({ query: { limit = DEFAULT_LIMIT, ...filter } }) => deadLetterStore.list({ ...filter, limit }),
      LIST_DEAD_LETTERS,
    )
    .get(
      '/:id',
      async ({ params: { id } }) =>
        new Response(await deadLetters.jsonWithContent(id), { headers: { 'content-type': 'application/json' } }),
      GET_DEAD_LETTER,
    )
    .post(
      '/:id/retry',
      ({ caller, write, params: { id } }) =>
        write((commandId) => deadLetters.retry({ commandId, actor: caller.actor, id })),
      RETRY_DEAD_LETTER,
    )
    .post(
      '/:id/dismiss',
      ({ caller, write, params: { id }, body }) => write(() => deadLetters.dismiss(id, caller.actor, body?.reason)),
      DISMISS_DEAD_LETTER,
    )
    .post(
      '/dismiss',
      ({ caller, write, query: { unit, kind }, body }) =>
        write(() => deadLetters.dismissOpen({ unit, kind }, caller.actor, body?.reason)),
      DISMISS_DEAD_LETTERS,
    );
}

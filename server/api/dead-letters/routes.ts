import { Elysia } from 'elysia';
import type { DeadLetterStore } from '../../../platform/unit-log/dead-letter-store.ts';
import { DEFAULT_LIMIT } from '../../http/schemas.ts';
import type { Writes } from '../../http/writes.ts';
import type { Authenticator } from '../auth/authenticator.ts';
import { DISMISS, DISMISS_OPEN, GET_ONE, LIST, RETRY } from './contract.ts';
import type { DeadLetterDesk } from './handlers.ts';

export interface DeadLetterRouteDependencies {
  readonly authenticator: Authenticator;
  readonly writes: Writes;
  readonly deadLetters: DeadLetterStore;
  readonly deadLetterDesk: DeadLetterDesk;
}

export function deadLetterRoutes({ authenticator, writes, deadLetters, deadLetterDesk }: DeadLetterRouteDependencies) {
  return new Elysia({ prefix: '/v1/dead-letters' })
    .derive(async ({ headers }) => {
      const principal = await authenticator.authenticate(headers.authorization, 'ops');
      return { principal, actor: `ops:${principal.sub}` };
    })
    .get('', ({ query: { limit = DEFAULT_LIMIT, ...filter } }) => deadLetters.list({ ...filter, limit }), LIST)
    .get(
      '/:id',
      async ({ params: { id } }) =>
        new Response(await deadLetterDesk.whole(id), { headers: { 'content-type': 'application/json' } }),
      GET_ONE,
    )
    .post(
      '/:id/retry',
      ({ principal, actor, headers, params: { id }, path, set }) =>
        writes.run(
          { principal, route: `POST ${path}`, key: headers['idempotency-key'], body: null },
          set,
          (commandId) => deadLetterDesk.retry({ commandId, actor, id }),
        ),
      RETRY,
    )
    .post(
      '/:id/dismiss',
      ({ principal, actor, headers, params: { id }, path, body, set }) =>
        writes.run({ principal, route: `POST ${path}`, key: headers['idempotency-key'], body: body ?? {} }, set, () =>
          deadLetterDesk.dismiss(id, actor, body?.reason),
        ),
      DISMISS,
    )
    .post(
      '/dismiss',
      ({ principal, actor, headers, query: { unit, kind }, path, body, set }) =>
        writes.run(
          { principal, route: `POST ${path}`, key: headers['idempotency-key'], body: { ...body, unit, kind } },
          set,
          () => deadLetterDesk.dismissOpen({ unit, kind }, actor, body?.reason),
        ),
      DISMISS_OPEN,
    );
}

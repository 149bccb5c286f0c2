import { Elysia, status } from 'elysia';
import type { ApiMacros } from '../../http/api-macros.ts';
import { Problem } from '../../http/problems.ts';
import type { ApiKeys } from './api-keys.ts';
import { CREATE, REVOKE } from './schema.ts';

const SECRET_BYTES = 32;

export interface ApiKeyRouteDependencies {
  readonly apiKeys: ApiKeys;
  readonly newId: () => string;
  readonly randomBytes: (count: number) => Uint8Array;
}

export function apiKeyRoutes(macros: ApiMacros, { apiKeys, newId, randomBytes }: ApiKeyRouteDependencies) {
  return new Elysia({ prefix: '/v1/api-keys' })
    .use(macros)
    .post(
      '',
      async ({ caller, body }) =>
        status(201, await apiKeys.create(newId(), body.name, caller.sub, randomBytes(SECRET_BYTES))),
      CREATE,
    )
    .delete(
      '/:id',
      async ({ params: { id } }) => {
        if (await apiKeys.revoke(id)) return status(204, undefined);
        throw new Problem('not-found', 404, `There is no API key ${id} in use: it was revoked, or never created.`);
      },
      REVOKE,
    );
}

import { Type } from '@sinclair/typebox';
import { Elysia } from 'elysia';
import { Uuid } from '../../../domain/vocabulary.ts';
import { documented } from '../../http/documented.ts';
import { Problem } from '../../http/problems.ts';
import type { ApiKeys } from './api-keys.ts';
import type { Authenticator } from './authenticator.ts';

const SECRET_BYTES = 32;
const TAG = 'API keys';

const ApiKeyMade = Type.Object({ id: Uuid, name: Type.String(), createdAt: Type.String(), key: Type.String() });

export interface ApiKeyDependencies {
  readonly authenticator: Authenticator;
  readonly apiKeys: ApiKeys;
  readonly newId: () => string;
  readonly randomBytes: (count: number) => Uint8Array;
}

export function apiKeyRoutes({ authenticator, apiKeys, newId, randomBytes }: ApiKeyDependencies) {
  return new Elysia({ prefix: '/v1/api-keys' })
    .derive(async ({ headers }) => ({ principal: await authenticator.authenticate(headers.authorization, 'ops') }))
    .post(
      '',
      async ({ principal, body, set }) => {
        set.status = 201;
        return apiKeys.create(newId(), body.name, principal.sub, randomBytes(SECRET_BYTES));
      },
      {
        body: Type.Object(
          { name: Type.String({ minLength: 1, maxLength: 100, examples: ['billing export'] }) },
          { additionalProperties: false },
        ),
        detail: documented({
          summary: 'Make an API key',
          description: 'The key has the role `ops` until it is revoked. It is shown only in this answer.',
          tag: TAG,
          answers: {
            201: {
              description: 'The key, shown once',
              schema: ApiKeyMade,
              example: {
                id: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
                name: 'billing export',
                createdAt: '2026-07-01T10:00:00.000Z',
                key: 'lfk_…',
              },
            },
          },
          errors: ['validation'],
        }),
      },
    )
    .delete(
      '/:id',
      async ({ params, set }) => {
        if (!(await apiKeys.revoke(params.id))) throw new Problem('not-found', 404, 'There is no such API key.');
        set.status = 204;
      },
      {
        params: Type.Object({ id: Uuid }),
        detail: documented({
          summary: 'Revoke an API key',
          tag: TAG,
          answers: { 204: { description: 'The key holds no longer' } },
          errors: ['not-found', 'validation'],
        }),
      },
    );
}

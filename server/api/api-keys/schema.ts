/** API keys over REST: what each route takes and answers. */

import { Type } from '@sinclair/typebox';
import { Instant, Uuid } from '../../../domain/vocabulary.ts';
import { answer, operation } from '../../http/operation.ts';
import { strict } from '../../http/schemas.ts';

const TAG = 'API keys';

const NewApiKey = Type.Object(
  {
    id: { ...Uuid, description: 'The id by which the key is revoked.' },
    name: Type.String(),
    createdAt: Instant,
    key: Type.String({ description: 'The key itself. Send it as `Authorization: Bearer KEY`.' }),
  },
  { title: 'NewApiKey' },
);

export const CREATE = operation({
  id: 'createApiKey',
  tag: TAG,
  auth: 'ops',
  summary: 'Create an API key',
  description: 'The key has the role `ops` until it is revoked. Only this answer shows it; the platform keeps a hash.',
  body: Type.Object(
    {
      name: Type.String({
        minLength: 1,
        maxLength: 100,
        description: 'What the key is for, in words for other operators.',
        examples: ['billing export'],
      }),
    },
    { ...strict, title: 'CreateApiKey', examples: [{ name: 'billing export' }] },
  ),
  answers: {
    201: answer('The key, shown once.', NewApiKey, {
      id: '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55',
      name: 'billing export',
      createdAt: '2026-07-01T10:00:00.000Z',
      key: 'lfk_…',
    }),
  },
  problems: ['validation'],
});

export const REVOKE = operation({
  id: 'revokeApiKey',
  tag: TAG,
  auth: 'ops',
  summary: 'Revoke an API key',
  description: 'Other servers accept the key for up to 5 seconds more.',
  params: Type.Object({ id: Uuid }),
  answers: { 204: { description: 'The key is revoked.' } },
  problems: ['not-found', 'validation'],
});

/** What a unit gets when it is registered, as the platform's API shows it. */

import { type Static, Type } from '@sinclair/typebox';
import type { JWK } from 'jose';

export const Credentials = Type.Object({
  unitKey: Type.String({ minLength: 1, description: 'key of the ping’s HMAC, base64' }),
  natsUrl: Type.String({ minLength: 1 }),
  natsCreds: Type.String({ description: 'the text of a creds file' }),
  natsInboxPrefix: Type.String({ minLength: 1 }),
  platformPublicKey: Type.Unsafe<JWK>(Type.Record(Type.String(), Type.Unknown())),
});
export type Credentials = Static<typeof Credentials>;

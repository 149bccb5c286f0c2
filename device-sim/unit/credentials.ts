/** The credentials of a unit, as the platform's API answers a registration with them. */

import { type Static, Type } from '@sinclair/typebox';
import type { JWK } from 'jose';

export const Credentials = Type.Object({
  unitKey: Type.String({ minLength: 1, description: 'Key of the HMACs in pings, base64.' }),
  natsUrl: Type.String({ minLength: 1 }),
  natsCreds: Type.String({ description: 'Text of a NATS creds file.' }),
  natsInboxPrefix: Type.String({ minLength: 1 }),
  platformPublicKey: Type.Unsafe<JWK>(Type.Record(Type.String(), Type.Unknown())),
});
export type Credentials = Static<typeof Credentials>;

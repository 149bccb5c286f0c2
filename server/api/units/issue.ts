/** What a unit proves itself with, made new: at its registration, and when its credentials are rotated. */

import type { JWK } from 'jose';
import { type PlatformKeys, publicKey, unitKey } from '../../../platform/credentials/keys.ts';
import { unitNatsCredentials } from '../../../platform/credentials/nats-accounts.ts';

export interface IssueDependencies {
  readonly keys: PlatformKeys;
  /** The NATS that units connect to. */
  readonly natsUrl: string;
}

interface Issued {
  /** Public key of the NATS user: what is recorded of it. */
  readonly natsUser: string;
  /** What is shown once. `keyVersion`: as it was recorded. */
  shown(keyVersion: number): ShownCredentials;
}

interface ShownCredentials {
  readonly unitKey: string;
  readonly natsUrl: string;
  readonly natsCreds: string;
  readonly natsInboxPrefix: string;
  readonly platformPublicKey: JWK;
}

export async function issueCredentials({ keys, natsUrl }: IssueDependencies, unit: string): Promise<Issued> {
  const { creds, inboxPrefix, natsUser } = await unitNatsCredentials(keys, unit);
  return {
    natsUser,
    shown: (keyVersion) => ({
      unitKey: Buffer.from(unitKey(keys.fleetKey, unit, keyVersion)).toString('base64'),
      natsUrl,
      natsCreds: creds,
      natsInboxPrefix: inboxPrefix,
      platformPublicKey: publicKey(keys.signingKey),
    }),
  };
}

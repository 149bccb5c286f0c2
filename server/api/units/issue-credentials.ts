/** Makes the credentials of a unit: at its registration, and whenever an operator rotates them. */

import type { JWK } from 'jose';
import { type PlatformKeys, publicKey, unitKey } from '../../../platform/credentials/keys.ts';
import { unitNatsCredentials } from '../../../platform/credentials/nats-accounts.ts';

export interface IssueDependencies {
  readonly keys: PlatformKeys;
  /** The NATS that units connect to. */
  readonly natsUrl: string;
}

interface IssuedCredentials {
  /** The public key of the unit's NATS user, which the event log records. */
  readonly natsUser: string;
  /** The credentials as one answer shows them. `keyVersion` is the one that the event log records. */
  show(keyVersion: number): ShownCredentials;
}

interface ShownCredentials {
  readonly unitKey: string;
  readonly natsUrl: string;
  readonly natsCreds: string;
  readonly natsInboxPrefix: string;
  readonly platformPublicKey: ReturnType<typeof publicSigningKey>;
}

/** A unit with its credentials; a repeated command is answered without them. */
export interface RegisteredUnit {
  readonly name: string;
  readonly credentials?: ShownCredentials;
}

export async function issueCredentials({ keys, natsUrl }: IssueDependencies, unit: string): Promise<IssuedCredentials> {
  const { creds, inboxPrefix, natsUser } = await unitNatsCredentials(keys, unit);
  return {
    natsUser,
    show: (keyVersion) => ({
      unitKey: Buffer.from(unitKey(keys.fleetKey, unit, keyVersion)).toString('base64'),
      natsUrl,
      natsCreds: creds,
      natsInboxPrefix: inboxPrefix,
      platformPublicKey: publicSigningKey(keys.signingKey),
    }),
  };
}

/** The public part of an Ed25519 key. @throws Error when the key is no such key */
function publicSigningKey(key: JWK) {
  const { kty, crv, x } = publicKey(key);
  if (kty === undefined || crv === undefined || x === undefined)
    throw new Error('The signing key is not an Ed25519 key.');
  return { kty, crv, x };
}

/** The verifier of tokens follows the keys that an identity provider publishes. */

import { afterAll, expect, test } from 'bun:test';
import { jwksVerifier, TokenError } from '../../platform/auth/tokens.ts';
import { eventually } from '../support/eventually.ts';
import { IdentityProvider, newKey, signTokenWith } from '../support/identity-provider.ts';

const KEY_REQUEST_INTERVAL_MS = 200;
const provider = new IdentityProvider();

afterAll(() => provider.stop());

test('after the provider has replaced its key, tokens of the new key are accepted and new tokens of the old key are not', async () => {
  const [old, next] = [await newKey('old', 'ES256'), await newKey('next', 'EdDSA')];
  const verifier = jwksVerifier(provider.jwksUrl, Date.now, KEY_REQUEST_INTERVAL_MS);
  const verify = async (key: typeof old, sub: string) =>
    verifier.verify((await signTokenWith({ key, sub })).replace('Bearer ', ''));
  provider.keys = [old];
  expect(await verify(old, 'alice')).toEqual({ sub: 'alice', role: 'customer' });
  provider.keys = [next];
  expect(await eventually(() => verify(next, 'bob'))).toEqual({ sub: 'bob', role: 'customer' });
  await expect(verify(old, 'carol')).rejects.toBeInstanceOf(TokenError);
});

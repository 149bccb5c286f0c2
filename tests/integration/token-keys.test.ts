/** The verifier of tokens follows the keys that an identity provider publishes. */

import { afterAll, describe, expect, test } from 'bun:test';
import {
  IdentityProviderError,
  jwksVerifier,
  secretVerifier,
  signToken,
  TokenError,
} from '../../platform/auth/tokens.ts';
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

test('while the provider gives no keys, a token is neither good nor bad: the error is retryable', async () => {
  const key = await newKey('only', 'ES256');
  const token = (await signTokenWith({ key })).replace('Bearer ', '');
  const away = new IdentityProvider();
  const { jwksUrl } = away;
  await away.stop();
  await expect(jwksVerifier(jwksUrl, Date.now).verify(token)).rejects.toBeInstanceOf(IdentityProviderError);
  const broken = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: () => new Response('', { status: 500 }) });
  await expect(jwksVerifier(broken.url.href, Date.now).verify(token)).rejects.toBeInstanceOf(IdentityProviderError);
  await broken.stop(true);
  provider.keys = [key];
  expect(await jwksVerifier(provider.jwksUrl, Date.now).verify(token)).toMatchObject({ sub: 'alice' });
});

describe('the clocks of the provider and the platform may differ by 5 seconds', () => {
  const secret = 'a-secret-of-at-least-32-characters';
  const nowMs = Date.parse('2026-07-01T10:00:00.000Z');
  const issuedAt = (offsetMs: number) =>
    signToken({ secret, sub: 'alice', role: 'customer', ttlS: 60, nowMs: nowMs + offsetMs });
  const verify = async (offsetMs: number) => secretVerifier(secret, () => nowMs).verify(await issuedAt(offsetMs));

  test.each([4_000, -64_000])('a token that was issued %d ms ago on the other clock is accepted', async (offsetMs) => {
    expect(await verify(offsetMs)).toMatchObject({ sub: 'alice' });
  });

  test.each([7_000, -66_000])('a token that was issued %d ms ago on the other clock is refused', async (offsetMs) => {
    await expect(verify(offsetMs)).rejects.toBeInstanceOf(TokenError);
  });

  test('a token in the cache ends with the leeway too', async () => {
    let clockMs = nowMs;
    const verifier = secretVerifier(secret, () => clockMs);
    const token = await issuedAt(0);
    await verifier.verify(token);
    clockMs += 64_000;
    expect(await verifier.verify(token)).toMatchObject({ sub: 'alice' });
    clockMs += 2_000;
    await expect(verifier.verify(token)).rejects.toThrow('expired');
  });
});

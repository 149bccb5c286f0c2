/** Tokens of an identity provider: the server verifies them by the keys that the provider publishes at AUTH_JWKS_URL. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { SignJWT } from 'jose';
import { type Answer, Client, period } from '../support/client.ts';
import {
  IdentityProvider,
  newKey,
  type ProviderKey,
  signTokenWith,
  type TokenOptions,
} from '../support/identity-provider.ts';
import { type Platform, startPlatform } from '../support/platform.ts';

const provider = new IdentityProvider();
let platform: Platform;
let first: ProviderKey;

beforeAll(async () => {
  first = await newKey('first', 'ES256');
  provider.keys = [first];
  platform = await startPlatform({
    purpose: 'provider',
    env: { AUTH_JWKS_URL: provider.jwksUrl, ROLES: 'api,reactor' },
  });
}, 60_000);

afterAll(async () => {
  await platform.stop();
  await provider.stop();
});

function reservations(authorization: string): Promise<Answer> {
  return new Client(platform.api, authorization).get('/v1/reservations');
}

async function statusFor(options: TokenOptions): Promise<number> {
  return (await reservations(await signTokenWith(options))).status;
}

describe('a token of the provider', () => {
  test('is accepted in the role that it names, and the keys are fetched once', async () => {
    expect(await statusFor({ key: first })).toBe(200);
    expect(await statusFor({ key: first, sub: 'bob' })).toBe(200);
    expect(provider.requests).toBe(1);
    const ops = new Client(platform.api, await signTokenWith({ key: first, sub: 'operator', role: 'ops' }));
    expect((await ops.get('/v1/units')).status).toBe(200);
    const hold = { unit: 'PL-1000', size: 'S', ...period(60, 60) };
    expect((await ops.post('/v1/reservations', hold)).status).toBe(403);
  });

  test('that has expired, names no role or no known role is refused', async () => {
    expect(await reservations(await signTokenWith({ key: first, expiresIn: '-1m' }))).toMatchObject({
      status: 401,
      body: { type: '/problems/unauthenticated', detail: expect.stringContaining('expired') },
    });
    expect(await statusFor({ key: first, role: 'root' })).toBe(401);
    expect(await statusFor({ key: first, role: '' })).toBe(401);
  });
});

describe('a token that the provider has not signed is refused', () => {
  test('with another key under the id of a published key', async () => {
    const forged = await newKey('first', 'ES256');
    expect(await statusFor({ key: forged, role: 'ops' })).toBe(401);
  });

  test('with the published key as the secret of an HMAC', async () => {
    const secret = new TextEncoder().encode(JSON.stringify(first.published));
    const token = await new SignJWT({ role: 'customer' })
      .setProtectedHeader({ alg: 'HS256', kid: 'first' })
      .setSubject('mallory')
      .setExpirationTime('5m')
      .sign(secret);
    expect((await reservations(`Bearer ${token}`)).status).toBe(401);
  });

  test('with the secret of the platform, which is accepted only without a provider', async () => {
    expect((await reservations(await platform.token('customer', 'alice'))).status).toBe(401);
  });

  test('with a key that the provider does not publish, and many such tokens do not reach the provider', async () => {
    const stranger = await newKey('stranger', 'EdDSA');
    const { requests } = provider;
    for (let n = 0; n < 20; n += 1) expect(await statusFor({ key: stranger, sub: `mallory-${n}` })).toBe(401);
    expect(provider.requests - requests).toBeLessThanOrEqual(1);
  });

  test('without a signature', async () => {
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = { sub: 'mallory', role: 'ops', exp: Math.floor(Date.now() / 1_000) + 300 };
    expect((await reservations(`Bearer ${part({ alg: 'none' })}.${part(claims)}.`)).status).toBe(401);
  });
});

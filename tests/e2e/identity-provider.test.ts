/** Tokens of an identity provider: the server verifies them by the keys that the provider publishes at AUTH_JWKS_URL. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';
import { type Answer, Client } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { type Platform, startPlatform } from '../support/platform.ts';

/** The server asks the provider for an unknown key at most once in 30 s. */
const KEY_ROTATION_TIMEOUT_MS = 45_000;

interface Key {
  readonly privateKey: CryptoKey;
  readonly published: JWK;
}

async function newKey(kid: string, alg: string): Promise<Key> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  return { privateKey, published: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } };
}

/** An identity provider: its keys, and how often the server has asked for them. */
class Provider {
  keys: readonly Key[] = [];
  requests = 0;
  readonly #server = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    fetch: () => {
      this.requests += 1;
      return Response.json({ keys: this.keys.map(({ published }) => published) });
    },
  });

  get jwksUrl(): string {
    return new URL('/keys', this.#server.url).href;
  }

  stop(): Promise<void> {
    return this.#server.stop(true);
  }
}

interface TokenOptions {
  readonly key: Key;
  readonly sub?: string;
  readonly role?: string | undefined;
  readonly expiresIn?: string;
  readonly kid?: string;
}

async function tokenOf({ key, sub = 'alice', role = 'customer', expiresIn = '5m', kid }: TokenOptions) {
  const { alg = '', kid: publishedKid = '' } = key.published;
  const token = await new SignJWT({ role })
    .setProtectedHeader({ alg, kid: kid ?? publishedKid })
    .setSubject(sub)
    .setIssuedAt()
    .setExpirationTime(expiresIn)
    .sign(key.privateKey);
  return `Bearer ${token}`;
}

const provider = new Provider();
let platform: Platform;
let first: Key;

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
  return (await reservations(await tokenOf(options))).status;
}

describe('a token of the provider', () => {
  test('is accepted in the role that it names, and the keys are fetched once', async () => {
    expect(await statusFor({ key: first })).toBe(200);
    expect(await statusFor({ key: first, sub: 'bob' })).toBe(200);
    expect(provider.requests).toBe(1);
    const ops = new Client(platform.api, await tokenOf({ key: first, sub: 'operator', role: 'ops' }));
    expect((await ops.get('/v1/units')).status).toBe(200);
    expect((await ops.get('/v1/reservations')).status).toBe(403);
  });

  test('that has expired, names no role or no known role is refused', async () => {
    expect(await reservations(await tokenOf({ key: first, expiresIn: '-1m' }))).toMatchObject({
      status: 401,
      body: { type: '/problems/unauthenticated', detail: expect.stringContaining('expired') },
    });
    expect(await statusFor({ key: first, role: 'root' })).toBe(401);
    expect(await statusFor({ key: first, role: '' })).toBe(401);
  });
});

describe('a token that the provider has not signed is refused', () => {
  test('with a key of its own under the id of a published one', async () => {
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

  test('with the secret of the platform itself, which counts only without a provider', async () => {
    expect((await reservations(await platform.token('customer', 'alice'))).status).toBe(401);
  });

  test('without a signature', async () => {
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = { sub: 'mallory', role: 'ops', exp: Math.floor(Date.now() / 1_000) + 300 };
    expect((await reservations(`Bearer ${part({ alg: 'none' })}.${part(claims)}.`)).status).toBe(401);
  });
});

describe('the provider rotates its key', () => {
  test('tokens of the next key are accepted, and no new ones of the withdrawn key', async () => {
    const next = await newKey('next', 'EdDSA');
    const stranger = await newKey('stranger', 'EdDSA');
    provider.keys = [next];
    const token = await tokenOf({ key: next, sub: 'carol' });
    await eventually(async () => (await reservations(token)).status === 200, {
      timeoutMs: KEY_ROTATION_TIMEOUT_MS,
      intervalMs: 1_000,
    });
    expect(await statusFor({ key: first, sub: 'dave' })).toBe(401);
    expect(await statusFor({ key: stranger })).toBe(401);
    // The server asks the provider at most once in 30 s, however many tokens have unknown keys.
    expect(provider.requests).toBeLessThanOrEqual(3);
  }, 60_000);
});

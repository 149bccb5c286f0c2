/** An identity provider whose keys a test sets. */

import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';

export interface ProviderKey {
  readonly privateKey: CryptoKey;
  readonly published: JWK;
}

export async function newKey(kid: string, alg: string): Promise<ProviderKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  return { privateKey, published: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } };
}

/** An identity provider: its keys, and how often the server has asked for them. */
export class IdentityProvider {
  keys: readonly ProviderKey[] = [];
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

export interface TokenOptions {
  readonly key: ProviderKey;
  readonly sub?: string;
  readonly role?: string | undefined;
  readonly expiresIn?: string;
  readonly kid?: string;
}

/** Signs a token and returns it as the value of an Authorization header. */
export async function signTokenWith({ key, sub = 'alice', role = 'customer', expiresIn = '5m', kid }: TokenOptions) {
  const { alg = '', kid: publishedKid = '' } = key.published;
  const token = await new SignJWT({ role })
    .setProtectedHeader({ alg, kid: kid ?? publishedKid })
    .setSubject(sub)
    .setIssuedAt()
    .setExpirationTime(expiresIn)
    .sign(key.privateKey);
  return `Bearer ${token}`;
}

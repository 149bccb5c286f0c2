import { expect, test } from 'bun:test';
import { createUser, fmtCreds, type KeyPair } from '@nats-io/jwt';
import { credsAuthenticator } from '../../platform/nats/creds.ts';

/** A creds file whose token is not read. */
function credsOf(user: KeyPair): string {
  return new TextDecoder().decode(fmtCreds('head.claims.signature', user));
}

function proofOf(creds: string, nonce: string): { jwt: string; sig: string } {
  const proof = credsAuthenticator(creds)(nonce);
  if (proof === undefined || !('jwt' in proof) || proof.sig === undefined) throw new Error('it proves nothing');
  return { jwt: proof.jwt, sig: proof.sig };
}

test('signs the nonce of the server with the seed in the creds file', () => {
  for (let round = 0; round < 5; round++) {
    const user = createUser();
    const { jwt, sig } = proofOf(credsOf(user), `nonce ${round}`);
    expect(jwt).toBe('head.claims.signature');
    expect(user.verify(new TextEncoder().encode(`nonce ${round}`), Buffer.from(sig, 'base64url'))).toBe(true);
  }
});

test('refuses text that is not a creds file, with the reason', () => {
  const good = credsOf(createUser());
  expect(() => credsAuthenticator('')).toThrow('no token and seed');
  expect(() => credsAuthenticator(good.replace(/SU[A-Z2-7]+/, 'SUAB'))).toThrow('another length');
  expect(() => credsAuthenticator(good.replace(/SU[A-Z2-7]+/, 'su!'))).toThrow('a character that is not base32');
});

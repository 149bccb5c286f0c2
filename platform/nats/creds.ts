/** Authenticates a connection with the token and the key of a creds file. */

import { sign } from 'node:crypto';
import type { Authenticator } from 'nats';
import { signingKeyOf } from './nkeys.ts';

const BLOCK = /-{3,}[^\n]*-{3,}\n\s*([^\s-][^\n]*?)\s*\n-{3,}/g;

/** `creds`: the text of a creds file. @throws TypeError when it has no token and seed */
export function credsAuthenticator(creds: string): Authenticator {
  const [jwt, seed] = [...creds.matchAll(BLOCK)].map((block) => block[1]);
  if (jwt === undefined || seed === undefined) throw new TypeError('the creds file has no token and seed');
  const key = signingKeyOf(seed);
  return (nonce) => ({ jwt, nkey: '', sig: sign(null, Buffer.from(nonce ?? ''), key).toString('base64url') });
}

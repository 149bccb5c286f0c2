/** `./run token`: it signs with the keys of a DATA_DIR that has them, and creates none. */

import { expect, test } from 'bun:test';
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { secretVerifier, signToken } from '../../platform/auth/tokens.ts';
import { loadKeys } from '../../platform/credentials/keys.ts';
import { temporaryFolder } from '../support/cleanup.ts';

const ROOT = resolve(import.meta.dir, '..', '..');

async function token(env: Readonly<Record<string, string>>, ...args: readonly string[]) {
  const child = Bun.spawn([process.execPath, join(ROOT, 'commands', 'token.ts'), ...args], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [code, out, errors] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  return { code, out: out.trim(), errors: errors.trim() };
}

test('a token is signed with the keys of DATA_DIR', async () => {
  const dataDir = await temporaryFolder('token');
  const { jwtSecret } = await loadKeys(dataDir);
  const { code, out } = await token({ DATA_DIR: dataDir }, '--role', 'ops', '--sub', 'me');
  expect(code).toBe(0);
  expect(await secretVerifier(jwtSecret, Date.now).verify(out)).toMatchObject({ role: 'ops', sub: 'me' });
});

test.each(['a\u0000', '\ud800'])('a token with the subject %j, which cannot be stored, is refused', async (sub) => {
  const secret = 'a secret of thirty-two characters';
  const signed = await signToken({ secret, sub, role: 'customer', ttlS: 60, nowMs: Date.now() });
  await expect(secretVerifier(secret, Date.now).verify(signed)).rejects.toThrow('"sub"');
});

test('a DATA_DIR without keys is refused, and no keys are created in it', async () => {
  const dataDir = await temporaryFolder('token');
  const { code, out, errors } = await token({ DATA_DIR: dataDir }, '--role', 'ops', '--sub', 'me');
  expect(code).toBe(1);
  expect(out).toBe('');
  expect(errors).toContain(`DATA_DIR ${dataDir} has no keys`);
  expect(errors).toContain('./run start');
  expect(await readdir(dataDir)).toEqual([]);
});

test('with AUTH_JWKS_URL set, the command issues no token', async () => {
  const dataDir = await temporaryFolder('token');
  const env = { DATA_DIR: dataDir, AUTH_JWKS_URL: 'https://login.example/jwks' };
  const { code, out, errors } = await token(env, '--role', 'ops', '--sub', 'me');
  expect([code, out]).toEqual([1, '']);
  expect(errors).toContain('AUTH_JWKS_URL');
});

test.each([
  [[]],
  [['--role', 'king', '--sub', 'me']],
  [['--role', 'ops']],
  [['--role', 'ops', '--sub', 'me', '--ttl', '0']],
])('the arguments %j are refused, and the usage is printed', async (args) => {
  const { code, errors } = await token({ DATA_DIR: await temporaryFolder('token') }, ...args);
  expect(code).toBe(2);
  expect(errors).toContain('usage: ./run token');
});

/** The key files of the platform. */

import { expect, test } from 'bun:test';
import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KeyFileError, loadKeys } from '../../platform/credentials/keys.ts';
import { temporaryFolder } from '../support/cleanup.ts';

test('processes that start at the same time read the same keys, which only their owner may read', async () => {
  const dataDir = await temporaryFolder('keys');
  const loaded = await Promise.all(Array.from({ length: 8 }, () => loadKeys(dataDir)));
  expect(new Set(loaded.map((keys) => JSON.stringify(keys))).size).toBe(1);
  const folder = join(dataDir, 'keys');
  const names = await readdir(folder);
  expect(names.toSorted()).toEqual([
    'fleet.key',
    'jwt-secret',
    'nats-operator.nk',
    'nats-platform.nk',
    'nats-system.nk',
    'nats-units.nk',
    'signing.jwk',
  ]);
  for (const name of names) expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600);
});

test('an empty or damaged key file is refused, and named', async () => {
  const dataDir = await temporaryFolder('keys');
  await loadKeys(dataDir);
  for (const name of await readdir(join(dataDir, 'keys'))) {
    const path = join(dataDir, 'keys', name);
    const content = await Bun.file(path).text();
    for (const damaged of ['', '\n', content.slice(0, 10)]) {
      await writeFile(path, damaged);
      const refused = await loadKeys(dataDir).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(KeyFileError);
      expect((refused as Error).message).toContain(path);
    }
    await writeFile(path, content);
  }
  await loadKeys(dataDir);
});

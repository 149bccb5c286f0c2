import { beforeEach, describe, expect, test } from 'bun:test';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadConfig } from '../../platform/config/config.ts';
import {
  findServices,
  PlatformNotRunningError,
  removeRunningServices,
  writeRunningServices,
} from '../../platform/embedded/running-services.ts';
import { temporaryFolder } from '../support/cleanup.ts';

const SERVICES = {
  natsUrl: 'nats://127.0.0.1:4333',
  natsCredsFile: '/data/keys/platform.creds',
  databaseUrl: 'postgres://lockfleet:secret@127.0.0.1:5433/lockfleet',
};

let dataDir: string;

beforeEach(async () => {
  dataDir = await temporaryFolder('running-services');
});

function find(env: Readonly<Record<string, string>> = {}) {
  return findServices(loadConfig({ DATA_DIR: dataDir, ...env }));
}

function notRunning(): string {
  return `The platform of DATA_DIR ${dataDir} is not running. Start it with ./run start, or set NATS_URL and DATABASE_URL.`;
}

describe('the services of a running platform', () => {
  test('are found by its DATA_DIR alone', async () => {
    await writeRunningServices(dataDir, SERVICES);
    expect(await find()).toEqual(SERVICES);
  });

  test('can be read by the owner only, also where a file with other rights was left behind', async () => {
    await writeRunningServices(dataDir, SERVICES);
    await writeFile(join(dataDir, 'run', 'services.json.new'), 'left behind', { mode: 0o644 });
    await writeRunningServices(dataDir, SERVICES);
    const { mode } = await stat(join(dataDir, 'run', 'services.json'));
    expect((mode & 0o777).toString(8)).toBe('600');
  });

  test('are not found before it starts and after it has stopped', async () => {
    await expect(find()).rejects.toThrow(new PlatformNotRunningError(notRunning()));
    await writeRunningServices(dataDir, SERVICES);
    await removeRunningServices(dataDir);
    await expect(find()).rejects.toThrow(new PlatformNotRunningError(notRunning()));
  });

  test('are not found after a crash: the process that wrote the file has ended', async () => {
    await writeRunningServices(dataDir, SERVICES);
    const path = join(dataDir, 'run', 'services.json');
    const file = JSON.parse(await readFile(path, 'utf8'));
    // The id is used again by another process, which therefore has another identity.
    await writeFile(path, JSON.stringify({ ...file, identity: 'an earlier process' }));
    await expect(find()).rejects.toBeInstanceOf(PlatformNotRunningError);
  });

  test.each(['', '{', '{}', '{"pid":1,"identity":"x"}'])('are not found in a file that holds %p', async (text) => {
    await writeRunningServices(dataDir, SERVICES);
    await writeFile(join(dataDir, 'run', 'services.json'), text);
    await expect(find()).rejects.toBeInstanceOf(PlatformNotRunningError);
  });
});

describe('settings', () => {
  const set = { NATS_URL: 'nats://10.0.0.1:4222', DATABASE_URL: 'postgres://db/other' };

  test('that name both services win over a running platform', async () => {
    await writeRunningServices(dataDir, SERVICES);
    const found = { natsUrl: set.NATS_URL, natsCredsFile: undefined, databaseUrl: set.DATABASE_URL };
    expect(await find(set)).toEqual(found);
  });

  test('that name one service as the platform uses it are completed from the file', async () => {
    await writeRunningServices(dataDir, SERVICES);
    expect(await find({ NATS_URL: SERVICES.natsUrl })).toEqual(SERVICES);
  });

  test.each(['NATS_URL', 'DATABASE_URL'] as const)('that name another %s alone are refused', async (name) => {
    await writeRunningServices(dataDir, SERVICES);
    await expect(find({ [name]: set[name] })).rejects.toThrow(
      `${name} names another service than the platform of DATA_DIR ${dataDir} uses. Set both NATS_URL and DATABASE_URL, or neither.`,
    );
  });
});

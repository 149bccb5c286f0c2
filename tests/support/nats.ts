/** The platform's NATS for tests: accounts, streams and all, in temporary folders. */

import { join } from 'node:path';
import { loadKeys, type PlatformKeys } from '../../platform/credentials/keys.ts';
import { natsServerConfig, platformCreds } from '../../platform/credentials/nats-accounts.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { ensureStreams } from '../../platform/nats/ensure-streams.ts';
import { createLog } from '../../platform/observability/log.ts';
import { temporaryFolder } from './cleanup.ts';
import { testNats } from './services.ts';

/** Lines below errors are for people who watch a process, not for a test run. */
export const quietLog = createLog((line) => {
  if (line.includes('"level":"error"')) process.stderr.write(line);
}, Date.now);

export interface TestPlatform {
  readonly url: string;
  readonly keys: PlatformKeys;
  /** Holds `keys/`. */
  readonly dataDir: string;
  readonly creds: string;
  /** Of the nats-server, for tests that let it stand still. */
  readonly natsPid: number | undefined;
}

let platform: Promise<TestPlatform> | undefined;

/** The shared NATS of this test process, with its keys. Its streams exist. */
export function testPlatform(): Promise<TestPlatform> {
  platform ??= startPlatform();
  return platform;
}

async function startPlatform(): Promise<TestPlatform> {
  const dataDir = await temporaryFolder('platform');
  const keys = await loadKeys(dataDir);
  const { url, pid: natsPid } = await testNats(await natsServerConfig(keys, join(dataDir, 'accounts')));
  const creds = await platformCreds(keys, 'tests');
  const nats = await Nats.connect({ url, creds, name: 'tests', log: quietLog });
  await ensureStreams(nats);
  await nats.close();
  return { url, keys, dataDir, creds, natsPid };
}

/** A connection of the platform; the caller closes it. */
export async function connectPlatform(): Promise<Nats> {
  const { url, creds } = await testPlatform();
  return Nats.connect({ url, creds, name: 'tests', log: quietLog });
}

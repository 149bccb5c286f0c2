import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadKeys } from '../../platform/credentials/keys.ts';
import { natsServerConfig, platformCreds } from '../../platform/credentials/nats-accounts.ts';
import { openFilesLimit } from '../../platform/process/open-files.ts';
import type { NatsSetup } from './embedded.ts';

/** Makes the configuration of the embedded NATS, and writes new credentials of the platform's processes to `DATA_DIR/keys`. */
export async function platformNatsSetup(dataDir: string): Promise<NatsSetup> {
  const keys = await loadKeys(dataDir);
  const resolver = join(dataDir, 'nats', 'accounts');
  await mkdir(resolver, { recursive: true });
  const credsFile = join(dataDir, 'keys', 'platform.creds');
  await writeFile(credsFile, await platformCreds(keys, 'platform'), { mode: 0o600 });
  return { config: await natsServerConfig(keys, resolver, openFilesLimit()), credsFile };
}

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadKeys } from '../../platform/credentials/keys.ts';
import { natsServerConfig, platformCreds } from '../../platform/credentials/nats-accounts.ts';
import { type EmbeddedNats, startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { ensureStreams } from '../../platform/nats/ensure-streams.ts';
import { publishStored } from '../../platform/nats/jetstream.ts';
import { unitPushSubject } from '../../platform/nats/subjects.ts';
import { consumeWork } from '../../platform/nats/work-queue.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import { natsServerBinary } from '../support/services.ts';
import { silentLog } from '../support/silent-log.ts';

const TIMEOUT_MS = 5_000;
/** The bound for the first push after a crash. It is below the 30 s after which a pull request expires. */
const RECOVERY_MS = 15_000;
let server: EmbeddedNats;
let nats: Nats;

beforeAll(async () => {
  const dataDir = await temporaryFolder('nats-crash');
  const keys = await loadKeys(dataDir);
  const config = await natsServerConfig(keys, join(dataDir, 'accounts'));
  server = await startEmbeddedNats({
    dataDir,
    binary: await natsServerBinary(),
    config,
    port: 0,
    log: () => undefined,
  });
  nats = await Nats.connect({
    url: server.url,
    creds: await platformCreds(keys, 'tests'),
    name: 'nats-crash',
    log: silentLog,
  });
  await ensureStreams(nats);
}, 30_000);

afterAll(async () => {
  await nats.close();
  await server.stop();
});

for (const isStateInMemory of [true, false]) {
  const where = isStateInMemory ? 'memory' : 'a file';
  test(`a consumer with its state in ${where} receives new messages after NATS was killed`, async () => {
    const subject = unitPushSubject(`CRASH-${isStateInMemory}`);
    const stop = new AbortController();
    const handled: string[] = [];
    const worker = consumeWork(nats, {
      stream: 'UNIT_INBOX',
      durable: `crash-${isStateInMemory}`,
      filters: [subject],
      maxConcurrent: 4,
      isStateInMemory,
      handle: async ({ data }) => {
        handled.push(new TextDecoder().decode(data));
        return 'done';
      },
      signal: stop.signal,
      sleep,
      log: silentLog,
    });
    const push = (payload: string) => publishStored(nats, { subject, payload, headers: {} }, TIMEOUT_MS);
    await push('before');
    await eventually(() => handled.includes('before'));
    await kill();
    await eventually(() => push('after'), { timeoutMs: RECOVERY_MS });
    await eventually(() => handled.includes('after'), { timeoutMs: RECOVERY_MS });
    expect(handled[0]).toBe('before');
    stop.abort();
    await worker;
  }, 60_000);
}

/** Kills the server. Its supervisor starts it again on the same folder and port. */
async function kill(): Promise<void> {
  const { pid } = server;
  if (pid === undefined) throw new Error('NATS does not run');
  process.kill(pid, 'SIGKILL');
  await eventually(() => !nats.connected);
  await eventually(() => nats.connected);
}

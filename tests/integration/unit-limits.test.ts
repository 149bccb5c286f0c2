/** The limits that NATS sets to a unit, and to all units together. */

import { expect, test } from 'bun:test';
import { join } from 'node:path';
import { MAX_BATCH_BYTES } from '../../domain/unit-protocol/batch.ts';
import { readAccountJwt } from '../../platform/credentials/account-jwt.ts';
import { loadKeys } from '../../platform/credentials/keys.ts';
import {
  natsServerConfig,
  platformCreds,
  unitNatsCredentials,
  unitsAccount,
} from '../../platform/credentials/nats-accounts.ts';
import { startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { unitPushSubject } from '../../platform/nats/subjects.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import { testPlatform } from '../support/nats.ts';
import { RawNats } from '../support/raw-nats.ts';
import { natsServerBinary } from '../support/services.ts';

async function connectUnit(name: string): Promise<RawNats> {
  const { url, keys } = await testPlatform();
  return RawNats.connect(url, (await unitNatsCredentials(keys, name)).creds);
}

test('a payload larger than a batch is refused, and the connection is closed', async () => {
  const client = await connectUnit('ID-LARGE');
  const push = (bytes: number) => client.publish(unitPushSubject('ID-LARGE'), 'x'.repeat(bytes));
  expect(await push(MAX_BATCH_BYTES)).toEqual([]);
  expect(await push(2 * MAX_BATCH_BYTES)).toEqual([expect.stringContaining('Maximum Payload Violation')]);
  await eventually(() => client.closed);
});

test('subscriptions beyond eight are refused', async () => {
  const { url, keys } = await testPlatform();
  const { creds, inboxPrefix } = await unitNatsCredentials(keys, 'ID-CURIOUS');
  const client = await RawNats.connect(url, creds);
  const refusals: string[] = [];
  for (let n = 0; n < 10; n += 1) refusals.push(...(await client.subscribe(`${inboxPrefix}.${n}`)));
  expect(refusals).toEqual(Array.from({ length: 2 }, () => expect.stringMatching(/maximum subscriptions/i)));
  client.close();
});

async function limitsWith(openFiles?: number) {
  const { keys } = await testPlatform();
  const config = await natsServerConfig(keys, '/nowhere', openFiles);
  const [, jwt = ''] = new RegExp(`${unitsAccount(keys)}: (\\S+)`).exec(config) ?? [];
  const maxConnections = Number(/max_connections: (\d+)/.exec(config)?.[1]);
  return { limits: readAccountJwt(jwt).nats.limits ?? {}, maxConnections };
}

test('the account of the units has exactly the documented limits', async () => {
  const { limits } = await limitsWith();
  expect(limits).toEqual({
    // The bytes have no limit here: the stream bounds how many batches of a unit are stored.
    data: -1,
    payload: 294_912,
    subs: 8,
    imports: 1,
    exports: 2,
    wildcards: true,
    conn: 330_000,
    leaf: 0,
    disallow_bearer: true,
  });
});

test('the units get all connections but those reserved for the platform', async () => {
  expect(await limitsWith()).toMatchObject({ limits: { conn: 330_000 }, maxConnections: 340_000 });
  // With 20,000 open files, units get three quarters of them, and the platform keeps its 10,000 connections.
  expect(await limitsWith(20_000)).toMatchObject({ limits: { conn: 15_000 }, maxConnections: 25_000 });
});

test('a connection of a unit beyond the limit is refused, and the platform can still connect', async () => {
  const [dataDir, binary] = [await temporaryFolder('full-nats'), await natsServerBinary()];
  const keys = await loadKeys(dataDir);
  const config = await natsServerConfig(keys, join(dataDir, 'accounts'), 8);
  const nats = await startEmbeddedNats({
    dataDir: join(dataDir, 'nats'),
    binary,
    config,
    port: 0,
    log: () => undefined,
  });
  const { creds } = await unitNatsCredentials(keys, 'ID-MANY');
  const clients: RawNats[] = [];
  for (let n = 0; n < 6; n += 1) clients.push(await RawNats.connect(nats.url, creds));
  await expect(RawNats.connect(nats.url, creds)).rejects.toThrow(/maximum account active connections/i);
  clients.push(await RawNats.connect(nats.url, await platformCreds(keys, 'tests')));
  for (const client of clients) client.close();
  await nats.stop();
});

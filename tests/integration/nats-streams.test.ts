/** The settings of the streams: what the code needs, and what an operator has raised. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { Nats, NatsClosedError } from '../../platform/nats/connection.ts';
import { ensureStreams, mergedSettings, type StreamSettings } from '../../platform/nats/ensure-streams.ts';
import { api } from '../../platform/nats/jetstream.ts';
import { STREAMS } from '../../platform/nats/streams.ts';
import { connectPlatform, type TestPlatform, testPlatform } from '../support/nats.ts';
import { silentLog } from '../support/silent-log.ts';

let nats: Nats;
let platform: TestPlatform;

beforeAll(async () => {
  platform = await testPlatform();
  nats = await connectPlatform();
}, 60_000);

afterAll(() => nats.close());

async function settingsOf(stream: string): Promise<StreamSettings> {
  return (await api<{ config: StreamSettings }>(nats, `STREAM.INFO.${stream}`)).config;
}

test('a start keeps what an operator raised or added, and restores what the code needs', async () => {
  const before = await settingsOf('TELEMETRY');
  const raised = {
    ...before,
    max_bytes: Number(before.max_bytes) * 4,
    max_age: Number(before.max_age) * 2,
    compression: 's2',
    description: 'raised by an operator',
    // The code relies on this one.
    discard: 'new',
  };
  await api(nats, 'STREAM.UPDATE.TELEMETRY', raised);
  await Promise.all([ensureStreams(nats), ensureStreams(nats), ensureStreams(nats)]);
  expect(await settingsOf('TELEMETRY')).toMatchObject({ ...raised, discard: 'old' });
});

test('a start without changes updates nothing', async () => {
  for (const name of Object.keys(STREAMS)) {
    const present = await settingsOf(name);
    const needed = { ...STREAMS[name as keyof typeof STREAMS], num_replicas: 1 };
    expect(mergedSettings(present, needed)).toBe(present);
  }
});

describe('merged settings', () => {
  test.each([
    ['more replicas than wanted stay', { num_replicas: 3 }, { num_replicas: 1 }, { num_replicas: 3 }],
    ['fewer replicas than wanted are raised', { num_replicas: 1 }, { num_replicas: 3 }, { num_replicas: 3 }],
    ['a placement stays', { placement: { tags: ['eu'] } }, {}, { placement: { tags: ['eu'] } }],
    ['a lower limit is raised', { max_bytes: 10 }, { max_bytes: 20 }, { max_bytes: 20 }],
    ['a higher limit stays', { max_bytes: 30 }, { max_bytes: 20 }, { max_bytes: 30 }],
    ['no limit stays', { max_bytes: -1, max_age: 0 }, { max_bytes: 20, max_age: 5 }, { max_bytes: -1, max_age: 0 }],
    ['a flag that is missing is set', {}, { allow_direct: true }, { allow_direct: true }],
    ['other subjects are replaced', { subjects: ['a'] }, { subjects: ['b'] }, { subjects: ['b'] }],
  ])('%s', (_, present, needed, merged) => {
    expect(mergedSettings(present as StreamSettings, needed)).toEqual(merged);
  });
});

test('a connection that was closed for good is noticed, and one that was closed on purpose is not', async () => {
  const { url, creds } = platform;
  const lost = await Nats.connect({ url, creds, name: 'lost', log: silentLog });
  const noticed = lost.untilLost().catch((error: unknown) => error);
  // The client gives up in the same way after errors that it takes for final.
  await lost.client.close();
  expect(await noticed).toBeInstanceOf(NatsClosedError);

  const closed = await Nats.connect({ url, creds, name: 'closed', log: silentLog });
  let isLost = false;
  void closed.untilLost().catch(() => {
    isLost = true;
  });
  await closed.close();
  await Bun.sleep(0);
  expect(isLost).toBe(false);
});

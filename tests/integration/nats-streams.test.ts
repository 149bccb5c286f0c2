/** The settings of the streams: what the code needs, and what an operator has raised. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { Nats, NatsClosedError } from '../../platform/nats/connection.ts';
import { ensureStreams, mergedSettings, type StreamSettings } from '../../platform/nats/ensure-streams.ts';
import { api } from '../../platform/nats/jetstream.ts';
import { STREAMS } from '../../platform/nats/streams.ts';
import { joinGroup } from '../../platform/shards/group.ts';
import { eventually } from '../support/eventually.ts';
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

/** The connection, as if NATS had nodes for any number of replicas: the settings that it is asked for are noted, and one copy is made. */
function clustered(requested: StreamSettings[]): Nats {
  const request: Nats['request'] = (subject, payload, options) => {
    if (!/^\$JS\.API\.STREAM\.(CREATE|UPDATE)\./.test(subject)) return nats.request(subject, payload, options);
    const settings: StreamSettings = JSON.parse(String(payload));
    requested.push(settings);
    return nats.request(subject, JSON.stringify({ ...settings, num_replicas: 1 }), options);
  };
  return new Proxy(nats, {
    get(target, key) {
      if (key === 'request') return request;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

test('the bucket of members has the wanted replicas, when it is missing, when it exists, and for every group', async () => {
  const requested: StreamSettings[] = [];
  const joined = async () => {
    requested.length = 0;
    const stop = new AbortController();
    const shards = joinGroup({
      group: 'replicas',
      shardLetters: 1,
      memberId: crypto.randomUUID(),
      monotonic: () => performance.now(),
      config: { shards: undefined, nats: { replicas: 3 } },
      nats: clustered(requested),
      stop: stop.signal,
      log: silentLog,
    });
    await eventually(() => shards.owned().length > 0);
    await shards.leave();
    return requested.map(({ name, num_replicas }) => [name, num_replicas]);
  };
  const { config: operators } = await api<{ config: StreamSettings }>(nats, 'STREAM.INFO.KV_members');
  await api(nats, 'STREAM.UPDATE.KV_members', { ...operators, description: 'raised by an operator' });
  // The bucket exists: its creation is refused, and its settings are merged.
  expect(await joined()).toEqual([
    ['KV_members', 3],
    ['KV_members', 3],
  ]);
  expect(await settingsOf('KV_members')).toMatchObject({ description: 'raised by an operator' });
  // A restart of NATS deletes it.
  await api(nats, 'STREAM.DELETE.KV_members');
  expect(await joined()).toEqual([['KV_members', 3]]);
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

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { unitHash } from '../../domain/shard.ts';
import { shardsOfLength } from '../../domain/shard-prefixes.ts';
import { natsServerConfig } from '../../platform/credentials/nats-accounts.ts';
import { type EmbeddedNats, startEmbeddedNats } from '../../platform/embedded/nats.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { api } from '../../platform/nats/jetstream.ts';
import { MemberBucket } from '../../platform/nats/members.ts';
import { createLog } from '../../platform/observability/log.ts';
import { assignShards } from '../../platform/shards/assign-shards.ts';
import { joinShards, type ShardOptions, type Shards } from '../../platform/shards/join.ts';
import { EXPIRY_MS, HEARTBEAT_MS } from '../../platform/shards/membership.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import { ManualTime } from '../support/manual-time.ts';
import { quietLog, testPlatform } from '../support/nats.ts';
import { natsServerBinary } from '../support/services.ts';

const LETTERS = shardsOfLength(1);
const PAIRS = shardsOfLength(2);
/** Far longer than the time after which a member without heartbeats is removed. */
const LONG_MS = 20 * EXPIRY_MS;
const EXPIRY_HEARTBEATS = EXPIRY_MS / HEARTBEAT_MS;

interface Copy {
  readonly id: string;
  readonly shards: Shards;
  readonly nats: Nats;
  /** The shards that it owned after each change, the oldest first. */
  readonly ownedOverTime: string[];
  readonly warnings: string[];
}

const copies: Copy[] = [];
let time = new ManualTime();
let group = '';
let groups = 0;

beforeAll(() => testPlatform());

beforeEach(() => {
  time = new ManualTime();
  groups += 1;
  group = `group-${groups}`;
});

afterEach(async () => {
  await Promise.all(
    copies.splice(0).map(async ({ shards, nats }) => {
      await shards.leave();
      await nats.close();
    }),
  );
});

/** A copy of a process, with a connection of its own. */
async function start(changes: Partial<ShardOptions> = {}, url?: string): Promise<Copy> {
  const shared = await testPlatform();
  const id = `copy-${copies.length + 1}`;
  const options = { url: url ?? shared.url, creds: shared.creds, name: id, log: quietLog };
  const nats = changes.nats ?? (await Nats.connect(options));
  const ownedOverTime: string[] = [];
  const warnings: string[] = [];
  const shards = joinShards({
    nats,
    group,
    shardLetters: 1,
    fixed: undefined,
    memberId: id,
    monotonic: time.monotonic,
    pause: time.pause,
    log: createLog((line) => line.includes('"level":"warn"') && warnings.push(line), Date.now),
    signal: new AbortController().signal,
    ...changes,
  });
  shards.onChange((owned) => ownedOverTime.push(owned.join()));
  const copy = { id, shards, nats, ownedOverTime, warnings };
  copies.push(copy);
  return copy;
}

/** Three copies, after each owns the shards that are assigned to it. */
async function startThree(url?: string): Promise<[Copy, Copy, Copy]> {
  const three: [Copy, Copy, Copy] = [await start({}, url), await start({}, url), await start({}, url)];
  await share(three);
  return three;
}

/** Waits until each of the copies owns exactly the shards that are assigned to it when these copies are the members. */
function share(there: readonly Copy[], all = LETTERS): Promise<void> {
  const owners = assignShards(
    all,
    there.flatMap(({ shards }) => shards.members().slice(0, 1)),
  );
  return eventually(() => {
    for (const { id, shards } of there) expect(shards.owned()).toEqual(all.filter((each) => owners.get(each) === id));
  });
}

/** Waits until every running copy pauses, then moves the clock. */
async function pass(ms: number, running = copies.length): Promise<void> {
  await eventually(() => time.pauses === running);
  time.advance(ms);
}

const forget = (...these: readonly Copy[]) => {
  for (const { ownedOverTime } of these) ownedOverTime.length = 0;
};

describe('joining', () => {
  test('one copy owns all shards, and a second and a third copy get their shares of them', async () => {
    const first = await start();
    await share([first]);
    expect(first.shards.owned()).toEqual(LETTERS);
    const second = await start();
    await share([first, second]);
    const third = await start();
    await share([first, second, third]);
    expect(
      third.shards
        .members()
        .map(({ id }) => id)
        .toSorted(),
    ).toEqual(['copy-1', 'copy-2', 'copy-3']);
  });

  test('a new copy owns no shard before it has read the list of members, and then only those assigned to it', async () => {
    const [first] = await startThree();
    const late = await start();
    expect(late.shards.owned()).toEqual([]);
    // This heartbeat of another copy arrives before the late copy knows all members.
    late.nats.publish(`$KV.members.${group}.copy-1`, '{}');
    await share(copies);
    expect(late.ownedOverTime).toEqual([late.shards.owned().join()]);
    // The first copy's last change gave up shards and added none.
    expect(first.shards.owned().every((shard) => first.ownedOverTime.at(-2)?.includes(shard))).toBe(true);
  });

  test('with shards of two letters, a unit belongs to the copy that owns its shard', async () => {
    const [one, two] = [await start({ shardLetters: 2 }), await start({ shardLetters: 2 })];
    await share([one, two], PAIRS);
    for (let index = 0; index < 100; index += 1) {
      const unit = `PL-${index}`;
      const owner = one.shards.owned().includes(unitHash(unit).slice(0, 2)) ? one : two;
      const other = owner === one ? two : one;
      expect([owner.shards.owns(unit), owner.shards.owns(unitHash(unit))]).toEqual([true, true]);
      expect([other.shards.owns(unit), other.shards.owns(unitHash(unit))]).toEqual([false, false]);
    }
  });

  test('the only member of a group owns all shards, also while another group has a member that owns them', async () => {
    const [one, two] = [await start(), await start({ group: `${group}-other` })];
    await share([one]);
    await share([two]);
  });

  test('a group or a member id that a key cannot contain is refused', async () => {
    for (const wrong of [{ group: 'a.b' }, { group: '' }, { memberId: '*' }, { memberId: 'a b' }]) {
      const nats = await Nats.connect({ ...(await testPlatform()), name: 'wrong', log: quietLog });
      const options = { nats, group, shardLetters: 1, fixed: undefined, memberId: 'id', ...wrong };
      const rest = { monotonic: time.monotonic, pause: time.pause, log: quietLog, signal: AbortSignal.abort() };
      expect(() => joinShards({ ...options, ...rest })).toThrow(TypeError);
      await nats.close();
    }
  });

  test('heartbeats that cannot be read make no member, and are logged as one warning', async () => {
    const one = await start();
    await share([one]);
    const bucket = new MemberBucket(one.nats, group);
    await bucket.put('stranger', '{"fixed":"everything"}');
    await bucket.put('stranger', 'nonsense');
    const late = await start();
    await share([one, late]);
    expect(one.warnings).toHaveLength(1);
  });
});

describe('leaving', () => {
  test('the other copies take over the shards at once, without any time passing', async () => {
    const [first, second, third] = await startThree();
    await second.shards.leave();
    expect(second.shards.owned()).toEqual([]);
    expect(second.ownedOverTime.at(-1)).toBe('');
    await share([first, third]);
    await third.shards.leave();
    await share([first]);
    expect(time.monotonic()).toBe(0);
  });

  test('a copy whose signal is aborted leaves', async () => {
    const stop = new AbortController();
    const [first, second] = [await start(), await start({ signal: stop.signal })];
    await share([first, second]);
    stop.abort();
    await share([first]);
    expect(second.shards.owned()).toEqual([]);
  });

  test('a copy that starts later does not find the copy that left among the members', async () => {
    const [first, second] = [await start(), await start()];
    await share([first, second]);
    await first.shards.leave();
    const late = await start();
    await share([second, late]);
  });

  test('a killed copy loses its shards when its heartbeat expires, not earlier', async () => {
    const [first, second, third] = await startThree();
    await pass(HEARTBEAT_MS);
    await pass(0);
    forget(first, third);
    await second.nats.close();
    for (let heartbeat = 1; heartbeat < EXPIRY_HEARTBEATS; heartbeat += 1) await pass(HEARTBEAT_MS);
    await pass(HEARTBEAT_MS - 1);
    await pass(0);
    expect([first.ownedOverTime, third.ownedOverTime]).toEqual([[], []]);
    await pass(1);
    await share([first, third]);
  });

  test('a new copy counts the expiry of a killed member from its last heartbeat', async () => {
    const first = await start();
    const bucket = new MemberBucket(first.nats, group);
    await bucket.put('killed', '{}');
    const ageMs = 100;
    await eventually(async () => {
      await bucket.put('another', '{}');
      expect((await bucket.read()).find(({ id }) => id === 'killed')?.ageMs).toBeGreaterThanOrEqual(ageMs);
    });
    await bucket.delete('another');
    const late = await start();
    await pass(EXPIRY_MS - ageMs);
    await eventually(() => expect(late.shards.members().map(({ id }) => id)).toEqual(['copy-2', 'copy-1']));
  });
});

describe('SHARDS', () => {
  test('copies with fixed shards own those, and the others share the rest', async () => {
    const fixed = await start({ fixed: ['0', '1', 'd0', 'd1'] });
    const [one, two] = [await start(), await start()];
    await share([fixed, one, two]);
    expect(fixed.shards.owned().join('')).toBe('01d');
    const dealt = [...one.shards.owned(), ...two.shards.owned()];
    expect(dealt.toSorted().join('')).toBe('23456789abcef');
    await fixed.shards.leave();
    await share([one, two]);
  });

  test('shards without an owner are logged as one warning', async () => {
    const low = await start({ fixed: ['0', '1', '2', '3', '4', '5', '6', '7'] });
    await share([low]);
    await pass(HEARTBEAT_MS);
    await pass(0);
    expect(low.warnings).toHaveLength(1);
    expect(low.warnings[0]).toContain('"shards":"8,9,a,b,c,d,e,f"');
    const rest = await start();
    await share([low, rest]);
    expect(rest.shards.owned().join('')).toBe('89abcdef');
    await rest.shards.leave();
    await eventually(() => low.warnings.length === 2);
  });
});

describe('without NATS', () => {
  let own: EmbeddedNats;
  beforeAll(async () => {
    const folder = await temporaryFolder('shards');
    own = await startEmbeddedNats({
      dataDir: join(folder, 'nats'),
      binary: await natsServerBinary(),
      config: await natsServerConfig((await testPlatform()).keys, join(folder, 'accounts')),
      port: 0,
      log: () => undefined,
    });
  });
  afterAll(() => own.stop());

  const keys = async ({ nats }: Copy) => (await new MemberBucket(nats, group).read()).map(({ id }) => id).toSorted();

  test('all copies keep their shards while NATS crashes, and write their heartbeats again after it restarted', async () => {
    const three = await startThree(own.url);
    forget(...three);
    process.kill(own.pid ?? 0, 'SIGKILL');
    await eventually(() => three.every(({ nats }) => !nats.connected));
    await pass(LONG_MS);
    await eventually(() => three.every(({ nats }) => nats.connected));
    await eventually(async () => {
      await pass(HEARTBEAT_MS);
      expect(await keys(three[0])).toEqual(['copy-1', 'copy-2', 'copy-3']);
    });
    expect(three.map(({ ownedOverTime }) => ownedOverTime)).toEqual([[], [], []]);

    const late = await start({}, own.url);
    await share([...three, late]);
    await three[0].shards.leave();
    await share([three[1], three[2], late]);
  });

  test('a copy that does not reconnect to NATS loses its shards', async () => {
    const [first, second, third] = await startThree(own.url);
    process.kill(own.pid ?? 0, 'SIGKILL');
    await second.nats.close();
    await eventually(() => !first.nats.connected && !third.nats.connected);
    await eventually(() => first.nats.connected && third.nats.connected);
    await eventually(async () => {
      await pass(HEARTBEAT_MS);
      expect(first.shards.members()).toHaveLength(2);
      expect(third.shards.members()).toHaveLength(2);
    });
    await share([first, third]);
  });

  test('a deleted bucket is created again, and no copy loses a shard', async () => {
    const three = await startThree(own.url);
    forget(...three);
    await api(three[0].nats, 'STREAM.DELETE.KV_members');
    await pass(HEARTBEAT_MS);
    await eventually(async () => {
      await pass(HEARTBEAT_MS);
      expect(await keys(three[0])).toEqual(['copy-1', 'copy-2', 'copy-3']);
    });
    expect(three.map(({ ownedOverTime }) => ownedOverTime)).toEqual([[], [], []]);
  });

  test('no shard changes its owner while NATS is stopped with SIGSTOP', async () => {
    const three = await startThree(own.url);
    await pass(0);
    forget(...three);
    process.kill(own.pid ?? 0, 'SIGSTOP');
    try {
      await pass(HEARTBEAT_MS);
      await pass(LONG_MS);
    } finally {
      process.kill(own.pid ?? 0, 'SIGCONT');
    }
    await pass(HEARTBEAT_MS);
    await pass(0);
    expect(three.map(({ ownedOverTime }) => ownedOverTime)).toEqual([[], [], []]);
  });

  test('a copy that starts while NATS is down owns no shard until NATS is up', async () => {
    const { creds } = await testPlatform();
    const nats = await Nats.connect({ url: own.url, creds, name: 'early', log: quietLog });
    process.kill(own.pid ?? 0, 'SIGKILL');
    await eventually(() => !nats.connected);
    const early = await start({ nats });
    expect(early.shards.owned()).toEqual([]);
    await share([early]);
    expect(early.warnings).toHaveLength(1);
  });

  test('a copy can leave while NATS is down', async () => {
    const [first] = await startThree(own.url);
    process.kill(own.pid ?? 0, 'SIGKILL');
    await eventually(() => !first.nats.connected);
    await first.shards.leave();
    expect(first.shards.owned()).toEqual([]);
  });
});

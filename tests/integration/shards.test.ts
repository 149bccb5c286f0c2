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
/** Longer than any time that is up. */
const LONG_MS = 20 * EXPIRY_MS;
const EXPIRY_HEARTBEATS = EXPIRY_MS / HEARTBEAT_MS;

interface Copy {
  readonly id: string;
  readonly shards: Shards;
  readonly nats: Nats;
  /** What it was told that it owns, from the first time on. */
  readonly told: string[];
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
  const told: string[] = [];
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
  shards.onChange((owned) => told.push(owned.join()));
  const copy = { id, shards, nats, told, warnings };
  copies.push(copy);
  return copy;
}

/** Copies that share all, each as it is dealt. */
async function startThree(url?: string): Promise<[Copy, Copy, Copy]> {
  const three: [Copy, Copy, Copy] = [await start({}, url), await start({}, url), await start({}, url)];
  await share(three);
  return three;
}

/** Waits until each shard is owned by the one that it is dealt to when exactly these are there. */
function share(there: readonly Copy[], all = LETTERS): Promise<void> {
  const owners = assignShards(
    all,
    there.flatMap(({ shards }) => shards.members().slice(0, 1)),
  );
  return eventually(() => {
    for (const { id, shards } of there) expect(shards.owned()).toEqual(all.filter((each) => owners.get(each) === id));
  });
}

/** Waits until everybody who runs has done what was due, then lets time pass. */
async function pass(ms: number, running = copies.length): Promise<void> {
  await eventually(() => time.pauses === running);
  time.advance(ms);
}

const forget = (...these: readonly Copy[]) => {
  for (const { told } of these) told.length = 0;
};

describe('joining', () => {
  test('one owns everything, two share, three share', async () => {
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

  test('a new one never takes what it is not dealt, and nothing before it has read who is there', async () => {
    const [first] = await startThree();
    const late = await start();
    expect(late.shards.owned()).toEqual([]);
    // A heartbeat of one of the others, before the late one knows of all.
    late.nats.publish(`$KV.members.${group}.copy-1`, '{}');
    await share(copies);
    expect(late.told).toEqual([late.shards.owned().join()]);
    // Whatever the old ones gave away went to the new one.
    expect(first.shards.owned().every((shard) => first.told.at(-2)?.includes(shard))).toBe(true);
  });

  test('by the letter or by the pair, a unit belongs to the owner of its shard', async () => {
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

  test('groups have nothing to do with one another', async () => {
    const [one, two] = [await start(), await start({ group: `${group}-other` })];
    await share([one]);
    await share([two]);
  });

  test('what cannot stand in a key is refused', async () => {
    for (const wrong of [{ group: 'a.b' }, { group: '' }, { memberId: '*' }, { memberId: 'a b' }]) {
      const nats = await Nats.connect({ ...(await testPlatform()), name: 'wrong', log: quietLog });
      const options = { nats, group, shardLetters: 1, fixed: undefined, memberId: 'id', ...wrong };
      const rest = { monotonic: time.monotonic, pause: time.pause, log: quietLog, signal: AbortSignal.abort() };
      expect(() => joinShards({ ...options, ...rest })).toThrow(TypeError);
      await nats.close();
    }
  });

  test('a heartbeat that cannot be read is nobody, and is told once', async () => {
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
  test('the others have everything at once, without any time passing', async () => {
    const [first, second, third] = await startThree();
    await second.shards.leave();
    expect(second.shards.owned()).toEqual([]);
    expect(second.told.at(-1)).toBe('');
    await share([first, third]);
    await third.shards.leave();
    await share([first]);
    expect(time.monotonic()).toBe(0);
  });

  test('by the signal, too', async () => {
    const stop = new AbortController();
    const [first, second] = [await start(), await start({ signal: stop.signal })];
    await share([first, second]);
    stop.abort();
    await share([first]);
    expect(second.shards.owned()).toEqual([]);
  });

  test('whoever reads the bucket afterwards does not find it', async () => {
    const [first, second] = [await start(), await start()];
    await share([first, second]);
    await first.shards.leave();
    const late = await start();
    await share([second, late]);
  });

  test('one that is killed loses its shards when its time is up, not earlier', async () => {
    const [first, second, third] = await startThree();
    await pass(HEARTBEAT_MS);
    await pass(0);
    forget(first, third);
    await second.nats.close();
    for (let heartbeat = 1; heartbeat < EXPIRY_HEARTBEATS; heartbeat += 1) await pass(HEARTBEAT_MS);
    await pass(HEARTBEAT_MS - 1);
    await pass(0);
    expect([first.told, third.told]).toEqual([[], []]);
    await pass(1);
    await share([first, third]);
  });

  test('one that was killed before another comes is waited for no longer than by those who knew it', async () => {
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
  test('fixed members have theirs, the rest is dealt', async () => {
    const fixed = await start({ fixed: ['0', '1', 'd0', 'd1'] });
    const [one, two] = [await start(), await start()];
    await share([fixed, one, two]);
    expect(fixed.shards.owned().join('')).toBe('01d');
    const dealt = [...one.shards.owned(), ...two.shards.owned()];
    expect(dealt.toSorted().join('')).toBe('23456789abcef');
    await fixed.shards.leave();
    await share([one, two]);
  });

  test('what nobody works on is told, once', async () => {
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

  test('after a crash everybody keeps what it owns, and comes back to a new bucket', async () => {
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
    expect(three.map(({ told }) => told)).toEqual([[], [], []]);

    const late = await start({}, own.url);
    await share([...three, late]);
    await three[0].shards.leave();
    await share([three[1], three[2], late]);
  });

  test('one that does not come back with NATS loses its shards in time', async () => {
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

  test('a bucket that is deleted is made again', async () => {
    const three = await startThree(own.url);
    forget(...three);
    await api(three[0].nats, 'STREAM.DELETE.KV_members');
    await pass(HEARTBEAT_MS);
    await eventually(async () => {
      await pass(HEARTBEAT_MS);
      expect(await keys(three[0])).toEqual(['copy-1', 'copy-2', 'copy-3']);
    });
    expect(three.map(({ told }) => told)).toEqual([[], [], []]);
  });

  test('while it stands still nobody takes anything from anybody', async () => {
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
    expect(three.map(({ told }) => told)).toEqual([[], [], []]);
  });

  test('where it is not there yet, nothing is owned until it has come', async () => {
    const { creds } = await testPlatform();
    const nats = await Nats.connect({ url: own.url, creds, name: 'early', log: quietLog });
    process.kill(own.pid ?? 0, 'SIGKILL');
    await eventually(() => !nats.connected);
    const early = await start({ nats });
    expect(early.shards.owned()).toEqual([]);
    await share([early]);
    expect(early.warnings).toHaveLength(1);
  });

  test('leaving ends all the same', async () => {
    const [first] = await startThree(own.url);
    process.kill(own.pid ?? 0, 'SIGKILL');
    await eventually(() => !first.nats.connected);
    await first.shards.leave();
    expect(first.shards.owned()).toEqual([]);
  });
});

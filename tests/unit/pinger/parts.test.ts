import { describe, expect, test } from 'bun:test';
import { type Address, parseAddress } from '../../../domain/address.ts';
import { unitHash } from '../../../domain/shard.ts';
import { MAX_RESPONSE_BYTES, readResponse } from '../../../pinger/probes/http-response.ts';
import {
  JOIN_RETRY_SLOTS,
  JoinQueue,
  MAX_JOIN_ATTEMPTS,
  MAX_JOIN_PINGS_PER_SLOT,
} from '../../../pinger/schedule/join-queue.ts';
import { PingCounters } from '../../../pinger/telemetry/ping-counters.ts';
import { MAX_TARGETS_PER_PAGE, type PingTarget, TargetList } from '../../../pinger/units/target-list.ts';
import { FULL_READ_INTERVAL_MS, type UnitQuery } from '../../../platform/change-feed/follower.ts';
import type { UnitChanges } from '../../../platform/change-feed/subscription.ts';
import {
  decodeTelemetry,
  encodeTelemetry,
  MAX_TELEMETRY_RESULTS,
  type TelemetryResult,
  telemetrySubject,
} from '../../../platform/liveness/telemetry.ts';
import { answered, missed } from '../../support/telemetry.ts';

describe('an address', () => {
  test.each<[string, Address | undefined]>([
    ['127.0.0.2:8080', { host: '127.0.0.2', port: 8080 }],
    ['unit-1.example.org:80', { host: 'unit-1.example.org', port: 80 }],
    ['[::1]:9000', { host: '::1', port: 9000 }],
    ['localhost:65535', { host: 'localhost', port: 65_535 }],
    ['localhost:65536', undefined],
    ['localhost:0', undefined],
    ['localhost', undefined],
    [':80', undefined],
    ['::1:80', undefined],
    ['a b:80', undefined],
    ['a\r\nX: y:80', undefined],
    ['http://a:80', undefined],
    ['a.:80', undefined],
    ['', undefined],
  ])('%j', (text, address) => {
    expect(parseAddress(text)).toEqual(address as Address);
  });
});

describe('an HTTP response', () => {
  const read = (text: string, ended = false) => {
    const response = readResponse(Buffer.from(text, 'latin1'), ended);
    return typeof response === 'string' ? response : { status: response.status, body: response.body.toString() };
  };
  const sized = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-LENGTH: 5\r\n\r\nhello';
  const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n';
  const toTheEnd = 'HTTP/1.0 200 OK\r\n\r\nhello';

  test.each([sized, chunked])('is read once it is whole', (text) => {
    for (let length = 0; length < text.length - 2; length += 1) {
      const soFar = read(text.slice(0, length));
      if (soFar !== 'more') expect(soFar).toEqual({ status: 200, body: 'hello' });
    }
    expect(read(text)).toEqual({ status: 200, body: 'hello' });
  });

  test('of unknown length ends with the connection', () => {
    expect(read(toTheEnd)).toBe('more');
    expect(read(toTheEnd, true)).toEqual({ status: 200, body: 'hello' });
  });

  test('takes no more than it announced', () => {
    expect(read(`${sized}, world`)).toEqual({ status: 200, body: 'hello' });
  });

  test('without a body', () => {
    expect(read('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n')).toEqual({ status: 403, body: '' });
  });

  test.each([
    ['is cut off in its head', 'HTTP/1.1 200', true],
    ['is cut off in its body', sized.slice(0, -1), true],
    ['is cut off in a chunk', chunked.slice(0, -8), true],
    ['is not HTTP', 'SSH-2.0-OpenSSH\r\n\r\n', false],
    ['has no status', 'HTTP/1.1 OK\r\n\r\n', false],
    ['has a length that is none', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n', false],
    ['has a chunk that is none', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n', false],
    ['never ends', `HTTP/1.1 200 OK\r\n\r\n${'x'.repeat(MAX_RESPONSE_BYTES)}`, false],
  ])('that %s is none', (_, text, ended) => {
    expect(read(text, ended)).toBe('malformed');
  });
});

describe('units that join', () => {
  test('are asked soon, a few times, with a pause', () => {
    const queue = new JoinQueue();
    queue.add('a');
    const asked: number[] = [];
    for (let slot = 100; slot < 300; slot += 1) for (const _ of queue.takeDue(slot)) asked.push(slot);
    expect(asked).toEqual(Array.from({ length: MAX_JOIN_ATTEMPTS }, (_, index) => 100 + index * JOIN_RETRY_SLOTS));
  });

  test('are not asked again once they were heard of', () => {
    const queue = new JoinQueue();
    queue.add('a');
    expect(queue.takeDue(1)).toEqual(['a']);
    queue.remove('a');
    expect(queue.takeDue(100)).toEqual([]);
  });

  test('are no storm, and each gets its turn', () => {
    const queue = new JoinQueue();
    const units = Array.from({ length: 1_000 }, (_, index) => `u-${index}`);
    for (const unit of units) queue.add(unit);
    const asked: string[] = [];
    for (let slot = 0; slot < 10; slot += 1) {
      const due = queue.takeDue(slot);
      expect(due.length).toBeLessThanOrEqual(MAX_JOIN_PINGS_PER_SLOT);
      asked.push(...due);
    }
    expect(asked.toSorted()).toEqual(units.toSorted());
  });
});

describe('the meter', () => {
  test('gives totals, rates of late, and how late pings were', () => {
    let nowMs = 0;
    const meter = new PingCounters(() => nowMs);
    for (; nowMs < 100_000; nowMs += 100) {
      meter.increment('pings', 2);
      meter.recordLag(nowMs === 95_000 ? 40 : 1);
    }
    meter.recordLag(3);
    expect(meter.totals.pings).toBe(2_000);
    // The last second has only begun.
    expect(meter.rates().pings).toBeCloseTo((29 * 20) / 30, 1);
    expect(meter.lagMs()).toEqual({ p99: 1.1, max: 40 });
    nowMs += 60_000;
    expect(meter.rates().pings).toBe(0);
    expect(meter.lagMs()).toEqual({ p99: 0, max: 0 });
    expect(meter.totals.pings).toBe(2_000);
  });

  test('does not divide the first second by thirty', () => {
    let nowMs = 5_000;
    const meter = new PingCounters(() => nowMs);
    meter.increment('answered', 50);
    nowMs += 1_000;
    expect(meter.rates().answered).toBe(50);
  });
});

describe('the targets', () => {
  const { signal } = new AbortController();
  const unit = (name: string, changes: Partial<PingTarget> = {}): PingTarget => ({
    name,
    hash: unitHash(name),
    address: '127.0.0.2:80',
    probe: 'http',
    keyVersion: 1,
    inUse: true,
    ...changes,
  });

  /** A read model whose changes the feed names, and a list of the units that `isOwn`. */
  function world() {
    const model = new Map<string, PingTarget>();
    const queries: UnitQuery[] = [];
    const put: string[] = [];
    const gone: string[] = [];
    const state = { nowMs: 0, isAway: false, isOwn: (_shard: string) => true };
    let changes: UnitChanges = 'all';
    const list = new TargetList({
      targets: {
        async read(query) {
          if (state.isAway) throw new Error('the database is away');
          queries.push(query);
          const inOrder = [...model.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
          if ('names' in query) return inOrder.filter(({ name }) => query.names.includes(name));
          return inOrder.filter(({ name }) => name > (query.afterName ?? '')).slice(0, query.limit);
        },
        changes: {
          take: () => {
            const taken = changes;
            changes = new Set();
            return taken;
          },
          putBack: (returned) => {
            changes = returned;
          },
        },
      },
      owns: (shard) => state.isOwn(shard),
      monotonic: () => state.nowMs,
      onChanged: ({ name }) => put.push(name),
      onRemoved: (name) => gone.push(name),
    });
    const change = (target: PingTarget) => {
      model.set(target.name, target);
      if (changes !== 'all') changes = new Set([...changes, target.name]);
    };
    const refresh = async () => {
      put.length = 0;
      gone.length = 0;
      await list.refresh(signal);
      return { put: [...put], gone: [...gone] };
    };
    return { list, model, state, queries, change, refresh, gone };
  }

  test('are read to the last page at first, and then as far as they have changed', async () => {
    const { list, change, refresh, queries } = world();
    const names = Array.from({ length: MAX_TARGETS_PER_PAGE + 1 }, (_, index) => `u-${String(index).padStart(5, '0')}`);
    for (const name of names) change(unit(name));
    expect((await refresh()).put).toEqual(names);
    expect(list.size).toBe(names.length);
    expect(queries).toHaveLength(2);
    expect(await refresh()).toEqual({ put: [], gone: [] });
    expect(queries).toHaveLength(2);
    change(unit('u-00007', { recorded: { epoch: 'e', seq: 7 } }));
    change(unit('new'));
    expect(await refresh()).toEqual({ put: ['new', 'u-00007'], gone: [] });
  });

  test('leave when they are no longer in use, or no longer there', async () => {
    const { list, model, change, refresh, state } = world();
    for (const name of ['a', 'b', 'c']) change(unit(name));
    await refresh();
    change(unit('a', { inUse: false }));
    expect(await refresh()).toEqual({ put: [], gone: ['a'] });
    model.delete('b');
    expect(await refresh()).toEqual({ put: [], gone: [] });
    state.nowMs += FULL_READ_INTERVAL_MS;
    expect(await refresh()).toEqual({ put: ['c'], gone: ['b'] });
    expect(list.size).toBe(1);
  });

  test('of other shards are those of others, from the moment on that they are', async () => {
    const { list, change, refresh, state, gone } = world();
    const names = Array.from({ length: 40 }, (_, index) => `u-${index}`);
    const isLow = (shard: string) => shard < '8';
    for (const name of names) change(unit(name));
    state.isOwn = isLow;
    const low = names.filter((name) => isLow(unitHash(name)));
    expect((await refresh()).put.toSorted()).toEqual(low.toSorted());
    state.isOwn = (shard) => !isLow(shard);
    list.reshard();
    expect(gone.toSorted()).toEqual(low.toSorted());
    expect((await refresh()).put).toHaveLength(names.length - low.length);
  });

  test('stay as they are known when they cannot be read', async () => {
    const { list, change, refresh, state } = world();
    change(unit('a'));
    await refresh();
    change(unit('b'));
    state.isAway = true;
    await expect(refresh()).rejects.toThrow('away');
    expect(list.size).toBe(1);
    state.isAway = false;
    expect((await refresh()).put).toEqual(['b']);
  });
});

describe('telemetry', () => {
  const last = {
    at: 1_780_315_200_123,
    rttMs: 12.5,
    epoch: 'e',
    lastSeq: 7,
    configurationHash: 'c',
    clockOffsetMs: -3,
  };
  const result = answered({ unit: 'PL-1000', ...last });

  test('comes back as it was', () => {
    const { rttMs: _, ...said } = last;
    const results: TelemetryResult[] = [
      result,
      { ...missed({ unit: 'PL-1001', at: 1 }), flapping: true },
      { heard: 'heartbeat', unit: 'PL-1000', ...said },
      { heard: 'heartbeat', unit: 'PL-1002', at: 2 },
    ];
    expect(decodeTelemetry(encodeTelemetry('p-1', results))).toEqual({ pingerId: 'p-1', results, unreadable: 0 });
    expect(telemetrySubject('p-1')).toBe('telemetry.p-1');
  });

  test.each([
    ['no JSON', 'hello'],
    ['null', 'null'],
    ['no results', '{"pingerId":"p"}'],
    ['a pinger that is no token', encodeTelemetry('a.b', [])],
    ['too many', encodeTelemetry('p', new Array(MAX_TELEMETRY_RESULTS + 1).fill(result))],
  ])('refuses %s', (_, json) => {
    expect(decodeTelemetry(json)).toBeUndefined();
  });

  test.each([
    ['a unit that is none', { unit: 'a b' }],
    ['a negative time', { last: { ...last, rttMs: -1 } }],
    ['a seq that no number holds', { last: { ...last, lastSeq: 1e300 } }],
    ['an epoch that no database holds', { last: { ...last, epoch: 'e\u0000' } }],
    ['an epoch without end', { last: { ...last, epoch: 'e'.repeat(101) } }],
    ['something else that was heard', { heard: 'music' }],
  ])('%s costs only its own result', (_, odd) => {
    const results = [{ ...result, ...odd } as TelemetryResult, result];
    expect(decodeTelemetry(encodeTelemetry('p', results))).toEqual({ pingerId: 'p', results: [result], unreadable: 1 });
  });
});

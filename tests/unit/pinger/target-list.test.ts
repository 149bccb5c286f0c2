import { describe, expect, test } from 'bun:test';
import { unitHash } from '../../../domain/shard.ts';
import { MAX_TARGETS_PER_PAGE, type PingTarget, TargetList } from '../../../pinger/units/target-list.ts';
import { FULL_READ_INTERVAL_MS, type UnitQuery } from '../../../platform/change-feed/follower.ts';
import type { UnitChanges } from '../../../platform/change-feed/subscription.ts';

describe('the target list', () => {
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

  /** A read model whose changes the feed names, and a list of the units of the shards that `isOwn` accepts. */
  function createList() {
    const model = new Map<string, PingTarget>();
    const queries: UnitQuery[] = [];
    const changed: string[] = [];
    const removed: string[] = [];
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
      onChanged: ({ name }) => changed.push(name),
      onRemoved: (name) => removed.push(name),
    });
    const change = (target: PingTarget) => {
      model.set(target.name, target);
      if (changes !== 'all') changes = new Set([...changes, target.name]);
    };
    const refresh = async () => {
      changed.length = 0;
      removed.length = 0;
      await list.refresh(signal);
      return { changed: [...changed], removed: [...removed] };
    };
    return { list, model, state, queries, change, refresh, removed };
  }

  test('reads all pages at first, and then only the units that changed', async () => {
    const { list, change, refresh, queries } = createList();
    const names = Array.from({ length: MAX_TARGETS_PER_PAGE + 1 }, (_, index) => `u-${String(index).padStart(5, '0')}`);
    for (const name of names) change(unit(name));
    expect((await refresh()).changed).toEqual(names);
    expect(list.size).toBe(names.length);
    expect(queries).toHaveLength(2);
    expect(await refresh()).toEqual({ changed: [], removed: [] });
    expect(queries).toHaveLength(2);
    change(unit('u-00007', { recorded: { epoch: 'e', seq: 7 } }));
    change(unit('new'));
    expect(await refresh()).toEqual({ changed: ['new', 'u-00007'], removed: [] });
  });

  test('removes units that are out of use, and at a full read those that the read model no longer contains', async () => {
    const { list, model, change, refresh, state } = createList();
    for (const name of ['a', 'b', 'c']) change(unit(name));
    await refresh();
    change(unit('a', { inUse: false }));
    expect(await refresh()).toEqual({ changed: [], removed: ['a'] });
    model.delete('b');
    expect(await refresh()).toEqual({ changed: [], removed: [] });
    state.nowMs += FULL_READ_INTERVAL_MS;
    expect(await refresh()).toEqual({ changed: ['c'], removed: ['b'] });
    expect(list.size).toBe(1);
  });

  test('removes the units of shards that it no longer owns at once, and reads those of new shards', async () => {
    const { list, change, refresh, state, removed } = createList();
    const names = Array.from({ length: 40 }, (_, index) => `u-${index}`);
    const isLow = (shard: string) => shard < '8';
    for (const name of names) change(unit(name));
    state.isOwn = isLow;
    const low = names.filter((name) => isLow(unitHash(name)));
    expect((await refresh()).changed.toSorted()).toEqual(low.toSorted());
    state.isOwn = (shard) => !isLow(shard);
    list.reshard();
    expect(removed.toSorted()).toEqual(low.toSorted());
    expect((await refresh()).changed).toHaveLength(names.length - low.length);
  });

  test('keeps its units when a read fails, and reads the changes of the failed read again', async () => {
    const { list, change, refresh, state } = createList();
    change(unit('a'));
    await refresh();
    change(unit('b'));
    state.isAway = true;
    await expect(refresh()).rejects.toThrow('away');
    expect(list.size).toBe(1);
    state.isAway = false;
    expect((await refresh()).changed).toEqual(['b']);
  });
});

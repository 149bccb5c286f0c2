import { describe, expect, test } from 'bun:test';
import { UnitFollower, type UnitQuery } from '../../../platform/change-feed/follower.ts';
import { encodeUnitChanges, MAX_UNITS_PER_MESSAGE } from '../../../platform/change-feed/message.ts';
import { UnitChangePublisher } from '../../../platform/change-feed/publisher.ts';
import {
  MAX_WAITING_UNITS,
  subscribeToUnitChanges,
  type UnitChanges,
} from '../../../platform/change-feed/subscription.ts';
import type { NatsMessage } from '../../../platform/nats/connection.ts';

const { signal } = new AbortController();
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A connection whose messages arrive unless they are lost, and that can break. */
function connection() {
  const handlers = new Set<(message: NatsMessage) => void>();
  const watchers = new Set<(connected: boolean) => void>();
  const state = { connected: true, isLossy: false };
  return {
    state,
    subscribe(_subject: string, handle: (message: NatsMessage) => void) {
      handlers.add(handle);
      return () => handlers.delete(handle);
    },
    onConnection(watcher: (connected: boolean) => void) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    flush: async () => undefined,
    get connected() {
      return state.connected;
    },
    publish(subject: string, payload: string | Uint8Array) {
      if (state.isLossy) return;
      const data = typeof payload === 'string' ? new TextEncoder().encode(payload) : payload;
      for (const handle of handlers)
        handle({ subject, reply: undefined, data, header: () => undefined, respond: () => undefined });
    },
    setConnected(connected: boolean) {
      state.connected = connected;
      for (const watcher of watchers) watcher(connected);
    },
    get listeners() {
      return handlers.size + watchers.size;
    },
  };
}

/** A subscription that has read all units once, and a publisher on the same connection. */
async function feed() {
  const nats = connection();
  const changes = subscribeToUnitChanges(nats);
  await settled();
  expect(changes.take()).toBe('all');
  return { nats, changes, publisher: new UnitChangePublisher(nats, 'P') };
}

const named = (taken: UnitChanges) => (taken === 'all' ? 'all' : [...taken]);

describe('the change feed', () => {
  test('names each unit that changed, once, until it is taken', async () => {
    const { changes, publisher } = await feed();
    expect(changes.hasChanges).toBe(false);
    publisher.unitsChanged(['A', 'B']);
    publisher.unitsChanged(['B', 'C']);
    expect(changes.hasChanges).toBe(true);
    expect(named(changes.take())).toEqual(['A', 'B', 'C']);
    expect(named(changes.take())).toEqual([]);
    changes.putBack(new Set(['A']));
    expect(named(changes.take())).toEqual(['A']);
  });

  test('names more units than fit into one message', async () => {
    const { changes, publisher } = await feed();
    const names = Array.from({ length: 2 * MAX_UNITS_PER_MESSAGE + 1 }, (_, index) => `U-${index}`);
    publisher.unitsChanged(names);
    expect(named(changes.take())).toEqual(names);
  });

  test('reports that any unit may have changed when its publisher does', async () => {
    const { changes, publisher } = await feed();
    publisher.allChanged();
    expect(changes.take()).toBe('all');
    expect(named(changes.take())).toEqual([]);
  });

  test('notices a lost message by the next one, at the latest by a heartbeat', async () => {
    const { nats, changes, publisher } = await feed();
    publisher.unitsChanged(['A']);
    expect(named(changes.take())).toEqual(['A']);
    nats.state.isLossy = true;
    publisher.unitsChanged(['B']);
    nats.state.isLossy = false;
    expect(named(changes.take())).toEqual([]);
    publisher.heartbeat();
    expect(changes.take()).toBe('all');
  });

  test('reports that any unit may have changed after NATS was unreachable', async () => {
    const { nats, changes, publisher } = await feed();
    nats.state.connected = false;
    publisher.unitsChanged(['A']);
    nats.state.connected = true;
    expect(named(changes.take())).toEqual([]);
    publisher.heartbeat();
    expect(changes.take()).toBe('all');
    publisher.unitsChanged(['B']);
    expect(named(changes.take())).toEqual(['B']);
  });

  test('reads all units when the subscriber was cut off', async () => {
    const { nats, changes, publisher } = await feed();
    publisher.unitsChanged(['A']);
    nats.setConnected(false);
    nats.setConnected(true);
    await settled();
    expect(changes.take()).toBe('all');
    publisher.unitsChanged(['B']);
    expect(named(changes.take())).toEqual(['B']);
  });

  test('reads all units after a message that cannot be read, and when too many units wait', async () => {
    const { nats, changes, publisher } = await feed();
    nats.publish('changes.units', '{"units":["A"]}');
    expect(changes.take()).toBe('all');
    publisher.unitsChanged(Array.from({ length: MAX_WAITING_UNITS + 1 }, (_, index) => `U-${index}`));
    expect(changes.take()).toBe('all');
  });

  test('keeps the numbers of publishers apart', async () => {
    const { nats, changes, publisher } = await feed();
    publisher.unitsChanged(['A']);
    new UnitChangePublisher(nats, 'Q').unitsChanged(['B']);
    publisher.unitsChanged(['C']);
    expect(named(changes.take())).toEqual(['A', 'B', 'C']);
  });

  test('has no timer and no subscription after it is closed', async () => {
    const { nats, changes } = await feed();
    expect(nats.listeners).toBe(2);
    changes.close();
    expect(nats.listeners).toBe(0);
  });

  test('fits one message of the longest names into the payload that a NATS server takes', () => {
    const units = Array.from({ length: MAX_UNITS_PER_MESSAGE }, () => 'U'.repeat(63));
    expect(encodeUnitChanges({ publisherId: 'P', number: 1, units }).length).toBeLessThan(1024 * 1024);
  });
});

describe('a follower of units', () => {
  function world(names: readonly string[], pageSize = 2) {
    const model = new Set(names);
    const queries: UnitQuery[] = [];
    const seen: string[] = [];
    const absent: string[] = [];
    const fullReads: string[][] = [];
    let waiting: UnitChanges = 'all';
    const state = { nowMs: 0, isAway: false };
    const follower = new UnitFollower<{ readonly name: string }>({
      changes: {
        take: () => {
          const taken = waiting;
          waiting = new Set();
          return taken;
        },
        putBack: (changes) => {
          waiting = changes;
        },
      },
      async read(query) {
        if (state.isAway) throw new Error('the database is away');
        queries.push(query);
        const found = [...model]
          .toSorted()
          .filter((name) => ('names' in query ? query.names.includes(name) : name > (query.afterName ?? '')));
        return ('names' in query ? found : found.slice(0, query.limit)).map((name) => ({ name }));
      },
      owns: (name) => !name.startsWith('x'),
      pageSize,
      monotonic: () => state.nowMs,
      onUnit: ({ name }) => seen.push(name),
      onAbsent: (name) => absent.push(name),
      onFullRead: (present) => {
        fullReads.push([...present]);
      },
    });
    const refresh = async (changes?: UnitChanges, also?: readonly string[]) => {
      seen.length = 0;
      absent.length = 0;
      fullReads.length = 0;
      if (changes !== undefined) waiting = changes;
      await follower.refresh(signal, also);
      return { seen: [...seen], absent: [...absent], full: fullReads[0] };
    };
    return { model, queries, state, follower, refresh };
  }

  test('reads all units page by page at first, and then those that the feed names', async () => {
    const { refresh, queries } = world(['a', 'b', 'c', 'd', 'e']);
    expect(await refresh()).toEqual({ seen: ['a', 'b', 'c', 'd', 'e'], absent: [], full: ['a', 'b', 'c', 'd', 'e'] });
    expect(queries).toHaveLength(3);
    expect(await refresh()).toEqual({ seen: [], absent: [], full: undefined });
    expect(queries).toHaveLength(3);
    expect(await refresh(new Set(['b', 'gone', 'x-of-another']), ['d'])).toEqual({
      seen: ['b', 'd'],
      absent: ['gone'],
      full: undefined,
    });
  });

  test('reads all units again after ten minutes, and when its owner requests it', async () => {
    const { refresh, state, follower } = world(['a']);
    await refresh();
    state.nowMs = 599_999;
    expect((await refresh()).full).toBeUndefined();
    state.nowMs = 600_000;
    expect((await refresh()).full).toEqual(['a']);
    follower.requestFullRead();
    expect((await refresh()).full).toEqual(['a']);
  });

  test('reads a unit again after a failed read', async () => {
    const { refresh, state } = world(['a', 'b']);
    state.isAway = true;
    await expect(refresh()).rejects.toThrow('away');
    state.isAway = false;
    expect((await refresh()).full).toEqual(['a', 'b']);
    state.isAway = true;
    await expect(refresh(new Set(['b']))).rejects.toThrow('away');
    state.isAway = false;
    expect((await refresh()).seen).toEqual(['b']);
  });
});

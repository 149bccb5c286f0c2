import { describe, expect, test } from 'bun:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type EventDraft, envelop } from '../../domain/events/drafts.ts';
import { type FoldableCommit, newUnitState, type UnitState } from '../../domain/unit/unit.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { ConcurrencyError, type EventStore, StoreUnavailableError } from '../../platform/event-store/store.ts';
import { CachedUnit } from '../../platform/units/cached-unit.ts';
import {
  MAX_DECISION_ATTEMPTS,
  MAX_DECISIONS_PER_SUBJECT,
  UnitDecider,
  type UnitDeciderOptions,
} from '../../platform/units/unit-decider.ts';
import { eventually } from '../support/eventually.ts';
import { quietLog } from '../support/nats.ts';
import { appendRegistration } from '../support/registration.ts';

const META = { actor: 'ops:test', source: '/test' };

function newDecider(store: EventStore, options: Partial<UnitDeciderOptions> = {}): UnitDecider {
  return new UnitDecider({
    store,
    loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
    newId: () => crypto.randomUUID(),
    clock: () => Date.parse('2026-07-01T10:00:00Z'),
    random: () => 0.5,
    sleep: async () => {
      await nextTurn();
    },
    log: quietLog,
    ...options,
  });
}

function newStore(): MemoryEventStore {
  return new MemoryEventStore(() => 0);
}

/** The given store, with some of its methods replaced. */
function storeWith(store: EventStore, replaced: Partial<EventStore>): EventStore {
  return {
    append: (append) => store.append(append),
    lastSequence: () => store.lastSequence(),
    read: (options) => store.read(options),
    watch: (options) => store.watch(options),
    tail: (unit, after) => store.tail(unit, after),
    tailFromLeader: (unit, after) => store.tailFromLeader(unit, after),
    lastSequenceOf: (unit) => store.lastSequenceOf(unit),
    ...replaced,
  };
}

/** Each decision adds one numbered tag, so that a lost or repeated decision shows. */
function addTag(state: UnitState): EventDraft[] {
  return [{ type: 'UnitUpdated', data: { tags: [...tagsOf(state), `t${tagsOf(state).length}`] } }];
}

function tagsOf(state: UnitState): readonly string[] {
  return state.registry.status === 'unregistered' ? [] : state.registry.tags;
}

async function register(store: EventStore, unit = 'U-1'): Promise<void> {
  await appendRegistration(newDecider(store), unit);
}

describe('the unit decider', () => {
  test('loses and repeats nothing when three processes decide on one unit at the same time', async () => {
    const store = newStore();
    await register(store);
    const processes = [newDecider(store), newDecider(store), newDecider(store)];
    await Promise.all(
      processes.flatMap((process, p) =>
        Array.from({ length: 10 }, (_, n) =>
          process.decide('U-1', 'registry', { ...META, commandId: `${p}-${n}` }, addTag),
        ),
      ),
    );
    const state = await newDecider(store).getState('U-1');
    expect(tagsOf(state)).toEqual(Array.from({ length: 30 }, (_, n) => `t${n}`));
  });

  test('appends a repeated command once', async () => {
    const store = newStore();
    await register(store);
    const process = newDecider(store);
    const meta = { ...META, commandId: 'same' };
    const first = await process.decide('U-1', 'registry', meta, addTag);
    const again = await newDecider(store).decide('U-1', 'registry', meta, addTag);
    expect(again).toMatchObject({ appended: false, sequence: first.sequence });
    expect(tagsOf(again.state)).toEqual(['t0']);
  });

  test('loads a unit from its snapshot and reads only later commits', async () => {
    const store = newStore();
    await register(store);
    const full = await newDecider(store).decide('U-1', 'registry', { ...META, commandId: '1' }, addTag);
    await newDecider(store).decide('U-1', 'registry', { ...META, commandId: '2' }, addTag);
    const reads: number[] = [];
    const observed = storeWith(store, {
      tail: (unit, after) => {
        reads.push(after);
        return store.tail(unit, after);
      },
    });
    const process = newDecider(observed, {
      loadSnapshot: async () => ({ state: full.state, completeTo: full.sequence }),
    });
    expect(tagsOf(await process.getState('U-1'))).toEqual(['t0', 't1']);
    expect(reads).toEqual([full.sequence]);
  });

  test('reads a cached unit again only after another process appended to it', async () => {
    const store = newStore();
    await register(store);
    let tails = 0;
    const counted = storeWith(store, {
      tail: (unit, after) => {
        tails += 1;
        return store.tail(unit, after);
      },
    });
    const process = newDecider(counted);
    const stop = new AbortController();
    const following = process.followStore(stop.signal);
    await eventually(async () => {
      await process.getState('U-1');
      const before = tails;
      await process.getState('U-1');
      return tails === before;
    });
    const before = tails;
    await newDecider(store).decide('U-1', 'registry', { ...META, commandId: 'other' }, addTag);
    await eventually(async () => tagsOf(await process.getState('U-1')).length === 1);
    expect(tails).toBe(before + 1);
    await process.decide('U-1', 'registry', { ...META, commandId: 'own' }, addTag);
    await nextTurn();
    expect(tagsOf(await process.getState('U-1'))).toHaveLength(2);
    expect(tails).toBe(before + 1);
    stop.abort();
    await following;
  });

  test('reads from the leader when a replica that lags does not have the commit that won a race', async () => {
    const store = newStore();
    await register(store);
    const [direct, leader] = [{ reads: 0 }, { reads: 0 }];
    const registration = await store.lastSequence();
    // The replica never gets beyond the registration.
    const lagging = storeWith(store, {
      tail: async (unit, after) => {
        direct.reads += 1;
        return (await store.tail(unit, after)).filter(({ sequence }) => sequence <= registration);
      },
      tailFromLeader: (unit, after) => {
        leader.reads += 1;
        return store.tailFromLeader(unit, after);
      },
    });
    const process = newDecider(lagging);
    const stop = new AbortController();
    const following = process.followStore(stop.signal);
    await eventually(async () => {
      await process.getState('U-1');
      return direct.reads > 0;
    });
    await newDecider(store).decide('U-1', 'registry', { ...META, commandId: 'other' }, addTag);
    const own = await process.decide('U-1', 'registry', { ...META, commandId: 'own' }, addTag);
    expect(tagsOf(own.state)).toEqual(['t0', 't1']);
    expect(leader.reads).toBeGreaterThan(0);
    await newDecider(store).decide('U-1', 'registry', { ...META, commandId: 'third' }, addTag);
    // The follower names the commit; the replica still lacks it.
    await eventually(async () => tagsOf(await process.getState('U-1')).length === 3);
    stop.abort();
    await following;
  });

  test('the latest state has every commit that was acknowledged before, although a load began earlier', async () => {
    const store = newStore();
    await register(store);
    const gate = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    let isFirst = true;
    const slow = storeWith(store, {
      tail: async (unit, after) => {
        const tail = await store.tail(unit, after);
        if (isFirst) {
          isFirst = false;
          begun.resolve();
          await gate.promise;
        }
        return tail;
      },
    });
    const process = newDecider(slow);
    const loading = process.getState('U-1');
    await begun.promise;
    await newDecider(store).decide('U-1', 'registry', { ...META, commandId: 'late' }, addTag);
    const latest = process.getLatestState('U-1');
    gate.resolve();
    expect(tagsOf(await latest)).toEqual(['t0']);
    await loading;
  });

  test('does not miss a commit that is appended while a unit is being loaded', async () => {
    const store = newStore();
    await register(store);
    const gate = Promise.withResolvers<void>();
    const slow = storeWith(store, {
      tail: async (unit, after) => {
        const tail = await store.tail(unit, after);
        await gate.promise;
        return tail;
      },
    });
    const process = newDecider(slow);
    const stop = new AbortController();
    const following = process.followStore(stop.signal);
    await nextTurn();
    const loading = process.getState('U-1');
    await nextTurn();
    const late = await newDecider(store).decide('U-1', 'registry', { ...META, commandId: 'late' }, addTag);
    // The follower reads in order: when it has read this commit of another unit, it has read the late one.
    await newDecider(store).decide('U-2', 'log', { ...META, commandId: 'marker' }, () => [
      { type: 'UnitBatchRejected', data: { reason: 'x', bytes: 0 } },
    ]);
    await nextTurn();
    gate.resolve();
    const state = await loading;
    expect(state.sequences.registry).toBe(late.sequence);
    expect(tagsOf(await process.getState('U-1'))).toEqual(['t0']);
    stop.abort();
    await following;
  });

  test('a decision does not wait for an append to another subject of its unit, and the state has both', async () => {
    const store = newStore();
    await register(store);
    const gate = Promise.withResolvers<void>();
    const slow = storeWith(store, {
      append: async (append) => {
        if (append.aggregate === 'log') await gate.promise;
        return store.append(append);
      },
    });
    const process = newDecider(slow);
    const stop = new AbortController();
    const following = process.followStore(stop.signal);
    await nextTurn();
    await process.getState('U-1');
    const reporting = process.decide('U-1', 'log', { ...META, commandId: 'report' }, () => [
      { type: 'UnitLogGapDetected', data: { epoch: 'e', fromSeq: 1, toSeq: 2 } },
    ]);
    expect(tagsOf((await process.decide('U-1', 'registry', { ...META, commandId: '1' }, addTag)).state)).toEqual([
      't0',
    ]);
    gate.resolve();
    const { state } = await reporting;
    expect(state.log.gaps).toEqual({ e: { fromSeq: 1, toSeq: 2 } });
    await process.decide('U-1', 'registry', { ...META, commandId: '2' }, addTag);
    const now = await process.getState('U-1');
    expect(tagsOf(now)).toEqual(['t0', 't1']);
    expect(now.log.gaps).toEqual({ e: { fromSeq: 1, toSeq: 2 } });
    stop.abort();
    await following;
  });

  test('the next decision knows a noted commit before the follower reads it and before its append is acknowledged', async () => {
    const store = newStore();
    await register(store);
    const answers = Promise.withResolvers<void>();
    const silent = storeWith(store, {
      append: async (append) => {
        const appended = await store.append(append);
        if (append.aggregate === 'log') await answers.promise;
        return appended;
      },
      // The follower of this process never reads a commit.
      watch: async function* ({ signal }) {
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      },
    });
    const process = newDecider(silent);
    const stop = new AbortController();
    const following = process.followStore(stop.signal);
    await nextTurn();
    await process.getState('U-1');
    const gap = { epoch: 'e', fromSeq: 1, toSeq: 2 };
    const reporting = process.decide('U-1', 'log', { ...META, commandId: 'report' }, () => [
      { type: 'UnitLogGapDetected', data: gap },
    ]);
    await nextTurn();
    const elsewhere = await newDecider(store).decide('U-1', 'registry', { ...META, commandId: 'x' }, addTag);
    expect((await process.getState('U-1')).log.gaps).toEqual({});
    // Two consumers may note commits in the wrong order.
    process.noteCommit({ unit: 'U-1', aggregate: 'registry', sequence: elsewhere.sequence });
    process.noteCommit({ unit: 'U-1', aggregate: 'log', sequence: elsewhere.sequence - 1 });
    const known = await process.getState('U-1');
    expect(known.log.gaps).toEqual({ e: { fromSeq: 1, toSeq: 2 } });
    expect(tagsOf(known)).toEqual(['t0']);
    answers.resolve();
    await reporting;
    stop.abort();
    await following;
  });

  test('fails with a retryable error after it has lost the race in every attempt', async () => {
    const store = newStore();
    let attempts = 0;
    const contended = storeWith(store, {
      append: async () => {
        attempts += 1;
        throw new ConcurrencyError('always');
      },
    });
    const decision = newDecider(contended).decide('U-1', 'registry', { ...META, commandId: 'x' }, addTag);
    // `rejects` blocks the event loop until the promise settles, which takes long while the sleeps wait for turns of it.
    expect(await decision.catch((error: unknown) => error)).toBeInstanceOf(StoreUnavailableError);
    expect(attempts).toBe(MAX_DECISION_ATTEMPTS);
  });

  test('a decision that throws does not affect the next one on its subject', async () => {
    const store = newStore();
    await register(store);
    const process = newDecider(store);
    const failing = process.decide('U-1', 'registry', { ...META, commandId: 'bad' }, () => {
      throw new RangeError('no');
    });
    const next = process.decide('U-1', 'registry', { ...META, commandId: 'good' }, addTag);
    await expect(failing).rejects.toThrow(RangeError);
    expect(tagsOf((await next).state)).toEqual(['t0']);
  });

  test('refuses a decision on a subject for which too many wait, with a retryable error', async () => {
    const store = newStore();
    await register(store);
    const gate = Promise.withResolvers<void>();
    const slow = storeWith(store, {
      append: async (append) => {
        await gate.promise;
        return store.append(append);
      },
    });
    const process = newDecider(slow);
    const decideNo = (n: number) => process.decide('U-1', 'registry', { ...META, commandId: `${n}` }, () => []);
    const first = process.decide('U-1', 'registry', { ...META, commandId: 'first' }, addTag);
    const others = Array.from({ length: MAX_DECISIONS_PER_SUBJECT - 1 }, (_, n) => decideNo(n));
    const refused = await decideNo(MAX_DECISIONS_PER_SUBJECT).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(StoreUnavailableError);
    gate.resolve();
    expect((await Promise.all([first, ...others])).map(({ appended }) => appended).filter(Boolean)).toEqual([true]);
  });
});

describe('the cache of the unit decider', () => {
  const UNITS = ['U-1', 'U-2', 'U-3'];

  /** Counts the snapshots that a decider loads. It follows the store, without which it caches nothing. */
  async function cachingDecider(maxCachedStateBytes: number) {
    const store = newStore();
    for (const unit of UNITS) await register(store, unit);
    const loads: string[] = [];
    const process = newDecider(store, {
      maxCachedStateBytes,
      loadSnapshot: async (unit) => {
        loads.push(unit);
        return { state: newUnitState(unit), completeTo: 0 };
      },
    });
    const stop = new AbortController();
    const following = process.followStore(stop.signal);
    await nextTurn();
    const end = async () => {
      stop.abort();
      await following;
    };
    return { store, process, loads, end };
  }

  /** Bytes of one registered unit, as the cache estimates them. */
  async function bytesOfOneUnit(): Promise<number> {
    const store = newStore();
    await register(store);
    return new CachedUnit(await newDecider(store).getState('U-1'), 0).bytes;
  }

  test('evicts the least recently used unit when the states have more bytes than the bound, and loads it anew', async () => {
    const { store, process, loads, end } = await cachingDecider(2.5 * (await bytesOfOneUnit()));
    await process.getState('U-1');
    await process.getState('U-2');
    await process.getState('U-1');
    await process.getState('U-3');
    expect(loads).toEqual(['U-1', 'U-2', 'U-3']);
    await process.getState('U-1');
    await process.getState('U-3');
    expect(loads).toEqual(['U-1', 'U-2', 'U-3']);
    await newDecider(store).decide('U-2', 'registry', { ...META, commandId: 'elsewhere' }, addTag);
    expect(tagsOf(await process.getState('U-2'))).toEqual(['t0']);
    expect(loads).toEqual(['U-1', 'U-2', 'U-3', 'U-2']);
    await end();
  });

  test('evicts the least recently used unit when another one grows by its own decisions', async () => {
    const { process, loads, end } = await cachingDecider(3 * (await bytesOfOneUnit()) + 4_000);
    for (const unit of UNITS) await process.getState(unit);
    const grow = (n: number) => process.decide('U-3', 'registry', { ...META, commandId: `grow-${n}` }, addTag);
    for (let n = 0; n < 6; n += 1) await grow(n);
    await process.getState('U-2');
    await process.getState('U-1');
    expect(loads).toEqual(UNITS);
    for (let n = 6; n < 10; n += 1) await grow(n);
    await process.getState('U-1');
    await process.getState('U-3');
    expect(loads).toEqual(UNITS);
    await process.getState('U-2');
    expect(loads).toEqual([...UNITS, 'U-2']);
    await end();
  });
});

describe('a cached unit', () => {
  const updated = (sequence: number, tags: readonly string[]): FoldableCommit => ({
    aggregate: 'registry',
    sequence,
    events: envelop(
      [{ type: 'UnitUpdated', data: { tags: [...tags] } }],
      { unit: 'U-1', time: '2026-07-01T10:00:00.000Z', commandId: `${sequence}`, ...META },
      () => `id-${sequence}`,
    ),
  });

  test('is estimated to grow by each event, and is measured again when the estimate has doubled', async () => {
    const store = newStore();
    await register(store);
    const cached = new CachedUnit(await newDecider(store).getState('U-1'), 1);
    const measured = cached.bytes;
    expect(measured).toBeGreaterThan(2 * 100);
    let peak = 0;
    for (let sequence = 2; sequence < 500; sequence += 1) {
      cached.fold(updated(sequence, ['same']));
      peak = Math.max(peak, cached.bytes);
    }
    expect(peak).toBeGreaterThan(measured + 10_000);
    expect(peak).toBeLessThan(2 * measured + 20_000);
    const large = Array.from({ length: 1_000 }, (_, n) => `tag-${n}`.padEnd(60, '-'));
    for (let sequence = 500; sequence < 540; sequence += 1) cached.fold(updated(sequence, large));
    expect(cached.bytes).toBeGreaterThan(2 * 60_000);
  });
});

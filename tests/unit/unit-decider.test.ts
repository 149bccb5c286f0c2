import { describe, expect, test } from 'bun:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ConcurrencyError, StoreUnavailableError } from '../../platform/event-store/store.ts';
import { MAX_DECISION_ATTEMPTS, MAX_DECISIONS_PER_SUBJECT } from '../../platform/units/unit-decider.ts';
import { addTag, META, newDecider, newStore, register, storeWith, tagsOf } from '../support/decider.ts';
import { eventually } from '../support/eventually.ts';

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

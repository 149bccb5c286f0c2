import { describe, expect, test } from 'bun:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { EventDraft } from '../../domain/events/envelope.ts';
import { newUnitState, type UnitState } from '../../domain/unit/unit.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { ConcurrencyError, type EventStore, StoreUnavailableError } from '../../platform/event-store/store.ts';
import { MAX_DECISION_ATTEMPTS, UnitDecider } from '../../platform/units/unit-decider.ts';
import { eventually } from '../support/eventually.ts';
import { quietLog } from '../support/nats.ts';
import { registration } from '../support/registration.ts';

const META = { actor: 'ops:test', source: '/test' };

function decider(
  store: EventStore,
  loadSnapshot?: (unit: string) => Promise<{ state: UnitState; completeTo: number }>,
) {
  return new UnitDecider({
    store,
    loadSnapshot: loadSnapshot ?? (async (unit) => ({ state: newUnitState(unit), completeTo: 0 })),
    newId: () => crypto.randomUUID(),
    clock: () => Date.parse('2026-07-01T10:00:00Z'),
    random: () => 0.5,
    sleep: async () => {
      await nextTurn();
    },
    log: quietLog,
  });
}

function memory(): MemoryEventStore {
  return new MemoryEventStore(() => 0);
}

/** Each decision raises the number of tags by one: a lost or doubled one shows. */
function addTag(state: UnitState): EventDraft[] {
  return [{ type: 'UnitUpdated', data: { tags: [...tagsOf(state), `t${tagsOf(state).length}`] } }];
}

function tagsOf(state: UnitState): readonly string[] {
  return state.registry.status === 'unregistered' ? [] : state.registry.tags;
}

async function registered(store: EventStore): Promise<void> {
  await decider(store).decide('U-1', 'registry', { ...META, commandId: 'register' }, () => [
    { type: 'UnitRegistered', data: registration('U-1') },
  ]);
}

describe('the unit decider', () => {
  test('loses and doubles nothing when two processes decide on one unit at once', async () => {
    const store = memory();
    await registered(store);
    const processes = [decider(store), decider(store), decider(store)];
    await Promise.all(
      processes.flatMap((process, p) =>
        Array.from({ length: 10 }, (_, n) =>
          process.decide('U-1', 'registry', { ...META, commandId: `${p}-${n}` }, addTag),
        ),
      ),
    );
    const state = await decider(store).getState('U-1');
    expect(tagsOf(state)).toEqual(Array.from({ length: 30 }, (_, n) => `t${n}`));
  });

  test('takes a repeated command once', async () => {
    const store = memory();
    await registered(store);
    const process = decider(store);
    const meta = { ...META, commandId: 'same' };
    const first = await process.decide('U-1', 'registry', meta, addTag);
    const again = await decider(store).decide('U-1', 'registry', meta, addTag);
    expect(again).toMatchObject({ appended: false, sequence: first.sequence });
    expect(tagsOf(again.state)).toEqual(['t0']);
  });

  test('begins at the snapshot and reads only what came after it', async () => {
    const store = memory();
    await registered(store);
    const full = await decider(store).decide('U-1', 'registry', { ...META, commandId: '1' }, addTag);
    await decider(store).decide('U-1', 'registry', { ...META, commandId: '2' }, addTag);
    const reads: number[] = [];
    const watched: EventStore = {
      append: (append) => store.append(append),
      lastSequence: () => store.lastSequence(),
      read: (options) => store.read(options),
      watch: (options) => store.watch(options),
      tail: (unit, after) => {
        reads.push(after);
        return store.tail(unit, after);
      },
    };
    const process = decider(watched, async () => ({ state: full.state, completeTo: full.sequence }));
    expect(tagsOf(await process.getState('U-1'))).toEqual(['t0', 't1']);
    expect(reads).toEqual([full.sequence]);
  });

  test('a warm unit is not read again, except for what others append', async () => {
    const store = memory();
    await registered(store);
    let tails = 0;
    const counted: EventStore = {
      append: (append) => store.append(append),
      lastSequence: () => store.lastSequence(),
      read: (options) => store.read(options),
      watch: (options) => store.watch(options),
      tail: (unit, after) => {
        tails += 1;
        return store.tail(unit, after);
      },
    };
    const process = decider(counted);
    const stop = new AbortController();
    const following = process.followStore(stop.signal);
    await eventually(async () => {
      await process.getState('U-1');
      const before = tails;
      await process.getState('U-1');
      return tails === before;
    });
    const before = tails;
    await decider(store).decide('U-1', 'registry', { ...META, commandId: 'other' }, addTag);
    await eventually(async () => tagsOf(await process.getState('U-1')).length === 1);
    expect(tails).toBe(before + 1);
    await process.decide('U-1', 'registry', { ...META, commandId: 'own' }, addTag);
    await nextTurn();
    expect(tagsOf(await process.getState('U-1'))).toHaveLength(2);
    expect(tails).toBe(before + 1);
    stop.abort();
    await following;
  });

  test('does not miss what is appended while a unit is being loaded', async () => {
    const store = memory();
    await registered(store);
    const gate = Promise.withResolvers<void>();
    const slow: EventStore = {
      append: (append) => store.append(append),
      lastSequence: () => store.lastSequence(),
      read: (options) => store.read(options),
      watch: (options) => store.watch(options),
      tail: async (unit, after) => {
        const tail = await store.tail(unit, after);
        await gate.promise;
        return tail;
      },
    };
    const process = decider(slow);
    const stop = new AbortController();
    const following = process.followStore(stop.signal);
    await nextTurn();
    const loading = process.getState('U-1');
    await nextTurn();
    const late = await decider(store).decide('U-1', 'registry', { ...META, commandId: 'late' }, addTag);
    // Another unit's commit behind it shows that the follower has passed the late one.
    await decider(store).decide('U-2', 'log', { ...META, commandId: 'marker' }, () => [
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

  test('what is decided does not wait for what a unit reports, and neither is forgotten', async () => {
    const store = memory();
    await registered(store);
    const gate = Promise.withResolvers<void>();
    const slow: EventStore = {
      append: async (append) => {
        if (append.aggregate === 'log') await gate.promise;
        return store.append(append);
      },
      lastSequence: () => store.lastSequence(),
      read: (options) => store.read(options),
      watch: (options) => store.watch(options),
      tail: (unit, after) => store.tail(unit, after),
    };
    const process = decider(slow);
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

  test('what somebody was told of is known to the next decision, before the follower and the append’s own answer', async () => {
    const store = memory();
    await registered(store);
    const answers = Promise.withResolvers<void>();
    const silent: EventStore = {
      append: async (append) => {
        const appended = await store.append(append);
        if (append.aggregate === 'log') await answers.promise;
        return appended;
      },
      lastSequence: () => store.lastSequence(),
      read: (options) => store.read(options),
      // It never hears of anything.
      watch: async function* ({ signal }) {
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      },
      tail: (unit, after) => store.tail(unit, after),
    };
    const process = decider(silent);
    const stop = new AbortController();
    const following = process.followStore(stop.signal);
    await nextTurn();
    await process.getState('U-1');
    const gap = { epoch: 'e', fromSeq: 1, toSeq: 2 };
    const reporting = process.decide('U-1', 'log', { ...META, commandId: 'report' }, () => [
      { type: 'UnitLogGapDetected', data: gap },
    ]);
    await nextTurn();
    const elsewhere = await decider(store).decide('U-1', 'registry', { ...META, commandId: 'x' }, addTag);
    expect((await process.getState('U-1')).log.gaps).toEqual({});
    // In the wrong order, as two consumers may bring them.
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

  test('says so when a race is lost too often, and when the store is away', async () => {
    const store = memory();
    let attempts = 0;
    const contended: EventStore = {
      append: async () => {
        attempts += 1;
        throw new ConcurrencyError('always');
      },
      lastSequence: () => store.lastSequence(),
      read: (options) => store.read(options),
      watch: (options) => store.watch(options),
      tail: (unit, after) => store.tail(unit, after),
    };
    const decision = decider(contended).decide('U-1', 'registry', { ...META, commandId: 'x' }, addTag);
    // `rejects` spins the loop until the promise settles; beside an idle connection the turns it waits for come late.
    expect(await decision.catch((error: unknown) => error)).toBeInstanceOf(StoreUnavailableError);
    expect(attempts).toBe(MAX_DECISION_ATTEMPTS);
  });

  test('a decision that fails leaves the next one of the unit in peace', async () => {
    const store = memory();
    await registered(store);
    const process = decider(store);
    const failing = process.decide('U-1', 'registry', { ...META, commandId: 'bad' }, () => {
      throw new RangeError('no');
    });
    const next = process.decide('U-1', 'registry', { ...META, commandId: 'good' }, addTag);
    expect(failing).rejects.toThrow(RangeError);
    expect(tagsOf((await next).state)).toEqual(['t0']);
  });
});

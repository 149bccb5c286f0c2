import { describe, expect, test } from 'bun:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { envelop } from '../../domain/events/drafts.ts';
import { type FoldableCommit, newUnitState } from '../../domain/unit/unit.ts';
import { CachedUnit } from '../../platform/units/cached-unit.ts';
import { addTag, META, newDecider, newStore, register, tagsOf } from '../support/decider.ts';

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

  test('is estimated to grow by what one event has, so that a large one counts before the state is measured again', async () => {
    const store = newStore();
    await register(store);
    const cached = new CachedUnit(await newDecider(store).getState('U-1'), 1);
    const small = cached.bytes;
    const tags = Array.from({ length: 1_000 }, (_, n) => `tag-${n}`.padEnd(12, '-'));
    cached.fold(updated(2, tags));
    expect(cached.bytes).toBeGreaterThan(small + 1.9 * JSON.stringify(tags).length);
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
    const read = new CachedUnit(cached.state, 500, { from: cached.size, bytes: 3 * 512 });
    expect(read.bytes).toBe(cached.bytes + 3 * 512);
    const large = Array.from({ length: 1_000 }, (_, n) => `tag-${n}`.padEnd(60, '-'));
    for (let sequence = 500; sequence < 540; sequence += 1) cached.fold(updated(sequence, large));
    expect(cached.bytes).toBeGreaterThan(2 * 60_000);
  });
});

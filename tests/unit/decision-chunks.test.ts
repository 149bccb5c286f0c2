/** Decisions that are larger than a commit. */

import { describe, expect, test } from 'bun:test';
import type { EventDraft } from '../../domain/events/drafts.ts';
import { newUnitState, type UnitState } from '../../domain/unit/unit.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { type EventStore, MAX_COMMIT_EVENTS, StoreUnavailableError } from '../../platform/event-store/store.ts';
import { DecisionTooLargeError, EndlessDecisionError } from '../../platform/units/decision-errors.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { storeWith } from '../support/decider.ts';
import { quietLog } from '../support/nats.ts';
import { appendRegistration } from '../support/registration.ts';

const UNIT = 'U-1';
const META = { actor: 'ops:test', source: '/test', commandId: 'settle-1' };
const CHUNK_EVENTS = 100;

function newDecider(store: EventStore): UnitDecider {
  return new UnitDecider({
    store,
    loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
    newId: () => crypto.randomUUID(),
    clock: () => Date.parse('2026-07-01T10:00:00Z'),
    random: () => 0.5,
    sleep: async () => undefined,
    log: quietLog,
  });
}

function tagsOf({ registry }: UnitState): readonly string[] {
  return registry.status === 'unregistered' ? [] : registry.tags;
}

/** Returns a decision that adds the tags up to `last` which the unit lacks, at most `limit` of them: one event each. */
function addTags(last: number, limit = CHUNK_EVENTS) {
  return (state: UnitState): EventDraft[] => {
    const count = Math.max(0, Math.min(limit, last - tagsOf(state).length));
    return Array.from({ length: count }, (_, n) => ({
      type: 'UnitUpdated',
      data: { tags: [...tagsOf(state), ...Array.from({ length: n + 1 }, (__, m) => `t${tagsOf(state).length + m}`)] },
    }));
  };
}

async function newStore(): Promise<MemoryEventStore> {
  const store = new MemoryEventStore(() => 0);
  await appendRegistration(newDecider(store), UNIT);
  return store;
}

async function commitSizes(store: EventStore): Promise<number[]> {
  return (await store.tail(UNIT, 1)).map((message) => message.events().length);
}

const allTags = (count: number) => Array.from({ length: count }, (_, n) => `t${n}`);

describe('a decision with more events than a commit holds', () => {
  test('is refused with an error that names the unit, the subject and the events, and changes nothing', async () => {
    const store = await newStore();
    const decision = addTags(MAX_COMMIT_EVENTS + 1, MAX_COMMIT_EVENTS + 1);
    const error = await newDecider(store)
      .decide(UNIT, 'registry', META, decision)
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(DecisionTooLargeError);
    expect(String(error)).toContain('registry subject of unit U-1 has 501 events (UnitUpdated)');
    expect(await commitSizes(store)).toEqual([]);
  });

  test('is appended in chunks that each stand alone, until nothing remains', async () => {
    const store = await newStore();
    const result = await newDecider(store).decideInChunks(UNIT, 'registry', META, addTags(250));
    expect(tagsOf(result.state)).toEqual(allTags(250));
    expect(result.appended).toBe(true);
    expect(await commitSizes(store)).toEqual([100, 100, 50]);
    const ids = (await store.tail(UNIT, 1)).map(({ commandId }) => commandId);
    expect(new Set(ids).size).toBe(3);
  });

  test('that has nothing to do appends nothing', async () => {
    const store = await newStore();
    const result = await newDecider(store).decideInChunks(UNIT, 'registry', META, addTags(0));
    expect(result.appended).toBe(false);
    expect(await commitSizes(store)).toEqual([]);
  });

  test('is completed by a repeat of its command after a failure, without a chunk twice', async () => {
    const store = await newStore();
    let appends = 0;
    const failing = storeWith(store, {
      append: async (append) => {
        appends += 1;
        if (appends === 3) throw new StoreUnavailableError('the store is away');
        const appended = await store.append(append);
        // The second chunk is stored, and the answer is lost.
        if (appends === 2) throw new StoreUnavailableError('no answer');
        return appended;
      },
    });
    for (let attempt = 1; attempt <= 2; attempt += 1) {
      const failed = newDecider(failing).decideInChunks(UNIT, 'registry', META, addTags(250));
      await expect(failed).rejects.toBeInstanceOf(StoreUnavailableError);
    }
    await newDecider(failing).decideInChunks(UNIT, 'registry', META, addTags(250));
    expect(tagsOf(await newDecider(store).getState(UNIT))).toEqual(allTags(250));
    expect(await commitSizes(store)).toEqual([100, 100, 50]);
  });

  test('ends with an error when it does not converge', async () => {
    const store = await newStore();
    const endless = (): EventDraft[] => [{ type: 'UnitUpdated', data: { tags: ['again'] } }];
    const decided = newDecider(store).decideInChunks(UNIT, 'registry', { ...META, maxChunks: 3 }, endless);
    await expect(decided).rejects.toBeInstanceOf(EndlessDecisionError);
    expect(await commitSizes(store)).toEqual([1, 1, 1]);
  });
});

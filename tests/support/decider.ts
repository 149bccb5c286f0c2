/** Deciders on a store in memory, and a decision that shows when one is lost or repeated. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { EventDraft } from '../../domain/events/drafts.ts';
import { newUnitState, type UnitState } from '../../domain/unit/unit.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { EventStore } from '../../platform/event-store/store.ts';
import { UnitDecider, type UnitDeciderOptions } from '../../platform/units/unit-decider.ts';
import { quietLog } from './nats.ts';
import { appendRegistration } from './registration.ts';

export const META = { actor: 'ops:test', source: '/test' };

export function newDecider(store: EventStore, options: Partial<UnitDeciderOptions> = {}): UnitDecider {
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

export function newStore(): MemoryEventStore {
  return new MemoryEventStore(() => 0);
}

/** The given store, with some of its methods replaced. */
export function storeWith(store: EventStore, replaced: Partial<EventStore>): EventStore {
  return {
    append: (append) => store.append(append),
    lastSequence: () => store.lastSequence(),
    read: (options) => store.read(options),
    watch: (options) => store.watch(options),
    tail: (unit, after) => store.tail(unit, after),
    tailPage: (unit, after, bounds) => store.tailPage(unit, after, bounds),
    tailFromLeader: (unit, after, limit) => store.tailFromLeader(unit, after, limit),
    lastSequenceOf: (unit) => store.lastSequenceOf(unit),
    ...replaced,
  };
}

/** Each decision adds one numbered tag, so that a lost or repeated decision shows. */
export function addTag(state: UnitState): EventDraft[] {
  return [{ type: 'UnitUpdated', data: { tags: [...tagsOf(state), `t${tagsOf(state).length}`] } }];
}

export function tagsOf(state: UnitState): readonly string[] {
  return state.registry.status === 'unregistered' ? [] : state.registry.tags;
}

export async function register(store: EventStore, unit = 'U-1'): Promise<void> {
  await appendRegistration(newDecider(store), unit);
}

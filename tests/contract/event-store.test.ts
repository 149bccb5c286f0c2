/** What every event store promises, asked of each of them. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import { laneOf } from '../../domain/shard.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import {
  type Append,
  ConcurrencyError,
  type EventStore,
  MAX_COMMIT_BYTES,
  MAX_COMMIT_EVENTS,
  MalformedCommitError,
  type StoredMessage,
  StoreUnavailableError,
} from '../../platform/event-store/store.ts';
import type { Nats } from '../../platform/nats/connection.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { publishStored } from '../../platform/nats/jetstream.ts';
import { eventSubject } from '../../platform/nats/subjects.ts';
import { connectPlatform, testPlatform } from '../support/nats.ts';

/** The time-outs of an append and of the look for it afterwards, and a busy machine. */
const STANDSTILL_BOUND_MS = 12_000;

let units = 0;
let commands = 0;

/** Tests share a store: each takes units of its own. */
function newUnit(): string {
  units += 1;
  return `T-${units}`;
}

function event(unit: string, data: Record<string, unknown> = {}): CloudEvent {
  const id = crypto.randomUUID();
  const type = 'UnitUpdated';
  const time = '2026-07-01T10:00:00.000Z';
  return { specversion: '1.0', id, source: '/test', type, subject: unit, time, dataschema: `${type}/1`, data };
}

function commit(unit: string, expectedSequence: number, more: Partial<Append> = {}): Append {
  commands += 1;
  const commandId = `command-${commands}-${crypto.randomUUID()}`;
  return { unit, aggregate: 'registry', expectedSequence, commandId, events: [event(unit)], ...more };
}

async function readUntil(store: EventStore, after: number, last: number): Promise<StoredMessage[]> {
  const messages: StoredMessage[] = [];
  const stop = new AbortController();
  const onAlarm = ({ reason }: { reason: string }) => {
    throw new Error(reason);
  };
  for await (const message of store.read({ after, signal: stop.signal, onAlarm })) {
    messages.push(message);
    if (message.sequence >= last) break;
  }
  stop.abort();
  return messages;
}

interface Subject {
  readonly store: EventStore;
  close(): Promise<void>;
}

const STORES: Readonly<Record<string, () => Promise<Subject>>> = {
  memory: async () => ({ store: new MemoryEventStore(() => 1_000), close: async () => undefined }),
  nats: async () => {
    const nats = await connectPlatform();
    return {
      store: new NatsEventStore(
        nats,
        () => crypto.randomUUID(),
        () => performance.now(),
      ),
      close: () => nats.close(),
    };
  },
};

describe.each(Object.keys(STORES))('the %s event store', (name) => {
  let subject: Subject;
  let store: EventStore;

  beforeAll(async () => {
    subject = await (STORES[name] ?? STORES.memory ?? (() => Promise.reject(new Error('no store'))))();
    store = subject.store;
  });
  afterAll(() => subject.close());

  test('stores a commit unchanged, and reads it as the tail of its unit', async () => {
    const unit = newUnit();
    const events = [event(unit, { a: 1, text: 'Gdańsk ✓' }), event(unit, { b: [true, null] })];
    const append = commit(unit, 0, { events });
    const { sequence, duplicate } = await store.append(append);
    expect(duplicate).toBe(false);

    const [stored, ...others] = await store.tail(unit, 0);
    expect(others).toEqual([]);
    expect(stored).toMatchObject({ sequence, unit, aggregate: 'registry', commandId: append.commandId });
    expect(stored?.lane).toBe(laneOf(unit));
    expect(stored?.events()).toEqual(events);
    expect(await store.lastSequence()).toBe(sequence);
  });

  test('reads the commits of all subjects of a unit in order, and only those after a sequence', async () => {
    const unit = newUnit();
    const aggregates: Aggregate[] = ['registry', 'booking', 'device', 'booking', 'log'];
    const sequences = new Map<Aggregate, number>();
    const positions: number[] = [];
    for (const aggregate of aggregates) {
      const { sequence } = await store.append(commit(unit, sequences.get(aggregate) ?? 0, { aggregate }));
      sequences.set(aggregate, sequence);
      positions.push(sequence);
      await store.append(commit(newUnit(), 0));
    }
    const tail = await store.tail(unit, 0);
    expect(tail.map((message) => [message.sequence, message.aggregate])).toEqual(
      aggregates.map((aggregate, index) => [positions[index] ?? 0, aggregate]),
    );
    const later = await store.tail(unit, positions[2] ?? 0);
    expect(later.map((message) => message.sequence)).toEqual(positions.slice(3));
    expect(await store.tail(unit, positions.at(-1) ?? 0)).toEqual([]);
  });

  test('reads the same commits from the leader, and knows the last one of a unit', async () => {
    const unit = newUnit();
    expect(await store.lastSequenceOf(unit)).toBe(0);
    expect(await store.tailFromLeader(unit, 0)).toEqual([]);
    await store.append(commit(unit, 0, { aggregate: 'registry' }));
    const second = await store.append(commit(unit, 0, { aggregate: 'booking' }));
    await store.append(commit(newUnit(), 0));
    const third = await store.append(commit(unit, second.sequence, { aggregate: 'booking' }));
    expect(await store.lastSequenceOf(unit)).toBe(third.sequence);
    const shown = (messages: readonly StoredMessage[]) =>
      messages.map(({ sequence, aggregate, commandId, events }) => [sequence, aggregate, commandId, events()]);
    for (const after of [0, second.sequence - 1, third.sequence]) {
      expect(shown(await store.tailFromLeader(unit, after))).toEqual(shown(await store.tail(unit, after)));
    }
  });

  test('reads the oldest commits of a tail within bounds of messages and bytes, at least one', async () => {
    const unit = newUnit();
    const positions: number[] = [];
    for (let index = 0; index < 6; index += 1)
      positions.push((await store.append(commit(unit, positions.at(-1) ?? 0))).sequence);
    const page = async (after: number, messages: number, bytes: number) =>
      (await store.tailPage(unit, after, { messages, bytes, timeoutMs: 10_000 })).map(({ sequence }) => sequence);
    expect(await page(0, 4, 1_000_000)).toEqual(positions.slice(0, 4));
    expect(await page(positions[3] ?? 0, 4, 1_000_000)).toEqual(positions.slice(4));
    expect(await page(positions[5] ?? 0, 4, 1_000_000)).toEqual([]);
    expect(await page(positions[0] ?? 0, 4, 1)).toEqual(positions.slice(1, 2));
    const read = await store.tailFromLeader(unit, positions[1] ?? 0, 3);
    expect(read.map(({ sequence }) => sequence)).toEqual(positions.slice(2, 5));
  });

  test('reads a tail that is longer than one page', async () => {
    const unit = newUnit();
    let last = 0;
    for (let index = 0; index < 600; index += 1) last = (await store.append(commit(unit, last))).sequence;
    const tail = await store.tail(unit, 0);
    expect(tail).toHaveLength(600);
    expect(tail.every((message, index) => index === 0 || message.sequence > (tail[index - 1]?.sequence ?? 0))).toBe(
      true,
    );
  });

  test('refuses an append whose expected sequence is not that of the last commit of its subject', async () => {
    const unit = newUnit();
    const { sequence } = await store.append(commit(unit, 0));
    await expect(store.append(commit(unit, 0))).rejects.toThrow(ConcurrencyError);
    await expect(store.append(commit(unit, sequence + 1_000))).rejects.toThrow(ConcurrencyError);
    expect((await store.tail(unit, 0)).map((message) => message.sequence)).toEqual([sequence]);
    await store.append(commit(unit, sequence));
  });

  test('checks the expected sequence of each subject separately', async () => {
    const unit = newUnit();
    await store.append(commit(unit, 0, { aggregate: 'device' }));
    await store.append(commit(unit, 0, { aggregate: 'booking' }));
    expect(await store.tail(unit, 0)).toHaveLength(2);
  });

  test('appends a repeated command once', async () => {
    const unit = newUnit();
    const append = commit(unit, 0);
    const first = await store.append(append);
    const again = await store.append(append);
    expect(again).toEqual({ sequence: first.sequence, duplicate: true });
    await store.append(commit(unit, first.sequence));
    expect(await store.append(append)).toEqual({ sequence: first.sequence, duplicate: true });
    expect(await store.tail(unit, 0)).toHaveLength(2);
  });

  test('accepts one of many concurrent appends to a subject', async () => {
    const unit = newUnit();
    const results = await Promise.allSettled(Array.from({ length: 50 }, () => store.append(commit(unit, 0))));
    const won = results.filter(({ status }) => status === 'fulfilled');
    const lost = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    expect(won).toHaveLength(1);
    expect(lost.every((reason) => reason instanceof ConcurrencyError)).toBe(true);
    expect(await store.tail(unit, 0)).toHaveLength(1);
  });

  test('answers concurrent appends separately: accepted, refused and repeated ones', async () => {
    const taken = newUnit();
    const done = commit(newUnit(), 0);
    await store.append(commit(taken, 0));
    const { sequence } = await store.append(done);
    const fresh = Array.from({ length: 40 }, () => commit(newUnit(), 0));
    const appends = [...fresh.slice(0, 20), commit(taken, 0), done, ...fresh.slice(20)];
    const results = await Promise.allSettled(appends.map((append) => store.append(append)));
    for (const [index, result] of results.entries()) {
      if (index === 20) expect(result.status === 'rejected' && result.reason).toBeInstanceOf(ConcurrencyError);
      else if (index === 21) expect(result).toMatchObject({ value: { sequence, duplicate: true } });
      else expect(result).toMatchObject({ status: 'fulfilled', value: { duplicate: false } });
    }
    for (const { unit } of fresh) expect(await store.tail(unit, 0)).toHaveLength(1);
  });

  test('reads all commits after a position in order, without gaps, and then new ones', async () => {
    const start = await store.lastSequence();
    const appended = await Promise.all(Array.from({ length: 30 }, () => store.append(commit(newUnit(), 0))));
    const reading = readUntil(store, start, start + 31);
    const late = await store.append(commit(newUnit(), 0));
    const messages = await reading;
    expect(messages.map((message) => message.sequence)).toEqual(
      Array.from({ length: messages.length }, (_, index) => start + 1 + index),
    );
    expect(appended.every(({ sequence }) => messages.some((message) => message.sequence === sequence))).toBe(true);
    expect(messages.at(-1)?.sequence).toBe(late.sequence);
  });

  test('ends a reader whose signal is aborted while it waits', async () => {
    const stop = new AbortController();
    const after = await store.lastSequence();
    const messages: StoredMessage[] = [];
    const reading = (async () => {
      for await (const message of store.read({ after, signal: stop.signal, onAlarm: () => undefined })) {
        messages.push(message);
        stop.abort();
      }
    })();
    await store.append(commit(newUnit(), 0));
    await reading;
    expect(messages).toHaveLength(1);
  });

  test('refuses a commit beyond its bounds, and stores no part of it', async () => {
    const unit = newUnit();
    const tooMany = Array.from({ length: MAX_COMMIT_EVENTS + 1 }, () => event(unit));
    const tooLarge = [event(unit, { text: 'x'.repeat(MAX_COMMIT_BYTES) })];
    for (const events of [[], tooMany, tooLarge]) {
      await expect(store.append(commit(unit, 0, { events }))).rejects.toThrow(RangeError);
    }
    expect(await store.tail(unit, 0)).toEqual([]);
    await store.append(commit(unit, 0, { events: tooMany.slice(1) }));
  });
});

describe('beyond the contract, the NATS event store', () => {
  let nats: Nats;
  let store: NatsEventStore;

  beforeAll(async () => {
    nats = await connectPlatform();
    store = new NatsEventStore(
      nats,
      () => crypto.randomUUID(),
      () => performance.now(),
    );
  });
  afterAll(() => nats.close());

  test('raises an alarm for a message on an unknown subject, and continues', async () => {
    const after = await store.lastSequence();
    const stray = await publishStored(nats, { subject: 'evt.stray', payload: '[]', headers: {} }, 5_000);
    const { sequence } = await store.append(commit(newUnit(), 0));
    const alarms: number[] = [];
    const stop = new AbortController();
    const onAlarm = (alarm: { sequence: number }) => alarms.push(alarm.sequence);
    for await (const message of store.read({ after, signal: stop.signal, onAlarm })) {
      expect(message.sequence).toBe(sequence);
      break;
    }
    expect(alarms).toEqual([stray.seq]);
  });

  test('fails to read the events of a message on a unit’s subject that is not a commit', async () => {
    const unit = newUnit();
    await publishStored(nats, { subject: eventSubject(unit, 'log'), payload: '{"not":"a batch"}', headers: {} }, 5_000);
    const [message] = await store.tail(unit, 0);
    expect(() => message?.events()).toThrow(MalformedCommitError);
  });

  test('fails as unavailable when the connection is closed', async () => {
    const closed = await connectPlatform();
    const unreachable = new NatsEventStore(
      closed,
      () => crypto.randomUUID(),
      () => performance.now(),
    );
    await closed.close();
    await expect(unreachable.append(commit(newUnit(), 0))).rejects.toThrow(StoreUnavailableError);
    await expect(unreachable.tail(newUnit(), 0)).rejects.toThrow(StoreUnavailableError);
    await expect(unreachable.lastSequence()).rejects.toThrow(StoreUnavailableError);
  });

  test('fails as unavailable in time while the server is stopped, and works again afterwards', async () => {
    const { natsPid = 0 } = await testPlatform();
    const unit = newUnit();
    const append = commit(unit, 0);
    const overdue = Promise.withResolvers<never>();
    const deadline = setTimeout(() => overdue.reject(new Error('it still waits')), STANDSTILL_BOUND_MS);
    process.kill(natsPid, 'SIGSTOP');
    try {
      const asked = [store.append(append), store.tail(unit, 0), store.lastSequence()];
      const results = await Promise.race([Promise.allSettled(asked), overdue.promise]);
      for (const result of results) {
        expect(result.status === 'rejected' && result.reason).toBeInstanceOf(StoreUnavailableError);
      }
    } finally {
      clearTimeout(deadline);
      process.kill(natsPid, 'SIGCONT');
    }
    // What the server had received meanwhile may be stored now; the same command again is the same commit.
    const { sequence } = await store.append(append);
    expect((await store.tail(unit, 0)).map((message) => message.sequence)).toEqual([sequence]);
  });
});

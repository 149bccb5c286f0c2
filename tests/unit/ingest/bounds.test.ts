/** What ingest does with a unit whose log is beyond the bounds: it rejects, records the rejection, and folds nothing. */

import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { recordReportedHash } from '../../../domain/configuration/delivery.ts';
import { MAX_EPOCHS_PER_UNIT, recordedSeq } from '../../../domain/device/epochs.ts';
import { MAX_OPEN_GAPS_PER_UNIT } from '../../../domain/device/unit-log.ts';
import type { CloudEvent } from '../../../domain/events/cloud-event.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { deviceEventId } from '../../../domain/unit-protocol/batch.ts';
import type { MemoryEventStore } from '../../../platform/event-store/memory.ts';
import { unitPushSubject } from '../../../platform/nats/subjects.ts';
import { untilAborted } from '../../../platform/process/until-aborted.ts';
import {
  DeadLetterLimitError,
  type RejectedEvents,
  type UnreadableBatch,
} from '../../../platform/unit-log/dead-letter-store.ts';
import { MAX_UNREGISTERED_LOCKERS } from '../../../platform/unit-log/locker-bound.ts';
import { UnitBudgets } from '../../../platform/unit-log/unit-budgets.ts';
import { type LogPosition, toFetchedPage } from '../../../platform/unit-log/unit-log-client.ts';
import { NEW_EPOCHS_BUDGET, UnitLogRecorder } from '../../../platform/unit-log/unit-log-recorder.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';
import { fetchUnitLog } from '../../../server/workers/fetch/fetch-unit-log.ts';
import { EVENT_BURST, IngestAdmission } from '../../../server/workers/ingest/ingest-admission.ts';
import { GAP_GRACE_MS, ingestMessage } from '../../../server/workers/ingest/ingest-worker.ts';
import { unlimitedAdmission, unlimitedBudgets } from '../../support/budgets.ts';
import { newDecider, newStore, storeWith } from '../../support/decider.ts';
import { UNIT } from '../../support/given.ts';
import { appendRegistration } from '../../support/registration.ts';
import { silentLog } from '../../support/silent-log.ts';

const NOW_MS = Date.parse('2026-07-01T12:00:00.000Z');
const TIME = '2026-07-01T11:59:00.000Z';

interface Letters {
  readonly events: string[];
  readonly batches: string[];
}

interface Event {
  readonly seq: number;
  readonly locker?: string;
  readonly type?: string;
  readonly time?: string;
  readonly data?: object;
}

let store: MemoryEventStore;
let decider: UnitDecider;
let recorder: UnitLogRecorder;
let letters: Letters;
/** Whether the dead letters of the unit are full, and how often letters were to be stored. */
let isFull: boolean;
let attempts: number;
let stop: AbortController;
let following: Promise<void>;
let monotonicMs: number;
let pushed: number;

beforeEach(async () => {
  store = newStore();
  stop = new AbortController();
  decider = newDecider(storeWith(store, { watch: ({ signal }) => silenceUntil(signal) }), { clock: () => NOW_MS });
  following = decider.followStore(stop.signal);
  await appendRegistration(decider, UNIT, { lockers: [{ id: 'A', size: 'S' }] });
  letters = { events: [], batches: [] };
  isFull = false;
  attempts = 0;
  monotonicMs = 0;
  pushed = 0;
  recorder = newRecorder(decider);
});

afterEach(async () => {
  stop.abort();
  await following;
});

/** The decider caches what it reads and writes, and does not hear of what other processes write. */
function silenceUntil(signal: AbortSignal): AsyncIterable<never> {
  const next = () => untilAborted(signal).then(() => ({ done: true, value: undefined }) as const);
  return { [Symbol.asyncIterator]: () => ({ next }) };
}

function newRecorder(of: UnitDecider): UnitLogRecorder {
  return new UnitLogRecorder({
    decider: of,
    deadLetters: {
      insertRejectedEvents: async ({ rejections }: RejectedEvents) => {
        attempts += 1;
        if (isFull) throw new DeadLetterLimitError('The dead letters are full.');
        letters.events.push(...rejections.map(({ reason }) => reason));
      },
      insertUnreadableBatch: async ({ reason }: UnreadableBatch) => {
        letters.batches.push(reason);
        return true;
      },
    },
    clockOffsets: { get: () => undefined },
    newEpochs: new UnitBudgets({ ...NEW_EPOCHS_BUDGET, monotonic: () => monotonicMs }),
    newId: () => crypto.randomUUID(),
    log: silentLog,
  });
}

const epochOf = (n: number) => `018f0000-0000-7000-8000-${String(n).padStart(12, '0')}`;
const batchOf = (epoch: string, events: readonly Event[]) => ({
  unit: UNIT,
  epoch,
  events: events.map((event) => ({ v: 1, type: 'LockerClosed', time: TIME, locker: 'A', data: {}, ...event })),
});
const encode = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** Ingests a pushed batch that has been in the inbox for some time. */
function push(epoch: string, events: readonly Event[], ageMs = 0, admission = unlimitedAdmission()) {
  pushed += 1;
  const message = { subject: unitPushSubject(UNIT), sequence: pushed, deliveries: 1, storedAtMs: NOW_MS - ageMs };
  return ingestMessage(
    { ...message, data: encode(batchOf(epoch, events)) },
    {
      recorder,
      unitInbox: { listPendingBatches: async () => [] },
      admission,
      clock: () => NOW_MS,
    },
  );
}

/** The first event of an epoch, as it is recorded. */
function firstEventOf(epoch: string): CloudEvent {
  return {
    specversion: '1.0',
    id: deviceEventId(UNIT, epoch, 1),
    source: `/lockfleet/units/${UNIT}`,
    type: 'LockerClosed',
    subject: `${UNIT}/A`,
    time: TIME,
    dataschema: 'LockerClosed/1',
    data: {},
    unitepoch: epoch,
    unitseq: 1,
  };
}

/** The state as a process without caches reads it. */
const state = (): Promise<UnitState> => newDecider(store).getState(UNIT);

async function recordedTypes(): Promise<string[]> {
  const commits = await store.tail(UNIT, 0);
  return commits.flatMap((commit) => commit.events().map(({ type }) => type));
}

describe('epochs', () => {
  test('beyond the bound: a replay of one that is no longer kept is rejected, and nothing is recorded twice', async () => {
    const epochs = Array.from({ length: MAX_EPOCHS_PER_UNIT + 1 }, (_, n) => epochOf(n));
    await decider.appendReported(UNIT, 'device', () => epochs.map(firstEventOf));
    const before = (await state()).device;
    expect(await push(epochOf(0), [{ seq: 1 }, { seq: 2 }])).toBe('done');
    expect((await state()).device).toEqual(before);
    expect(letters.batches).toEqual([`its epoch is older than the ${MAX_EPOCHS_PER_UNIT} newest epochs of the unit`]);
    expect((await recordedTypes()).filter((type) => type === 'UnitBatchRejected')).toHaveLength(1);
    expect(await push(epochOf(1), [{ seq: 1 }])).toBe('done');
    expect(letters.batches).toHaveLength(1);
  });

  test('in a flood are rejected and recorded, and the present one goes on', async () => {
    const { burst } = NEW_EPOCHS_BUDGET;
    for (let n = 0; n < burst + 5; n += 1) expect(await push(epochOf(n), [{ seq: 1 }])).toBe('done');
    const { device } = await state();
    // The first epoch of a unit needs no budget.
    expect(Object.keys(device.epochs)).toHaveLength(burst + 1);
    expect(letters.batches).toHaveLength(4);
    expect(letters.batches[0]).toMatch(/too many epochs/);
    expect((await recordedTypes()).filter((type) => type === 'UnitBatchRejected')).toHaveLength(4);
    await push(epochOf(burst), [{ seq: 2 }]);
    expect(recordedSeq((await state()).device, epochOf(burst))).toBe(2);
  });

  test('that were rejected in a flood are fetched when the unit may begin one again, so nothing is lost', async () => {
    const { burst } = NEW_EPOCHS_BUDGET;
    for (let n = 0; n <= burst; n += 1) await push(epochOf(n), [{ seq: 1 }]);
    const present = epochOf(burst + 1);
    const page = { ...batchOf(present, [{ seq: 1 }, { seq: 2 }]), firstAvailableSeq: 1, lastSeq: 2, more: false };
    const fetch = () =>
      fetchUnitLog(UNIT, {
        decider,
        recorder,
        unitLogClient: {
          fetchPage: async (_, after: LogPosition | undefined) => toFetchedPage(UNIT, encode(page), after),
        },
        unitInbox: { listPendingBatches: async () => [] },
        events: unlimitedBudgets(),
        clock: () => NOW_MS,
      });
    expect(await fetch()).toBe(0);
    expect(letters.batches).toHaveLength(1);
    monotonicMs += 3_600_001;
    expect(await fetch()).toBe(2);
    expect(recordedSeq((await state()).device, present)).toBe(2);
  });
});

test('a batch behind a gap is rejected and recorded when the unit has too many gaps', async () => {
  for (let n = 0; n < MAX_OPEN_GAPS_PER_UNIT; n += 1) {
    expect(await push(epochOf(n), [{ seq: 3 }], GAP_GRACE_MS)).toMatchObject({ retryInMs: expect.any(Number) });
  }
  expect(await push(epochOf(99), [{ seq: 3 }], GAP_GRACE_MS)).toBe('done');
  expect(letters.batches).toEqual([`it waits for a gap, and the unit has ${MAX_OPEN_GAPS_PER_UNIT} others`]);
  expect(Object.keys((await state()).log.gaps)).toHaveLength(MAX_OPEN_GAPS_PER_UNIT);
});

describe('lockers that are not registered', () => {
  const closings = (from: number, count: number): Event[] =>
    Array.from({ length: count }, (_, n) => ({ seq: from + n, locker: `X${from + n}` }));

  test('count up to a bound; events of further ones are rejected in their place, and nothing of them is folded', async () => {
    const extra = 5;
    await push(epochOf(1), [{ seq: 1 }, ...closings(2, MAX_UNREGISTERED_LOCKERS + extra)]);
    const { device } = await state();
    expect(Object.keys(device.lockers)).toHaveLength(1 + MAX_UNREGISTERED_LOCKERS);
    expect(recordedSeq(device, epochOf(1))).toBe(1 + MAX_UNREGISTERED_LOCKERS + extra);
    expect((await recordedTypes()).filter((type) => type === 'UnitEventRejected')).toHaveLength(extra);
    expect(letters.events).toHaveLength(extra);
    expect(letters.events[0]).toBe(
      `locker X${MAX_UNREGISTERED_LOCKERS + 2} is not registered, like ${MAX_UNREGISTERED_LOCKERS} others that the unit has reported`,
    );
    // Lockers that the state has, and lockers that are registered, are not affected.
    await push(epochOf(1), [
      { seq: MAX_UNREGISTERED_LOCKERS + extra + 2, locker: 'X2' },
      { seq: MAX_UNREGISTERED_LOCKERS + extra + 3, locker: 'A' },
    ]);
    expect(letters.events).toHaveLength(extra);
  });

  test('are rejected with a state report that names too many of them, which replaces none', async () => {
    await push(epochOf(1), [{ seq: 1 }]);
    const lockers = Array.from({ length: MAX_UNREGISTERED_LOCKERS + 1 }, (_, n) => ({ id: `X${n}`, door: 'closed' }));
    const data = { reason: 'gap', configurationHash: 'c', lockers };
    await push(epochOf(1), [{ seq: 2, type: 'UnitStateReported', data }]);
    expect(letters.events).toEqual([
      `${MAX_UNREGISTERED_LOCKERS + 1} of its lockers are not registered, more than ${MAX_UNREGISTERED_LOCKERS}`,
    ]);
    expect(Object.keys((await state()).device.lockers)).toEqual(['A']);
  });

  test('are not those that another process registered meanwhile', async () => {
    await push(epochOf(1), closings(1, MAX_UNREGISTERED_LOCKERS));
    const added = { type: 'LockerAdded' as const, locker: 'NEW', data: { id: 'NEW', size: 'S' as const } };
    const meta = { commandId: 'add', actor: 'ops:test', source: '/test' };
    await newDecider(store).decide(UNIT, 'registry', meta, () => [added]);
    expect((await decider.getState(UNIT)).registry).toMatchObject({ lockers: [{ id: 'A' }] });
    await push(epochOf(1), [{ seq: MAX_UNREGISTERED_LOCKERS + 1, locker: 'NEW' }]);
    expect(letters.events).toEqual([]);
    expect((await state()).device.lockers).toHaveProperty('NEW');
  });
});

test('an event that is dated after its arrival is recorded as of its arrival, with the proven clock offset', async () => {
  const ahead = '2026-07-02T12:00:00.000Z';
  const lockers = [{ id: 'A', door: 'closed' }];
  const data = { reason: 'new-epoch', configurationHash: 'other', lockers };
  await push(epochOf(1), [
    { seq: 1, type: 'UnitStateReported', time: ahead, data },
    { seq: 2, time: TIME },
  ]);
  const { device } = await state();
  expect(device.reportedConfiguration).toEqual({ hash: 'other', at: '2026-07-01T12:00:00.000Z' });
  const [commit] = (await store.tail(UNIT, 0)).filter(({ aggregate }) => aggregate === 'device');
  expect(commit?.events().map(({ time, clockoffsetms }) => ({ time, clockoffsetms }))).toEqual([
    { time: ahead, clockoffsetms: 86_400_000 },
    { time: TIME, clockoffsetms: undefined },
  ]);
});

test('a unit whose clock is ahead is found to drift once, and not again after each of its facts', async () => {
  const data = { reason: 'new-epoch', configurationHash: 'other', lockers: [{ id: 'A', door: 'closed' }] };
  await push(epochOf(1), [{ seq: 1, type: 'UnitStateReported', time: '2026-07-02T12:00:00.000Z', data }]);
  const meta = { actor: 'platform:test', source: '/test' };
  const note = async (commandId: string) => {
    const { reportedConfiguration = { hash: '', at: '' } } = (await decider.getState(UNIT)).device;
    const report = { hash: reportedConfiguration.hash, atMs: Date.parse(reportedConfiguration.at) };
    const noted = await decider.decide(UNIT, 'config', { ...meta, commandId }, (now) =>
      recordReportedHash(now, report),
    );
    return noted.appended;
  };
  expect(await note('first')).toBe(true);
  await decider.decide(UNIT, 'config', { ...meta, commandId: 'pushed' }, ({ configuration }) => {
    if (configuration.status === 'unconfigured') throw new Error('the unit is registered');
    const { version, hash } = configuration.desired;
    return [{ type: 'ConfigurationApplied', data: { version, hash, evidence: 'answer' } }];
  });
  expect(await note('second')).toBe(false);
});

describe('a unit that must wait', () => {
  const RATE = 200;
  const monotonic = () => monotonicMs;
  const admit = () =>
    new IngestAdmission({ events: new UnitBudgets({ burst: EVENT_BURST, perS: RATE, monotonic }), monotonic });

  test('after too many events a second keeps its batches in the inbox, and loses none', async () => {
    const admission = admit();
    admission.chargeEvents(UNIT, EVENT_BURST);
    expect(await push(epochOf(1), [{ seq: 1 }], 0, admission)).toEqual({ retryInMs: 1 });
    expect((await state()).device.epochs).toEqual({});
    monotonicMs += 10;
    expect(await push(epochOf(1), [{ seq: 1 }, { seq: 2 }, { seq: 3 }], 0, admission)).toBe('done');
    // Three events are charged, of which two were in the balance.
    expect(await push(epochOf(1), [{ seq: 4 }], 0, admission)).toEqual({ retryInMs: 6 });
    monotonicMs += 6;
    expect(await push(epochOf(1), [{ seq: 4 }], 0, admission)).toBe('done');
    expect((await state()).device.epochs).toEqual({ [epochOf(1)]: 4 });
  });

  test('is charged a whole batch for one that cannot be read', async () => {
    const admission = admit();
    admission.chargeEvents(UNIT, EVENT_BURST - 1);
    expect(await push('no epoch', [], 0, admission)).toBe('done');
    expect(await push(epochOf(1), [{ seq: 1 }], 0, admission)).toEqual({ retryInMs: expect.any(Number) });
    expect(letters.batches).toHaveLength(1);
  });

  test('for an operator costs no work meanwhile, and goes on once there is room for its dead letters', async () => {
    const admission = admit();
    isFull = true;
    const poisoned = () => push(epochOf(1), [{ seq: 1, locker: '?' }], 0, admission);
    expect(await poisoned()).toEqual({ park: 'The dead letters are full.' });
    for (let n = 0; n < 64; n += 1) expect(await poisoned()).toEqual({ retryInMs: 60_000 });
    expect(attempts).toBe(1);
    monotonicMs += 60_000;
    isFull = false;
    expect(await poisoned()).toBe('done');
    expect(await push(epochOf(1), [{ seq: 2 }], 0, admission)).toBe('done');
    expect(recordedSeq((await state()).device, epochOf(1))).toBe(2);
  });
});

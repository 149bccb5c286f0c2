/** What becomes of a unit's batch: what is recorded, what is rejected in its place, what waits, what cannot be read. */

import { describe, expect, test } from 'bun:test';
import { type DeviceState, UNREPORTED_DEVICE } from '../../../domain/device/device.ts';
import { EMPTY_UNIT_LOG } from '../../../domain/device/unit-log.ts';
import type { CloudEvent } from '../../../domain/events/cloud-event.ts';
import { NOT_REGISTERED } from '../../../domain/registry/registry.ts';
import { MAX_BATCH_EVENTS, MAX_EVENT_BYTES, MAX_EVENT_DEPTH } from '../../../domain/unit-protocol/batch.ts';
import { encodeCommit, MAX_COMMIT_BYTES } from '../../../platform/event-store/store.ts';
import {
  type AppendPlanOptions,
  parseBatch,
  planAppend,
  UnreadableBatchError,
} from '../../../platform/unit-log/batch.ts';
import { EPOCH, UNIT } from '../../support/given.ts';

const RECEIVED_AT_MS = Date.parse('2026-07-01T12:00:00.000Z');
const TIME = '2026-07-01T11:59:00.000Z';

function event(seq: unknown, changes: object = {}): object {
  return { seq, v: 1, type: 'LockerClosed', time: TIME, locker: 'A', data: {}, ...changes };
}

/** The JSON of a batch whose events are objects, or texts that are JSON already. */
function batchText(events: readonly (object | string)[], head: object = {}): string {
  const list = events.map((one) => (typeof one === 'string' ? one : JSON.stringify(one))).join(',');
  return `${JSON.stringify({ unit: UNIT, epoch: EPOCH, ...head }).slice(0, -1)},"events":[${list}]}`;
}

const bytesOf = (text: string) => new TextEncoder().encode(text);
const read = (events: readonly (object | string)[], head?: object) =>
  parseBatch(UNIT, bytesOf(batchText(events, head)));

const recordedTo = (seq: number): DeviceState => ({ ...UNREPORTED_DEVICE, epoch: EPOCH, epochs: { [EPOCH]: seq } });

function accept(
  events: readonly (object | string)[],
  options: Partial<AppendPlanOptions> & { recorded?: number } = {},
) {
  const { recorded = 0, ...acceptance } = options;
  const state = { registry: NOT_REGISTERED, device: recordedTo(recorded), log: EMPTY_UNIT_LOG };
  return planAppend(read(events), state, { receivedAtMs: RECEIVED_AT_MS, storedRejections: new Set(), ...acceptance });
}

const seqs = (events: readonly CloudEvent[]) => events.map(({ unitseq }) => unitseq);

/** A list in a list, so many deep, written by hand: who nests it must not rely on writing it. */
const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);

/** Numbers can come in a fifth of the bytes that they take when they are written again. */
function growing(seq: number, numbers: number): string {
  const list = Array(numbers).fill('1e20').join(',');
  return `{"seq":${seq},"v":1,"type":"LockerClosed","time":"${TIME}","locker":"A","data":{"n":[${list}]}}`;
}

describe('a readable batch', () => {
  test('is recorded in the order of seq, without events that are already recorded', () => {
    const { events, waitingFrom } = accept([event(4), event(2), event(3), event(1)], { recorded: 1 });
    expect(seqs(events)).toEqual([2, 3, 4]);
    expect(waitingFrom).toBeUndefined();
    expect(events[0]).toEqual({
      specversion: '1.0',
      id: `${UNIT}/${EPOCH}/2`,
      source: `/lockfleet/units/${UNIT}`,
      type: 'LockerClosed',
      subject: `${UNIT}/A`,
      time: TIME,
      dataschema: 'LockerClosed/1',
      data: {},
      actor: `unit:${UNIT}`,
      unitepoch: EPOCH,
      unitseq: 2,
    });
  });

  test('is recorded up to the first missing seq, and waits there', () => {
    expect(accept([event(1), event(3)])).toMatchObject({ events: [{ unitseq: 1 }], waitingFrom: 3 });
  });

  test.each([
    ['a field of a known type', event(1, { data: { tilt: 3 } }), { data: { tilt: 3 } }],
    [
      'a type',
      event(1, { type: 'LockerSang', data: { song: ['la'] } }),
      { type: 'LockerSang', data: { song: ['la'] } },
    ],
    [
      'a newer version',
      event(1, { type: 'RentalStarted', v: 2, data: { who: { knows: 1 } } }),
      { type: 'RentalStarted', dataschema: 'RentalStarted/2', data: { who: { knows: 1 } } },
    ],
    ['a field beside data', event(1, { firmware: '2.1' }), { type: 'LockerClosed', unitextra: '{"firmware":"2.1"}' }],
  ])('%s that is unknown is recorded unchanged', (_, unknown, expected) => {
    expect(accept([unknown])).toMatchObject({ events: [expected], unstoredRejections: new Map() });
  });

  test('keys that every JavaScript object has are recorded like other keys', () => {
    const odd = `{"seq":1,"v":1,"type":"LockerClosed","time":"${TIME}","locker":"A",
      "data":{"__proto__":{"polluted":true},"constructor":1,"a\\nb\\u0000":2}}`;
    const [recorded] = accept([odd]).events;
    expect(JSON.stringify(recorded?.data)).toBe('{"__proto__":{"polluted":true},"constructor":1,"a\\nb\\u0000":2}');
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  test('is split into several commits when it exceeds the limit of one', () => {
    const batch = [1, 2, 3, 4].map((seq) => growing(seq, 10_000));
    const first = accept(batch);
    expect(first).toMatchObject({ isPart: true, waitingFrom: undefined });
    const rest = accept(batch, { recorded: first.events.length });
    expect(rest.isPart).toBe(false);
    expect([...seqs(first.events), ...seqs(rest.events)]).toEqual([1, 2, 3, 4]);
    for (const { events } of [first, rest]) {
      const commit = { unit: UNIT, aggregate: 'device' as const, expectedSequence: 0, commandId: 'x', events };
      expect(Buffer.byteLength(encodeCommit(commit))).toBeLessThanOrEqual(MAX_COMMIT_BYTES);
    }
  });

  test('of the maximum number of events fits into one commit', () => {
    const full = Array.from({ length: MAX_BATCH_EVENTS }, (_, n) => event(n + 1, { causationId: 'c'.repeat(200) }));
    const { events, isPart } = accept(full);
    expect([events.length, isPart]).toEqual([MAX_BATCH_EVENTS, false]);
  });
});

describe('an event that cannot be accepted', () => {
  const tooLarge = event(2, { data: { text: 'x'.repeat(MAX_EVENT_BYTES) } });
  test.each<[string, object | string, RegExp]>([
    ['is not an object', '7', /object/i],
    ['is null', 'null', /object/i],
    ['has no seq', event(undefined), /^\/seq: /],
    ['has a seq that is a text', event('2'), /^\/seq: /],
    ['has the seq 0', event(0), /^\/seq: /],
    ['has no type', event(2, { type: undefined }), /^\/type: /],
    ['has a type that is not a name', event(2, { type: 'Locker Closed' }), /^\/type: /],
    ['has no version', event(2, { v: undefined }), /^\/v: /],
    ['has data that is not an object', event(2, { data: [] }), /^\/data: /],
    ['lacks a field of its type', event(2, { type: 'RentalStarted' }), /^\/data\/rentalId: /],
    ['names a malformed locker', event(2, { locker: 'A/B' }), /^\/locker: /],
    ['has a date that does not exist', event(2, { time: '2026-02-30T12:00:00Z' }), /^\/time: /],
    ['has a year that Postgres cannot store', event(2, { time: '0000-02-01T12:00:00Z' }), /^\/time: /],
    [
      'has a date in its data that does not exist',
      event(2, { type: 'RentalStarted', data: { rentalId: 'r', until: '2025-02-29T12:00:00Z' } }),
      /^\/data\/until: /,
    ],
    [
      'has an identifier beyond the bound',
      event(2, { type: 'RentalStarted', data: { rentalId: 'r'.repeat(201), until: '2026-07-01T12:00:00Z' } }),
      /^\/data\/rentalId: .*200/,
    ],
    [
      'has a control character in an identifier',
      event(2, { type: 'HardwareErrorRaised', data: { code: 'a\u0000', message: 'm' } }),
      /^\/data\/code: .*control character/,
    ],
    [
      'has half a surrogate pair in an identifier',
      event(2, { type: 'UnitRestarted', data: { bootId: '\ud800' } }),
      /^\/data\/bootId: /,
    ],
    [
      'has an amount beyond the bound',
      event(2, { type: 'PaymentSucceeded', data: { reference: 'p', amount: 1e15, currency: 'EUR' } }),
      /^\/data\/amount: /,
    ],
    ['has a causationId beyond the bound', event(2, { causationId: 'c'.repeat(201) }), /^\/causationId: /],
    [
      'has a type that only the platform decides',
      event(2, { type: 'ReservationConfirmed' }),
      /not an event that units may report/,
    ],
    [
      'has such a type in an unknown version',
      event(2, { type: 'ReservationConfirmed', v: 9 }),
      /not an event that units may report/,
    ],
    [
      'has a type that only the platform records',
      event(2, { type: 'UnitEventRejected', data: { reason: 'x' } }),
      /not an event that units may report/,
    ],
    ['is too large', tooLarge, /more than the \d+ of an event/],
    ['is too large after serialization', growing(2, 20_000), /more than the \d+ of an event/],
    ['is nested too deeply', `{"seq":2,"data":{"a":${nested(MAX_EVENT_DEPTH)}}}`, /nested/],
    ['is nested too deeply for serialization', `{"seq":2,"data":{"a":${nested(60_000)}}}`, /nested|bytes/],
    ['has a number that is not finite', '{"seq":2,"v":1,"type":"LockerSang","data":{"n":1e400}}', /number/],
  ])('%s: its content is kept, and then UnitEventRejected takes its place', (_, bad, reason) => {
    const batch = [event(1), bad, event(3)];
    const first = accept(batch);
    expect(seqs(first.events)).toEqual([1]);
    const content = typeof bad === 'string' ? bad : JSON.stringify(bad);
    expect([...first.unstoredRejections]).toEqual([
      [1, { seq: 2, reason: expect.stringMatching(reason), content, hasDuplicateSeq: false }],
    ]);
    const then = accept(batch, { recorded: 1, storedRejections: new Set([1]) });
    expect(seqs(then.events)).toEqual([2, 3]);
    expect(then.events[0]).toMatchObject({
      type: 'UnitEventRejected',
      subject: UNIT,
      id: `${UNIT}/${EPOCH}/2`,
      data: { reason: expect.stringMatching(reason) },
    });
    expect(then.unstoredRejections.size).toBe(0);
  });

  test.each([
    ['a field that is missing', event(2, { data: undefined }), '/data: is missing'],
    [
      'a time with an offset',
      event(2, { time: '2026-07-01T12:00:00+01:00' }),
      '/time: must be a time in UTC as RFC 3339 writes it, such as 2026-07-01T10:00:00Z',
    ],
    [
      'an unknown cause',
      event(2, { type: 'LockerOpened', data: { cause: 'kick' } }),
      '/data/cause: must be one of "walk-up", "reservation", "command", "service"',
    ],
  ])('has a reason that names the field and the rule: %s', (_, bad, reason) => {
    expect([...accept([event(1), bad]).unstoredRejections.values()]).toMatchObject([{ seq: 2, reason }]);
  });

  test('is described without control characters and lone surrogates', () => {
    const bad = event(1, { type: `a\u0000b\ud800${'c'.repeat(200)}`, time: 'long ago' });
    const [rejected] = accept([bad], { storedRejections: new Set([0]) }).events;
    expect(rejected?.time).toBe('2026-07-01T12:00:00.000Z');
    expect(rejected?.data.rejectedType).toBe(`a?b?${'c'.repeat(96)}`);
    const odd = event(1, { type: 'LockerOpenFailed', data: { 'a\u0000\ud800': 1 } });
    expect(JSON.stringify([...accept([odd]).unstoredRejections.values()][0]?.reason)).not.toMatch(/\\u/);
  });

  test('is kept as the exact text that the unit sent', () => {
    const text = `{ "seq": 1, "seq":1, "data": {"serial": 12345678901234567890, "x": "\\ud800,]}\\"" } }`;
    expect([...accept([text]).unstoredRejections.values()]).toMatchObject([{ seq: 1, content: text }]);
  });

  test('of several with one seq is recorded first, equal copies are dropped, and different ones become dead letters before it is recorded', () => {
    const batch = [event(1), event(1), event(1, { locker: 'B' }), event(2)];
    const first = accept(batch);
    expect(first.events).toEqual([]);
    expect([...first.unstoredRejections]).toEqual([[2, expect.objectContaining({ seq: 1, hasDuplicateSeq: true })]]);
    const then = accept(batch, { storedRejections: new Set([2]) });
    expect(then.events).toMatchObject([
      { unitseq: 1, subject: `${UNIT}/A` },
      { unitseq: 2, type: 'LockerClosed' },
    ]);
    expect(accept(batch, { recorded: 2 })).toMatchObject({ events: [], unstoredRejections: new Map() });
  });

  test('does not stop later events from being checked', () => {
    const { events, unstoredRejections: toKeep } = accept([event(1), event(2, { v: 0 }), event(3), event(4, { v: 0 })]);
    expect(seqs(events)).toEqual([1]);
    expect([...toKeep.values()].map(({ seq }) => seq)).toEqual([2, 4]);
  });
});

describe('an unreadable batch', () => {
  const many = Array.from({ length: MAX_BATCH_EVENTS + 1 }, (_, n) => event(n + 1));
  test.each<[string, Uint8Array, RegExp]>([
    ['is no JSON', bytesOf('{"unit":'), /JSON/],
    ['is empty', bytesOf(''), /JSON/],
    ['is no UTF-8', new Uint8Array([0x22, 0xff, 0x22]), /UTF-8/],
    ['is something else', bytesOf('[]'), /./],
    ['is null', bytesOf('null'), /./],
    ['names another unit', bytesOf(batchText([], { unit: 'PL-1001' })), /PL-1001/],
    ['has no epoch', bytesOf(batchText([], { epoch: undefined })), /epoch/],
    ['has an epoch that is none', bytesOf(batchText([], { epoch: '__proto__' })), /epoch/],
    ['has too many events', bytesOf(batchText(many)), /events/],
    ['has no place for its only event', bytesOf(batchText([event(undefined)])), /seq/],
    ['has events that contradict each other', bytesOf(batchText([event(1), event('x'), event(5)])), /seq/],
    ['has an event before the first', bytesOf(batchText([event('x'), event(1)])), /seq/],
    ['has a seq beyond counting', bytesOf(batchText(['{"seq":1e300}'])), /seq/],
  ])('%s', (_, data, reason) => {
    let thrown: unknown;
    try {
      parseBatch(UNIT, data);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(UnreadableBatchError);
    expect((thrown as Error).message).toMatch(reason);
  });
});

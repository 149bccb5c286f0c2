import { describe, expect, test } from 'bun:test';
import type { StoredMessage } from '../../../platform/event-store/store.ts';
import { PostgresUnavailableError } from '../../../platform/postgres/connection.ts';
import { FencedError } from '../../../projections/engine/checkpoints/checkpoints.ts';
import { MessageQueue } from '../../../projections/engine/consume/message-queue.ts';
import { WriteBehindRows } from '../../../projections/engine/fill/write-behind-rows.ts';
import { isPoison } from '../../../projections/engine/parking/parking.ts';
import { statusTable } from '../../../projections/operations/status-table.ts';

function message(sequence: number, bytes = 400): StoredMessage {
  const place = { sequence, unit: 'PL-1000', aggregate: 'device', lane: 7 } as const;
  return { ...place, recordedAtMs: 0, commandId: 'c', bytes, events: () => [] };
}

describe('an intake', () => {
  test('takes each message once, in order, and passes what is none', () => {
    const intake = new MessageQueue(10);
    for (const sequence of [9, 10, 11, 12, 11, 12, 14]) intake.enqueue(message(sequence));
    intake.skipTo(15);
    intake.skipTo(3);
    expect(intake.messages.map(({ sequence }) => sequence)).toEqual([11, 12, 14]);
    expect(intake.readTo).toBe(15);
  });

  test('holds up its reader while it is full, until it is emptied or the process stops', async () => {
    const intake = new MessageQueue(0);
    for (let sequence = 1; !intake.isFull; sequence++) intake.enqueue(message(sequence));
    const stop = new AbortController();
    let hasRoom = false;
    const waiting = intake.waitForSpace(stop.signal).then(() => {
      hasRoom = true;
    });
    await Promise.resolve();
    expect(hasRoom).toBe(false);
    intake.removeFirst(1);
    await waiting;
    intake.enqueue(message(1_000_000));
    const stopped = intake.waitForSpace(stop.signal);
    stop.abort();
    await stopped;
  });

  test('is full sooner when its messages are large, and has room again when they are applied', () => {
    const large = 512 * 1024;
    const intake = new MessageQueue(0);
    for (let sequence = 1; !intake.isFull; sequence++) intake.enqueue(message(sequence, large));
    expect(intake.messages.length).toBeLessThan(32);
    intake.removeFirst(intake.messages.length - 1);
    const isFull = () => intake.isFull;
    expect(isFull()).toBe(false);
    while (!isFull()) intake.enqueue(message(intake.readTo + 1, large));
    expect(intake.messages.length).toBeLessThan(32);
  });

  test('wakes who waits when something comes, when it is woken, and when the time is over', async () => {
    const intake = new MessageQueue(0);
    for (const wake of [() => intake.enqueue(message(1)), () => intake.skipTo(2), () => intake.notify()]) {
      const change = intake.waitForChange();
      wake();
      await change;
    }
    await intake.waitForChange(1);
  });
});

describe('rows that a fold keeps', () => {
  test('are let go when there is no room, but not before they are written', () => {
    const rows = new WriteBehindRows<number>(2, true);
    for (const key of ['a', 'b', 'c', 'd']) rows.putDirty(key, 1);
    expect(rows.dirtyCount).toBe(4);
    // While they are being written, they can be read nowhere else.
    expect(rows.drain()).toEqual([1, 1, 1, 1]);
    expect(rows.missing(['a', 'x'])).toEqual([]);
    rows.putDirty('d', 2);
    rows.putDirty('e', 2);
    expect(rows.drain()).toEqual([2, 2]);
    expect(['a', 'b', 'c', 'd', 'e'].map((key) => rows.get(key))).toEqual([undefined, undefined, undefined, 2, 2]);
    expect(rows.missing(['a', 'a', 'd', 'x'])).toEqual(['a', 'x']);
    rows.putClean('a', 1);
    expect(rows.missing(['a'])).toEqual([]);
    expect(rows.dirtyCount).toBe(0);
  });

  test('of a table that has rows already are read first', () => {
    expect(new WriteBehindRows<number>(2, false).missing(['a', 'a'])).toEqual(['a']);
    expect(new WriteBehindRows<number>(2, true).missing(['a'])).toEqual([]);
  });
});

test('poison is what is wrong with a value, not with the database or the engine', () => {
  const withCode = (code: string) => Object.assign(new Error(code), { code });
  const poison = [
    new TypeError('x'),
    new RangeError('x'),
    withCode('22008'),
    withCode('23502'),
    withCode('UNDEFINED_VALUE'),
  ];
  const other = [
    new FencedError('x'),
    new PostgresUnavailableError('x'),
    withCode('42P01'),
    withCode('3F000'),
    withCode('XX000'),
  ];
  expect(poison.map(isPoison)).toEqual(poison.map(() => true));
  expect(other.map(isPoison)).toEqual(other.map(() => false));
});

test('the status is a table', () => {
  const run = { projection: 'units', version: 1001, schema: 'units_v1001_r1', status: 'serving' as const };
  const table = statusTable(
    [
      { ...run, minPosition: 90, maxPosition: 100, parkedUnits: 0 },
      {
        ...run,
        projection: 'event_log',
        schema: 'event_log_v1_r4',
        version: 1,
        minPosition: 7,
        maxPosition: 7,
        parkedUnits: 2,
      },
    ],
    100,
  );
  expect(table).toBe(
    [
      'projection  version  schema           status   from   to  lag  parked',
      'units          1001  units_v1001_r1   serving    90  100   10       0',
      'event_log         1  event_log_v1_r4  serving     7    7   93       2',
      '',
    ].join('\n'),
  );
});

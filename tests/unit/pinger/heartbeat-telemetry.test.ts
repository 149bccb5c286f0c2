import { afterEach, describe, expect, test } from 'bun:test';
import { HEARTBEAT_GATHER_MS, HeartbeatTelemetry } from '../../../pinger/telemetry/heartbeat-telemetry.ts';
import { MAX_TELEMETRY_RESULTS, type TelemetryResultOf } from '../../../platform/liveness/telemetry-message.ts';
import { createLog } from '../../../platform/observability/log.ts';
import { eventually } from '../../support/eventually.ts';
import { UNIT } from '../../support/given.ts';
import { NOW_MS } from '../../support/scene.ts';

const INDEX = 0;
const running: HeartbeatTelemetry[] = [];

afterEach(() => {
  for (const heartbeats of running.splice(0)) heartbeats.stop();
});

function start() {
  const published: TelemetryResultOf<'heartbeat'>[][] = [];
  const lines: string[] = [];
  const clock = { ms: 0 };
  let unreadable = 0;
  const heartbeats = new HeartbeatTelemetry({
    capacity: 1,
    publish: (results) => published.push([...results]),
    onUnreadable: () => {
      unreadable += 1;
    },
    monotonic: () => clock.ms,
    log: createLog((line) => lines.push(line), Date.now),
  });
  running.push(heartbeats);
  const record = (content: Uint8Array, unit = UNIT, atMs = NOW_MS) => heartbeats.record(unit, INDEX, content, atMs);
  return { heartbeats, record, published, lines, clock, unreadable: () => unreadable };
}

function content(changes: object = {}, aheadMs = 0): Uint8Array {
  const reply = {
    unit: UNIT,
    bootId: '8f0011223344556a',
    uptimeS: 5,
    configurationHash: 'c'.repeat(64),
    epoch: '018f0000-0000-7000-8000-000000000001',
    lastSeq: 41,
    time: new Date(NOW_MS + aheadMs).toISOString(),
    ...changes,
  };
  return new TextEncoder().encode(JSON.stringify(reply));
}

const bytes = (text: string) => new TextEncoder().encode(text);
const emptyResult = { heard: 'heartbeat' as const, unit: UNIT, at: NOW_MS };
const report = { epoch: '018f0000-0000-7000-8000-000000000001', lastSeq: 41, configurationHash: 'c'.repeat(64) };

describe('a heartbeat', () => {
  test('is published with the report of the unit and the offset of its clock', () => {
    const { heartbeats, record, published, unreadable } = start();
    record(content({}, 3_600_000));
    heartbeats.flush();
    expect(published).toEqual([[{ ...emptyResult, ...report, clockOffsetMs: 3_600_000 }]]);
    expect(unreadable()).toBe(0);
  });

  test.each([
    ['is empty', bytes('')],
    ['is not text', new Uint8Array([0xff, 0xfe])],
    ['is not JSON', bytes('{"unit":')],
    ['is not an object', bytes('[1,2,3]')],
    ['names another unit', content({ unit: 'PL-9999' })],
    ['has a seq beyond the safe integers', content({ lastSeq: 1e300 })],
    ['has an epoch with a null character', content({ epoch: 'e\u0000' })],
    ['names no time', content({ time: 'noon' })],
    ['is longer than 4 KiB', content({ padding: 'x'.repeat(4_096) })],
  ])('that %s is published without a report and counted as unreadable', (_, garbage) => {
    const { heartbeats, record, published, unreadable } = start();
    record(garbage);
    heartbeats.flush();
    expect(published).toEqual([[emptyResult]]);
    expect(unreadable()).toBe(1);
  });

  test('that was delayed does not falsify the clock offset', () => {
    const { heartbeats, record, published } = start();
    const publishedOffsetMs = (aheadMs: number) => {
      record(content({}, aheadMs));
      heartbeats.flush();
      return published.at(-1)?.[0]?.clockOffsetMs;
    };
    expect([-20, -9_000, -15, 5_000].map(publishedOffsetMs)).toEqual([-20, -20, -15, 5_000]);
    // A clock that was set back shows in the second heartbeat after it.
    expect([-10, -12].map(publishedOffsetMs)).toEqual([5_000, -10]);
    heartbeats.reset(INDEX);
    expect(publishedOffsetMs(-9_000)).toBe(-9_000);
  });

  test('of a unit without an index is published with its own clock offset', () => {
    const { heartbeats, published } = start();
    heartbeats.record(UNIT, undefined, content({}, 50), NOW_MS);
    heartbeats.record(UNIT, undefined, content({}, -50), NOW_MS);
    heartbeats.flush();
    expect(published).toEqual([[{ ...emptyResult, ...report, clockOffsetMs: -50 }]]);
  });
});

describe('many heartbeats', () => {
  test('are published together, only the newest of each unit', async () => {
    const { record, published } = start();
    const startedMs = performance.now();
    for (let n = 0; n < 10; n++) record(bytes(''), `PL-${n % 5}`, NOW_MS + n);
    expect(published).toEqual([]);
    await eventually(() => published.length > 0);
    // A timer may fire a few milliseconds early.
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(HEARTBEAT_GATHER_MS - 20);
    expect(published.map((batch) => batch.map(({ unit, at }) => `${unit} ${at - NOW_MS}`))).toEqual([
      ['PL-0 5', 'PL-1 6', 'PL-2 7', 'PL-3 8', 'PL-4 9'],
    ]);
  });

  test('are published at once when they fill a message', () => {
    const { heartbeats, record, published } = start();
    for (let n = 0; n < 2 * MAX_TELEMETRY_RESULTS + 1; n++) record(bytes(''), `PL-${n}`);
    expect(published.map(({ length }) => length)).toEqual([MAX_TELEMETRY_RESULTS, MAX_TELEMETRY_RESULTS]);
    heartbeats.stop();
    expect(published.map(({ length }) => length)).toEqual([MAX_TELEMETRY_RESULTS, MAX_TELEMETRY_RESULTS, 1]);
    record(bytes(''));
    heartbeats.flush();
    expect(published).toHaveLength(3);
  });

  test('that are unreadable are logged once a minute', () => {
    const { record, lines, clock } = start();
    for (let n = 0; n < 1_000; n++) record(bytes('?'));
    expect(lines).toHaveLength(1);
    clock.ms += 60_000;
    for (let n = 0; n < 1_000; n++) record(bytes('?'));
    expect(lines).toHaveLength(2);
    expect(lines[1]).toContain('"heartbeats":1000');
  });
});

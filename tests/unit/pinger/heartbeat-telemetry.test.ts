import { afterEach, describe, expect, test } from 'bun:test';
import { HEARTBEAT_GATHER_MS, HeartbeatTelemetry } from '../../../pinger/telemetry/heartbeat-telemetry.ts';
import { MAX_TELEMETRY_RESULTS, type TelemetryResultOf } from '../../../platform/liveness/telemetry.ts';
import { createLog } from '../../../platform/observability/log.ts';
import { eventually } from '../../support/eventually.ts';
import { UNIT } from '../../support/given.ts';
import { NOW_MS } from '../domain/scene.ts';

const running: HeartbeatTelemetry[] = [];

afterEach(() => {
  for (const heartbeats of running.splice(0)) heartbeats.stop();
});

function start() {
  const told: TelemetryResultOf<'heartbeat'>[][] = [];
  const lines: string[] = [];
  const clock = { ms: 0 };
  let unreadable = 0;
  const heartbeats = new HeartbeatTelemetry({
    publish: (results) => told.push([...results]),
    onUnreadable: () => {
      unreadable += 1;
    },
    monotonic: () => clock.ms,
    log: createLog((line) => lines.push(line), Date.now),
  });
  running.push(heartbeats);
  return { heartbeats, told, lines, clock, unreadable: () => unreadable };
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
const bare = { heard: 'heartbeat' as const, unit: UNIT, at: NOW_MS };
const said = { epoch: '018f0000-0000-7000-8000-000000000001', lastSeq: 41, configurationHash: 'c'.repeat(64) };

describe('a heartbeat', () => {
  test('tells what the unit says about itself, and what its clock is ahead', () => {
    const { heartbeats, told, unreadable } = start();
    heartbeats.record(UNIT, content({}, 3_600_000), NOW_MS);
    heartbeats.flush();
    expect(told).toEqual([[{ ...bare, ...said, clockOffsetMs: 3_600_000 }]]);
    expect(unreadable()).toBe(0);
  });

  test.each([
    ['is empty', bytes('')],
    ['is no text', new Uint8Array([0xff, 0xfe])],
    ['is no JSON', bytes('{"unit":')],
    ['is something else', bytes('[1,2,3]')],
    ['is about another unit', content({ unit: 'PL-9999' })],
    ['has a seq that no number holds', content({ lastSeq: 1e300 })],
    ['has an epoch that no database holds', content({ epoch: 'e\u0000' })],
    ['tells no time', content({ time: 'noon' })],
    ['is too long', content({ padding: 'x'.repeat(4_096) })],
  ])('that %s says only that the unit is there', (_, garbage) => {
    const { heartbeats, told, unreadable } = start();
    heartbeats.record(UNIT, garbage, NOW_MS);
    heartbeats.flush();
    expect(told).toEqual([[bare]]);
    expect(unreadable()).toBe(1);
  });

  test('that was under way for long does not make a clock wrong', () => {
    const { heartbeats, told } = start();
    const beat = (aheadMs: number) => {
      heartbeats.record(UNIT, content({}, aheadMs), NOW_MS);
      heartbeats.flush();
      return told.at(-1)?.[0]?.clockOffsetMs;
    };
    expect([beat(-20), beat(-9_000), beat(-15), beat(5_000)]).toEqual([-20, -20, -15, 5_000]);
    // A clock that was set back is believed at the second heartbeat.
    expect([beat(-10), beat(-12)]).toEqual([5_000, -10]);
    heartbeats.forget(UNIT);
    expect(beat(-9_000)).toBe(-9_000);
  });
});

describe('many heartbeats', () => {
  test('travel together, the newest of each unit', async () => {
    const { heartbeats, told } = start();
    const startedMs = performance.now();
    for (let n = 0; n < 10; n++) heartbeats.record(`PL-${n % 5}`, bytes(''), NOW_MS + n);
    expect(told).toEqual([]);
    await eventually(() => told.length > 0);
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(HEARTBEAT_GATHER_MS - 20);
    expect(told.map((batch) => batch.map(({ unit, at }) => `${unit} ${at - NOW_MS}`))).toEqual([
      ['PL-0 5', 'PL-1 6', 'PL-2 7', 'PL-3 8', 'PL-4 9'],
    ]);
  });

  test('do not wait when a message is full', () => {
    const { heartbeats, told } = start();
    for (let n = 0; n < 2 * MAX_TELEMETRY_RESULTS + 1; n++) heartbeats.record(`PL-${n}`, bytes(''), NOW_MS);
    expect(told.map(({ length }) => length)).toEqual([MAX_TELEMETRY_RESULTS, MAX_TELEMETRY_RESULTS]);
    heartbeats.stop();
    expect(told.map(({ length }) => length)).toEqual([MAX_TELEMETRY_RESULTS, MAX_TELEMETRY_RESULTS, 1]);
    heartbeats.record(UNIT, bytes(''), NOW_MS);
    heartbeats.flush();
    expect(told).toHaveLength(3);
  });

  test('that cannot be read are mentioned once a minute', () => {
    const { heartbeats, lines, clock } = start();
    for (let n = 0; n < 1_000; n++) heartbeats.record(UNIT, bytes('?'), NOW_MS);
    expect(lines).toHaveLength(1);
    clock.ms += 60_000;
    for (let n = 0; n < 1_000; n++) heartbeats.record(UNIT, bytes('?'), NOW_MS);
    expect(lines).toHaveLength(2);
    expect(lines[1]).toContain('"heartbeats":1000');
  });
});

import { describe, expect, test } from 'bun:test';
import { ThreadAssignment } from '../../../pinger/pool/thread-assignment.ts';
import { MAX_CONNECTIONS } from '../../../pinger/probes/http-probe.ts';
import { PROBE_NUMBERS } from '../../../pinger/units/unit-table.ts';

const INTERVAL_MS = 10_000;
const TIMEOUT_MS = 2_000;

/** How many of the first units each thread pings. */
function dealt(units: number, probe: number, threads: number, timeoutMs = TIMEOUT_MS): number[] {
  const dealing = new ThreadAssignment({ threads, intervalMs: INTERVAL_MS, timeoutMs });
  const counts = new Array<number>(threads).fill(0);
  for (let index = 0; index < units; index += 1) {
    const thread = dealing.threadOf(index, probe);
    counts[thread] = (counts[thread] ?? 0) + 1;
  }
  return counts;
}

describe('units are assigned', () => {
  test('to as few threads as the units of a thread allow', () => {
    expect(dealt(50, PROBE_NUMBERS.udp, 4)).toEqual([50, 0, 0, 0]);
    expect(dealt(50_000, PROBE_NUMBERS.udp, 4)).toEqual([50_000, 0, 0, 0]);
    expect(dealt(70_000, PROBE_NUMBERS.udp, 4)).toEqual([50_000, 20_000, 0, 0]);
  });

  test('evenly to all threads when there are too many units for fewer', () => {
    expect(dealt(300_000, PROBE_NUMBERS.udp, 2)).toEqual([150_000, 150_000]);
    expect(dealt(300_000, PROBE_NUMBERS.nats, 3)).toEqual([100_000, 100_000, 100_000]);
    expect(dealt(300_000, PROBE_NUMBERS.udp, 1)).toEqual([300_000]);
  });

  test.each([200, 2_000, 8_000])('so that each has a connection even when none answers within %d ms', (timeoutMs) => {
    const waiting = (units: number) => (units * timeoutMs) / INTERVAL_MS;
    const [first = 0, second = 0] = dealt(100_000, PROBE_NUMBERS.http, 64, timeoutMs);
    expect(waiting(first)).toBeLessThanOrEqual(MAX_CONNECTIONS);
    expect(second).toBe(first);
  });

  test('to several threads when the interval is much shorter than the timeout', () => {
    const dealing = new ThreadAssignment({ threads: 2, intervalMs: 100, timeoutMs: 60_000 });
    const threads = Array.from({ length: 10 }, (_, index) => dealing.threadOf(index, PROBE_NUMBERS.http));
    expect(new Set(threads)).toEqual(new Set([0, 1]));
  });
});

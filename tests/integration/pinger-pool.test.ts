import { afterEach, expect, test } from 'bun:test';
import { rmSync } from 'node:fs';
import { PingPool } from '../../pinger/pool/ping-pool.ts';
import type { SlotTask } from '../../pinger/pool/slot-task.ts';
import { UnitTable } from '../../pinger/units/unit-table.ts';
import { createLog } from '../../platform/observability/log.ts';
import { eventually } from '../support/eventually.ts';
import { FRAIL, markerOf, SLOW_MS } from '../support/frail-worker.ts';

const WORKER = new URL('../support/frail-worker.ts', import.meta.url);
const TASK_MS = 200;
/** Tells the tasks of this run from those of others. */
const START_MS = Date.now();

const pools: PingPool[] = [];
const lines: string[] = [];
const markers: string[] = [];

afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.stop()));
  for (const marker of markers.splice(0)) rmSync(marker, { force: true });
  lines.length = 0;
});

function newPool(threads = 2): PingPool {
  const log = createLog((line) => lines.push(line), Date.now);
  const settings = { table: UnitTable.create(8).shared, timeoutMs: TASK_MS, httpKeepAlive: false };
  const pool = new PingPool({ worker: WORKER, threads, taskMs: TASK_MS, settings, log });
  pools.push(pool);
  return pool;
}

function task(...units: number[]): SlotTask {
  const startMs = START_MS + process.pid + markers.length;
  markers.push(markerOf(startMs));
  return { startMs, units: Uint32Array.from(units), offsetsMs: new Float32Array(units.length) };
}

test.each(['exit', 'throw', 'hang'] as const)(
  'a thread that fails (%s) is replaced and its slot pinged again',
  async (how) => {
    const pool = newPool();
    const results = await pool.ping(0, task(FRAIL[how], 0));
    expect(results?.outcomes).toEqual(new Uint8Array([1, 1]));
    expect(results?.rttMs).toEqual(new Float64Array([2.5, 2.5]));
    expect(lines.join('')).toContain('Pinging on a thread fails.');
    // A task that throws leaves its thread alive.
    expect(pool.replacedThreads).toBe({ exit: 1, throw: 0, hang: 1 }[how]);
    expect(await pool.ping(0, task(0))).toBeDefined();
    expect(await pool.ping(1, task(0))).toBeDefined();
  },
  15_000,
);

test('a slot that cannot be pinged has no result, and the others continue', async () => {
  const pool = newPool();
  expect(await pool.ping(1, task(FRAIL.always))).toBeUndefined();
  await eventually(async () => (await pool.ping(1, task(0))) !== undefined);
});

test('a thread is started once a slot needs it, and never more than the maximum', async () => {
  const pool = newPool(2);
  expect(pool.startedThreads).toBe(0);
  expect(await Promise.all([pool.ping(1, task(0)), pool.ping(1, task(0))])).not.toContain(undefined);
  expect(pool.startedThreads).toBe(1);
  expect(await pool.ping(2, task(0))).toBeUndefined();
  expect(pool.startedThreads).toBe(1);
});

test('slots of one thread run concurrently, up to a limit', async () => {
  const pool = newPool(1);
  const results = await Promise.all(Array.from({ length: 200 }, () => pool.ping(0, task(0))));
  expect(results.filter((result) => result !== undefined)).toHaveLength(128);
  expect(await pool.ping(0, task(0))).toBeDefined();
});

test('a slot does not wait for the slow units of another slot', async () => {
  const pool = newPool(1);
  const slow = pool.ping(0, task(FRAIL.slow));
  const startedMs = performance.now();
  await pool.ping(0, task(0));
  const tookMs = performance.now() - startedMs;
  expect(await slow).toBeDefined();
  expect(performance.now() - startedMs).toBeGreaterThan(SLOW_MS - 10);
  expect(tookMs).toBeLessThan(SLOW_MS / 2);
});

test('a stopped pool returns no results, and does not wait', async () => {
  const pool = newPool();
  const hanging = pool.ping(0, task(FRAIL.hang));
  await pool.stop();
  expect(await hanging).toBeUndefined();
  expect(await pool.ping(0, task(0))).toBeUndefined();
});

import { afterEach, expect, test } from 'bun:test';
import { join } from 'node:path';
import { PingPool } from '../../pinger/pool.ts';
import type { SlotTarget } from '../../pinger/tasks.ts';
import { createLog } from '../../platform/log.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';
import { SLOW_MS } from '../support/frail-worker.ts';

const FRAIL = new URL('../support/frail-worker.ts', import.meta.url);
const TIMEOUT_MS = 200;

const pools: PingPool[] = [];
const lines: string[] = [];

afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.stop()));
  lines.length = 0;
});

function newPool(threads = 2): PingPool {
  const log = createLog((line) => lines.push(line), Date.now);
  const pool = new PingPool({ worker: FRAIL, threads, timeoutMs: TIMEOUT_MS, log });
  pools.push(pool);
  return pool;
}

/** What makes the thread fail in this way, the first time. */
async function target(how: string): Promise<SlotTarget> {
  const marker = join(await temporaryFolder('frail'), 'failed');
  return { unit: 'u', host: `${how} ${marker}`, port: 1, key: new Uint8Array(32) };
}

test.each(['exit', 'throw', 'hang'])(
  'a thread that fails (%s) is replaced and its slot pinged again',
  async (how) => {
    const pool = newPool();
    const result = await pool.ping([await target(how), await target('none')]);
    expect(result?.outcomes).toEqual(new Uint8Array([1, 1]));
    expect(result?.rttMs).toEqual(new Float64Array([2.5, 2.5]));
    expect(lines.join('')).toContain('did not finish its slot');
    // A task that throws leaves its thread alive; one that hangs costs all of them.
    expect(pool.replacedThreads).toBe({ exit: 1, throw: 0, hang: 2 }[how] ?? 0);
    expect(await pool.ping([await target('none')])).toBeDefined();
  },
  15_000,
);

test('a slot that cannot be pinged says nothing, and the others go on', async () => {
  const pool = newPool();
  const always = { unit: 'u', host: 'always', port: 1, key: new Uint8Array(32) };
  expect(await pool.ping([always])).toBeUndefined();
  await eventually(async () => (await pool.ping([await target('none')])) !== undefined);
});

test('slots of one thread do not wait for one another, and there is an end to them', async () => {
  const pool = newPool(1);
  const tasks = Array.from({ length: 100 }, () =>
    pool.ping([{ unit: 'u', host: 'none', port: 1, key: new Uint8Array(1) }]),
  );
  expect(pool.full).toBe(true);
  const results = await Promise.all(tasks);
  expect(results.filter((result) => result !== undefined)).toHaveLength(64);
  expect(pool.full).toBe(false);
});

test('a slot does not wait for units that make another one last long', async () => {
  const pool = newPool(1);
  const slow = pool.ping([{ unit: 'u', host: 'slow', port: 1, key: new Uint8Array(1) }]);
  const startedMs = performance.now();
  await pool.ping([await target('none')]);
  const tookMs = performance.now() - startedMs;
  expect(await slow).toBeDefined();
  expect(performance.now() - startedMs).toBeGreaterThan(SLOW_MS - 10);
  expect(tookMs).toBeLessThan(SLOW_MS / 2);
});

test('a pool that has stopped gives nothing, and waits for nothing', async () => {
  const pool = newPool();
  const hanging = pool.ping([await target('hang')]);
  await pool.stop();
  expect(await hanging).toBeUndefined();
  expect(await pool.ping([await target('none')])).toBeUndefined();
});

import { expect, test } from 'bun:test';
import { eachLine, MAX_LINE_CHARS, prefixedLogs } from '../../../platform/process/lines.ts';
import { type SupervisedChild, stopInOrder } from '../../../platform/process/supervise.ts';
import { backoffMs, RESTART_BACKOFF } from '../../../platform/retry/backoff.ts';

test('backoff starts small, doubles and stays within its bound', () => {
  const waits = [1, 2, 3, 4, 5, 6, 7, 8, 9, 50].map((crashes) => backoffMs(crashes, { firstMs: 100, maxMs: 10_000 }));
  expect(waits).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
});

test('backoff takes a count of zero as the first crash', () => {
  expect(backoffMs(0, RESTART_BACKOFF)).toBe(RESTART_BACKOFF.firstMs);
});

async function linesOf(...chunks: (string | Uint8Array)[]): Promise<string[]> {
  const lines: string[] = [];
  const bytes = chunks.map((chunk) => (typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk));
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of bytes) controller.enqueue(piece);
      controller.close();
    },
  });
  await eachLine(stream, (line) => lines.push(line));
  return lines;
}

test('lines are assembled from chunks, with every kind of line end', async () => {
  expect(await linesOf('one\ntw', 'o\r\n\nlast')).toEqual(['one', 'two', '', 'last']);
});

test('a character that is split across chunks is decoded', async () => {
  const bytes = new TextEncoder().encode('ż\n');
  expect(await linesOf(bytes.subarray(0, 1), bytes.subarray(1))).toEqual(['ż']);
});

test('a line above the length limit is split', async () => {
  const lines = await linesOf('x'.repeat(2 * MAX_LINE_CHARS + 1), '\n');
  expect(lines.map((line) => line.length)).toEqual([MAX_LINE_CHARS, MAX_LINE_CHARS, 1]);
});

test('log lines carry the name of their process, and colour only at a terminal', () => {
  const lines: string[] = [];
  prefixedLogs((line) => lines.push(line), false, 8)('server')('hello');
  prefixedLogs((line) => lines.push(line), true, 8)('server')('hello');
  expect(lines).toEqual(['server   │ hello', '\x1b[36mserver   │\x1b[0m hello']);
});

type Stop = NonNullable<Parameters<SupervisedChild['stop']>[0]>;

/** Parts that take so long to stop, on a clock that moves only by that. */
async function stopsOf(durationsMs: readonly number[], hurry = new AbortController()): Promise<Stop[]> {
  let nowMs = 0;
  const asked: Stop[] = [];
  const parts = durationsMs.map((durationMs) => ({
    stop: async (bounds: Stop = {}) => {
      asked.push(bounds);
      nowMs += Math.min(durationMs, bounds.graceMs ?? 0);
    },
  }));
  await stopInOrder(parts, 9_000, hurry.signal, () => nowMs);
  return asked;
}

test('stop time that one part does not use is available to the next', async () => {
  expect(await stopsOf([0, 0, 0])).toEqual([{ graceMs: 3_000 }, { graceMs: 4_500 }, { graceMs: 9_000 }]);
});

test('parts that never stop share the total stop time', async () => {
  const graces = (await stopsOf([60_000, 60_000, 60_000])).map(({ graceMs }) => graceMs);
  expect(graces).toEqual([3_000, 3_000, 3_000]);
});

test('an immediate stop kills every part', async () => {
  const hurry = new AbortController();
  hurry.abort();
  expect(await stopsOf([60_000, 60_000], hurry)).toEqual([
    { signal: 'SIGKILL', graceMs: 0 },
    { signal: 'SIGKILL', graceMs: 0 },
  ]);
});

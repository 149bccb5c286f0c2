import { describe, expect, test } from 'bun:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLog } from '../../platform/observability/log.ts';
import { enforceStopDeadline } from '../../platform/process/stop-deadline.ts';

const DEADLINE_MS = 20;

function enforced(stopping: AbortController) {
  const exitCodes: number[] = [];
  const lines: string[] = [];
  const log = createLog((line) => lines.push(line), Date.now);
  const exit = (code: number) => void exitCodes.push(code);
  const cancel = enforceStopDeadline({ signal: stopping.signal, deadlineMs: DEADLINE_MS, log, exit });
  return { exitCodes, lines, cancel };
}

describe('the stop deadline', () => {
  test('ends a process that stops for too long, with an error in the log', async () => {
    const stopping = new AbortController();
    const { exitCodes, lines } = enforced(stopping);
    await sleep(2 * DEADLINE_MS);
    expect(exitCodes).toEqual([]);
    stopping.abort();
    expect(exitCodes).toEqual([]);
    await sleep(3 * DEADLINE_MS);
    expect(exitCodes).toEqual([1]);
    expect(lines.map((line): object => JSON.parse(line))).toEqual([
      expect.objectContaining({
        level: 'error',
        message: expect.stringContaining('The process did not stop within 0.02 s and ends now.'),
      }),
    ]);
  });

  test('can be cancelled, before and during the stop', async () => {
    const early = new AbortController();
    const first = enforced(early);
    first.cancel();
    early.abort();
    const late = new AbortController();
    const second = enforced(late);
    late.abort();
    second.cancel();
    await sleep(3 * DEADLINE_MS);
    expect([first.exitCodes, second.exitCodes]).toEqual([[], []]);
  });
});

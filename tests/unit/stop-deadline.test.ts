import { describe, expect, test } from 'bun:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLog } from '../../platform/observability/log.ts';
import { enforceStopDeadline, StoppingParts } from '../../platform/process/stop-deadline.ts';
import { eventually } from '../support/eventually.ts';

const DEADLINE_MS = 20;

function enforced(stopping: AbortController, parts = new StoppingParts()) {
  const exitCodes: number[] = [];
  const lines: string[] = [];
  const log = createLog((line) => lines.push(line), Date.now);
  const exit = (code: number) => void exitCodes.push(code);
  const cancel = enforceStopDeadline({ signal: stopping.signal, deadlineMs: DEADLINE_MS, parts, log, exit });
  return { exitCodes, lines, cancel };
}

describe('the stop deadline', () => {
  test('ends a process that stops for too long, with an error in the log', async () => {
    const stopping = new AbortController();
    const parts = new StoppingParts();
    void parts.track('the API', new Promise(() => undefined));
    await parts.track('the pinger', Promise.resolve());
    await parts.track('ingest', Promise.reject(new Error('it failed'))).catch(() => undefined);
    void parts.track('settlement', new Promise(() => undefined));
    const { exitCodes, lines } = enforced(stopping, parts);
    await sleep(2 * DEADLINE_MS);
    expect(exitCodes).toEqual([]);
    stopping.abort();
    expect(exitCodes).toEqual([]);
    await eventually(() => exitCodes.length > 0);
    expect(exitCodes).toEqual([1]);
    expect(lines.map((line): object => JSON.parse(line))).toEqual([
      expect.objectContaining({
        level: 'error',
        message: expect.stringContaining('The process did not stop within 0.02 s and ends now.'),
        running: 'the API, settlement',
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

import { describe, expect, test } from 'bun:test';
import { createLog } from '../../../platform/observability/log.ts';
import { type Idle, MAX_DUTY_PAUSE_MS, MAX_POLL_BACKOFF_MS, poll } from '../../../platform/retry/poll.ts';

const INTERVAL_MS = 1_000;

/** Polls until as many pauses have begun, on a clock that only `takes` and pauses move. */
async function pollUntilPauses(
  pauses: number,
  work: (world: {
    readonly poll: number;
    readonly takes: (ms: number) => void;
    readonly idle: Idle;
  }) => void | Promise<void>,
  { maxDuty, consequence }: { readonly maxDuty?: number; readonly consequence?: string } = {},
) {
  const stop = new AbortController();
  const slept: number[] = [];
  const lines: string[] = [];
  let nowMs = 0;
  let polls = 0;
  let isWorking = false;
  const options = {
    name: 'reading',
    intervalMs: INTERVAL_MS,
    ...(maxDuty === undefined ? {} : { maxDuty }),
    ...(consequence === undefined ? {} : { consequence }),
    clock: () => nowMs,
    signal: stop.signal,
    sleep: async (ms: number) => {
      nowMs += ms;
      if (!isWorking && slept.push(ms) === pauses) stop.abort();
    },
    log: createLog(
      (line) => lines.push(line),
      () => 0,
    ),
  };
  await poll(options, async (idle) => {
    polls += 1;
    isWorking = true;
    try {
      await work({ poll: polls, takes: (ms) => (nowMs += ms), idle });
    } finally {
      isWorking = false;
    }
  });
  return { slept, polls, messages: lines.map((line): string => JSON.parse(line).message) };
}

describe('poll', () => {
  test('starts polls one interval apart, independent of their duration', async () => {
    const { slept, polls } = await pollUntilPauses(3, ({ poll: n, takes }) => takes([100, 0, 5_000][n - 1] ?? 0));
    expect(slept).toEqual([900, 1_000, 0]);
    expect(polls).toBe(3);
  });

  test('polls take at most their share of the time', async () => {
    const { slept } = await pollUntilPauses(2, ({ poll: n, takes }) => takes([100, 500][n - 1] ?? 0), { maxDuty: 0.1 });
    expect(slept).toEqual([900, 4_500]);
  });

  test('idle time of a poll does not count towards its share', async () => {
    const { slept } = await pollUntilPauses(
      1,
      async ({ takes, idle }) => {
        takes(200);
        await idle(1_800);
      },
      { maxDuty: 0.2 },
    );
    expect(slept).toEqual([800]);
  });

  test('a clock that jumps ahead or back during a poll delays the next one for a bounded time', async () => {
    const jumped = await pollUntilPauses(2, ({ poll: n, takes }) => takes(n === 1 ? 86_400_000 : -3_000), {
      maxDuty: 0.05,
    });
    expect(jumped.slept).toEqual([MAX_DUTY_PAUSE_MS, INTERVAL_MS]);
  });

  test('a failed poll is repeated soon, failures in a row double the pause up to its bound, and the log names the row once', async () => {
    const { slept, messages } = await pollUntilPauses(8, ({ poll: n }) => {
      if (n <= 7) throw new Error('Postgres is away');
    });
    expect(slept).toEqual([250, 500, 1_000, 2_000, 4_000, MAX_POLL_BACKOFF_MS, MAX_POLL_BACKOFF_MS, 1_000]);
    expect(messages).toEqual(['Reading fails. It is repeated with exponential backoff.', 'Reading works again.']);
  });

  test('the log names the consequence of a failure', async () => {
    const { messages } = await pollUntilPauses(
      1,
      () => {
        throw new Error('Postgres is away');
      },
      { consequence: 'Nothing is read meanwhile.' },
    );
    expect(messages).toEqual(['Reading fails. Nothing is read meanwhile. It is repeated with exponential backoff.']);
  });

  test('does not sleep when the signal aborts during a poll', async () => {
    const stop = new AbortController();
    const slept: number[] = [];
    const log = createLog(
      () => undefined,
      () => 0,
    );
    const sleep = async (ms: number) => void slept.push(ms);
    await poll({ name: 'reading', intervalMs: 10, clock: () => 0, signal: stop.signal, sleep, log }, async () => {
      stop.abort();
    });
    expect(slept).toEqual([]);
  });
});

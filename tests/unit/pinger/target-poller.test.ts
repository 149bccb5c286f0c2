import { describe, expect, test } from 'bun:test';
import { TargetPoller } from '../../../pinger/units/target-poller.ts';
import { createLog } from '../../../platform/observability/log.ts';
import { SimulatedClock } from '../../support/pinger-world.ts';

/** A poller over a list whose reads take `readMs`, on a clock that the test moves. */
function startPoller(readMs = 0) {
  const clock = new SimulatedClock();
  const lines: string[] = [];
  const log = createLog((line) => lines.push(line), clock.now);
  const readsMs: number[] = [];
  const state = { failure: undefined as Error | undefined };
  const list = {
    async refresh() {
      readsMs.push(clock.monotonic());
      if (readMs > 0) await new Promise<void>((resolve) => clock.after(readMs, resolve));
      if (state.failure !== undefined) throw state.failure;
    },
  };
  const poller = new TargetPoller({ list, clock, log });
  poller.start();
  return { poller, clock, readsMs, state, lines };
}

describe('the target poller', () => {
  test('reads at once, and then every two seconds', async () => {
    const { poller, clock, readsMs } = startPoller();
    await clock.pass(4_100);
    expect(readsMs).toEqual([0, 2_000, 4_000]);
    await poller.stop();
  });

  test('reads at most a tenth of the time', async () => {
    const { poller, clock, readsMs } = startPoller(1_000);
    await clock.pass(11_500);
    expect(readsMs).toEqual([0, 10_000]);
    await poller.stop();
  });

  test('ends its pause when a refresh is requested', async () => {
    const { poller, clock, readsMs } = startPoller();
    await clock.pass(700);
    poller.refreshNow();
    await clock.pass(100);
    expect(readsMs).toEqual([0, 700]);
    await poller.stop();
  });

  test('reads once more after the read in flight when a refresh is requested meanwhile', async () => {
    const { poller, clock, readsMs } = startPoller(1_000);
    await clock.pass(500);
    poller.refreshNow();
    poller.refreshNow();
    await clock.pass(5_000);
    expect(readsMs).toEqual([0, 1_000]);
    await poller.stop();
  });

  test('logs a failure once, and continues', async () => {
    const { poller, clock, readsMs, state, lines } = startPoller();
    state.failure = new Error('the database is away');
    await clock.pass(20_000);
    expect(readsMs.length).toBeGreaterThan(3);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('Reading the units to ping fails.');
    state.failure = undefined;
    await clock.pass(10_000);
    expect(lines[1]).toContain('Reading the units to ping works again.');
    await poller.stop();
  });

  test('waits at its stop for the read in flight, and reads no more', async () => {
    const { poller, clock, readsMs } = startPoller(1_000);
    await clock.pass(500);
    let hasStopped = false;
    const stopping = poller.stop().then(() => {
      hasStopped = true;
    });
    await clock.pass(400);
    expect(hasStopped).toBe(false);
    await clock.pass(200);
    await stopping;
    poller.refreshNow();
    await clock.pass(20_000);
    expect(readsMs).toEqual([0]);
  });
});

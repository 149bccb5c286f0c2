import { afterAll } from 'bun:test';
import { runCleanups } from './cleanup.ts';
import { openSockets, watchTimers } from './leaks.ts';

/** What closes by itself, closes within this. */
const SETTLE_MS = 2_000;
const SETTLE_POLL_MS = 50;

const pause = globalThis.setTimeout;
const liveTimers = watchTimers();
const socketsBefore = new Set(openSockets());

async function leaks(): Promise<string[]> {
  for (let waitedMs = 0; ; waitedMs += SETTLE_POLL_MS) {
    const open = [...openSockets().filter((socket) => !socketsBefore.has(socket)), ...liveTimers()];
    if (open.length === 0 || waitedMs >= SETTLE_MS) return open;
    await new Promise((resolve) => pause(resolve, SETTLE_POLL_MS));
  }
}

/** Runs once, after the last file. Connections to the shared services must be closed before those stop. */
afterAll(async () => {
  const open = await leaks();
  const failures = await runCleanups();
  for (const failure of failures) console.error(failure);
  if (open.length > 0) throw new Error(`the tests have left open:\n  ${open.join('\n  ')}`);
  if (failures.length > 0) throw new Error('the shared services could not be ended');
});

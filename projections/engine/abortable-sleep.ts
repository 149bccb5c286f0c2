import { setTimeout as timeout } from 'node:timers/promises';

/** Sleeps for `ms`, or until the signal aborts. It does not throw when the signal aborts. */
export async function abortableSleep(signal: AbortSignal, ms: number): Promise<void> {
  try {
    await timeout(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

import { setTimeout as pause } from 'node:timers/promises';

/** Sleeps until the time is over or the signal comes. */
export async function sleepUnless(signal: AbortSignal, ms: number): Promise<void> {
  try {
    await pause(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

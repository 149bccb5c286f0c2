/** A thread of a pinger that fails in the way that its file says, once or always; it answers with the units it was given. */

import { existsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SlotResults } from '../../pinger/pool/slot-results.ts';
import type { SlotTask } from '../../pinger/pool/slot-task.ts';

/** How long a slow slot takes. */
export const SLOW_MS = 600;
/** What the first unit of a slot makes of its thread; another one answers at once. */
export const FRAIL = { exit: 1, throw: 2, hang: 3, always: 4, slow: 5 } as const;

/** Where the frail thread notes that it has failed: it fails once. */
export function markerOf(startMs: number): string {
  return join(tmpdir(), `lockfleet-frail-${startMs}`);
}

export async function pingSlot({ startMs, units }: SlotTask): Promise<ArrayBuffer> {
  const how = units[0];
  const fails = how === FRAIL.exit || how === FRAIL.throw || how === FRAIL.hang;
  if (fails && !existsSync(markerOf(startMs))) {
    writeFileSync(markerOf(startMs), 'failed');
    if (how === FRAIL.exit) process.exit(1);
    if (how === FRAIL.throw) throw new Error('the task fails');
    while (how === FRAIL.hang);
  }
  if (how === FRAIL.always) process.exit(1);
  if (how === FRAIL.slow) await new Promise((resolve) => setTimeout(resolve, SLOW_MS));
  const results = SlotResults.createDiscarded(units.length);
  results.outcomes.fill(1);
  results.rttMs.fill(2.5);
  return results.buffer;
}

/** A thread of a pinger that fails once in the way that its first target's host names: the port tells the tasks apart. */

import { existsSync, writeFileSync } from 'node:fs';
import type { SlotResult, SlotTask } from '../../pinger/tasks.ts';

/** How long a slow slot takes. */
export const SLOW_MS = 600;

/** The host is `HOW MARKER`: the marker is a file that says that it has failed before. */
export async function pingSlot({ targets }: SlotTask): Promise<SlotResult> {
  const [how, marker] = targets[0]?.host.split(' ') ?? [];
  if (marker !== undefined && !existsSync(marker)) {
    writeFileSync(marker, 'failed');
    if (how === 'exit') process.exit(1);
    if (how === 'throw') throw new Error('the task fails');
    while (how === 'hang');
  }
  if (how === 'always') process.exit(1);
  if (how === 'slow') await new Promise((resolve) => setTimeout(resolve, SLOW_MS));
  return {
    outcomes: new Uint8Array(targets.length).fill(1),
    sentAtMs: new Float64Array(targets.length),
    rttMs: new Float64Array(targets.length).fill(2.5),
    replies: targets.map(() => ({ epoch: 'e', lastSeq: 1, configurationHash: 'c' })),
  };
}

/** The root of a thread of the pinger: it pings the units of a slot at once and answers when all have answered or not. */

import { randomBytes } from 'node:crypto';
import { HttpProber } from './probe-http.ts';
import type { SlotResult, SlotTask, UnitReply } from './tasks.ts';

const NONCE_BYTES = 16;

let prober: { readonly timeoutMs: number; readonly http: HttpProber } | undefined;

/** What piscina runs. Lasts as long as the slowest unit of the slot, the time-out at most. */
export async function pingSlot({ targets, timeoutMs }: SlotTask): Promise<SlotResult> {
  const http = proberFor(timeoutMs);
  const outcomes = new Uint8Array(targets.length);
  const sentAtMs = new Float64Array(targets.length);
  const rttMs = new Float64Array(targets.length);
  const replies = new Array<UnitReply | undefined>(targets.length).fill(undefined);
  await Promise.all(
    targets.map(async (target, index) => {
      const probe = await http.ping(target);
      outcomes[index] = probe.outcome;
      sentAtMs[index] = probe.sentAtMs;
      rttMs[index] = probe.rttMs;
      replies[index] = probe.reply;
    }),
  );
  return { outcomes, sentAtMs, rttMs, replies };
}

/** One for the life of the thread: it counts the connections of all slots. */
function proberFor(timeoutMs: number): HttpProber {
  if (prober?.timeoutMs !== timeoutMs) {
    const newNonce = () => randomBytes(NONCE_BYTES).toString('hex');
    const http = new HttpProber({ timeoutMs, now: Date.now, monotonic: () => performance.now(), newNonce });
    prober = { timeoutMs, http };
  }
  return prober.http;
}

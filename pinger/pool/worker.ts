/** The root of a thread of the pinger: it pings the units of a slot, each at its instant, and tells what came of them. */

import { constants, setPriority } from 'node:os';
import { move, workerData } from 'piscina';
import { createLog, type Log } from '../../platform/observability/log.ts';
import { HttpProbe } from '../probes/http-probe.ts';
import { NatsProbe } from '../probes/nats-probe.ts';
import { SelfConnectCheck } from '../probes/self-connect-check.ts';
import { UdpProbe } from '../probes/udp-probe.ts';
import { systemClock } from '../time/clock.ts';
import { UnitTable } from '../units/unit-table.ts';
import { SlotRunner } from './slot-runner.ts';
import type { SlotTask, ThreadSettings } from './slot-task.ts';

let opening: Promise<SlotRunner> | undefined;

/** What piscina runs: a buffer of `SlotResults`. Lasts as long as the slowest unit of the slot, the time-out at most. */
export async function pingSlot(task: SlotTask): Promise<unknown> {
  const { buffer } = await (await runner()).run(task);
  return move(buffer);
}

/** One for the life of the thread: it keeps the sockets. When there are none to be had, the next slot tries again. */
function runner(): Promise<SlotRunner> {
  opening ??= open(workerData as ThreadSettings).catch((error: unknown) => {
    opening = undefined;
    throw error;
  });
  return opening;
}

function open({ table: shared, timeoutMs, httpKeepAlive, nats }: ThreadSettings): Promise<SlotRunner> {
  const table = new UnitTable(shared);
  const log = createLog((line) => process.stderr.write(line), Date.now, { process: 'pinger', thread: 'probes' });
  goFirst(log);
  return SlotRunner.open({
    table,
    timeoutMs,
    clock: systemClock,
    openProbes: async (arrivals) => [
      await UdpProbe.open(table, arrivals),
      new HttpProbe({ table, listener: arrivals, keepAlive: httpKeepAlive, selfConnect: new SelfConnectCheck() }),
      nats === undefined ? undefined : new NatsProbe({ nats, table, listener: arrivals, log }),
    ],
  });
}

/** This thread alone, where the process may: a ping that waits for a core leaves late, and its answer is measured as late. */
function goFirst(log: Log): void {
  try {
    setPriority(constants.priority.PRIORITY_HIGH);
  } catch (error) {
    log.debug('the thread has no right to go first', { error });
  }
}

/** The root of a ping thread: it opens the probes and runs the slots that the main thread hands over. */

import { constants, setPriority } from 'node:os';
import { move, workerData } from 'piscina';
import type { Log } from '../../platform/observability/log.ts';
import { processLog } from '../../platform/observability/process-log.ts';
import { HttpProbe } from '../probes/http-probe.ts';
import { NatsProbe } from '../probes/nats-probe.ts';
import { SelfConnectCheck } from '../probes/self-connect-check.ts';
import { UdpProbe } from '../probes/udp-probe.ts';
import { systemClock } from '../runtime/clock.ts';
import { UnitTable } from '../units/unit-table.ts';
import { SlotRunner } from './slot-runner.ts';
import type { SlotTask, ThreadSettings } from './slot-task.ts';

let opening: Promise<SlotRunner> | undefined;

/**
 * Runs one task. Piscina calls it.
 * @returns the buffer of `SlotResults`, as soon as every unit of the slot has answered or timed out
 * @throws when the thread can open no sockets
 */
export async function pingSlot(task: SlotTask): Promise<unknown> {
  const runner = await openRunner();
  const { buffer } = await runner.run(task);
  return move(buffer);
}

/** The runner of this thread, which owns the sockets. After a failure to open them, the next slot tries again. */
function openRunner(): Promise<SlotRunner> {
  opening ??= createRunner(workerData as ThreadSettings).catch((error: unknown) => {
    opening = undefined;
    throw error;
  });
  return opening;
}

function createRunner({ table: columns, timeoutMs, httpKeepAlive, nats }: ThreadSettings): Promise<SlotRunner> {
  const table = new UnitTable(columns);
  const clock = systemClock;
  const log = processLog(process, clock.now, { process: 'pinger', thread: 'probes' });
  raisePriority(log);
  return SlotRunner.open({
    table,
    timeoutMs,
    clock,
    openProbes: async (listener) => [
      await UdpProbe.open(table, listener),
      new HttpProbe({ table, listener, keepAlive: httpKeepAlive, selfConnect: new SelfConnectCheck() }),
      nats === undefined ? undefined : new NatsProbe({ nats, table, listener, log }),
    ],
  });
}

/** A ping that waits for a core leaves late, and its measured response time includes the wait. Needs CAP_SYS_NICE (ADR 0018). */
function raisePriority(log: Log): void {
  try {
    setPriority(constants.priority.PRIORITY_HIGH);
  } catch (error) {
    log.debug(
      'The ping thread may not raise its priority. Response times include waiting for a core when the machine is busy.',
      {
        error,
      },
    );
  }
}

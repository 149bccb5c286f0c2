/** The progress line of `./run sim`: one line that is rewritten on a terminal, a line every ten seconds elsewhere. */

import type { Timers } from '../environment/timers.ts';
import type { Fleet } from '../fleet/fleet.ts';

const TERMINAL_INTERVAL_MS = 1_000;
const LOG_INTERVAL_MS = 10_000;
const REWRITE_LINE = '\r\x1b[2K';

export interface ProgressOutput {
  readonly isTerminal: boolean;
  readonly write: (text: string) => void;
}

/** Shows the counters of a fleet until the timers are stopped. */
export function showProgress(fleet: Fleet, stage: () => string, timers: Timers, output: ProgressOutput): void {
  const { isTerminal, write } = output;
  const startedMs = timers.nowMs();
  const intervalMs = isTerminal ? TERMINAL_INTERVAL_MS : LOG_INTERVAL_MS;
  const show = () => {
    const { units, connected, pinged } = fleet.readiness();
    const { produced, acknowledged, recorded, customersServed } = fleet.metrics;
    const seconds = Math.round((timers.nowMs() - startedMs) / 1_000);
    const line =
      `${seconds} s  ${stage()}  units ${units}, connected ${connected}, pinged ${pinged}  ` +
      `customers ${customersServed}  events ${produced}, acknowledged ${acknowledged}, recorded ${recorded}`;
    write(isTerminal ? `${REWRITE_LINE}${line}` : `${line}\n`);
    timers.after(intervalMs, show);
  };
  timers.after(intervalMs, show);
}

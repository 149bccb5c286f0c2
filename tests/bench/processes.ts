/** What processes of this machine have used, from /proc. */

import { readdirSync, readFileSync } from 'node:fs';

const TICKS_PER_S = 100;
const KIB_PER_MIB = 1024;
const SAMPLE_MS = 1_000;

/** CPU seconds of a process since it began, its children not counted. */
export function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name may hold spaces; what follows it does not. User and system time are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
}

/** The most memory that a process has had resident, in MiB. */
export function peakRssMbOf(pid: number): number {
  return memoryField(pid, 'VmHWM');
}

export interface TreeMemory {
  /** The most that a process and its children have had, memory that they share counted once, in MiB. */
  peakMb(): number;
  stop(): void;
}

/** Looks at a process with children, such as Postgres, once a second. */
export function watchTree(pid: number): TreeMemory {
  let peak = 0;
  const look = () => {
    const pids = [pid, ...childrenOf(pid)];
    const own = pids.reduce((sum, each) => sum + memoryField(each, 'RssAnon'), 0);
    const shared = Math.max(...pids.map((each) => memoryField(each, 'RssShmem')));
    peak = Math.max(peak, own + shared);
  };
  const timer = setInterval(look, SAMPLE_MS);
  return { peakMb: () => peak, stop: () => clearInterval(timer) };
}

/** Those of one generation: Postgres has no grandchildren. */
function childrenOf(pid: number): number[] {
  const all = readdirSync('/proc').map(Number).filter(Number.isInteger);
  return all.filter((each) => statusField(each, 'PPid') === pid);
}

function memoryField(pid: number, field: string): number {
  return statusField(pid, field) / KIB_PER_MIB;
}

/** 0 when the process has just gone. */
function statusField(pid: number, field: string): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

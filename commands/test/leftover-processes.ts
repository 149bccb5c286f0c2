import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandLine, killGroup, processIdentity, sendSignal } from '../../platform/process/identity.ts';

const POLL_MS = 50;
const MAX_COMMAND_CHARS = 200;

/**
 * Ends the processes that carry a mark in their environment. Every process that a test starts inherits the mark, even when it
 * changes its group or parent.
 * @param graceMs how long the processes may take to end by themselves
 * @returns id and command line of each process that was killed
 */
export async function endLeftoverProcesses(mark: string, graceMs: number): Promise<string[]> {
  for (let waitedMs = 0; waitedMs < graceMs && markedProcesses(mark).length > 0; waitedMs += POLL_MS)
    await sleep(POLL_MS);
  const left = markedProcesses(mark);
  const names = left.map((pid) => `${pid} ${(commandLine(pid) ?? '').slice(0, MAX_COMMAND_CHARS)}`);
  for (const pid of left) {
    if (sendSignal(pid, 'SIGKILL')) killGroup(pid);
  }
  return names;
}

/** The ids of the living processes that carry a mark in their environment, without this process. */
export function markedProcesses(mark: string): number[] {
  const pids = existsSync('/proc/self/environ') ? markedInProc(mark) : markedInPs(mark);
  return pids.filter((pid) => pid !== process.pid && processIdentity(pid) !== undefined);
}

function markedInProc(mark: string): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => environmentOf(pid).includes(mark)).map(Number);
}

function environmentOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1');
  } catch {
    // The process has ended, or belongs to another user, so no test of this run started it.
    return '';
  }
}

function markedInPs(mark: string): number[] {
  const { stdout } = spawnSync('ps', ['axeww', '-o', 'pid=,command='], { encoding: 'utf8' });
  const lines = stdout.split('\n').filter((line) => line.includes(mark));
  return lines.map((line) => Number.parseInt(line, 10));
}

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LineSink } from './lines.ts';

/** A process id with the identity of its process. The system reuses ids, in containers after every restart. */
interface Incarnation {
  readonly pid: number;
  readonly identity: string;
}

export interface StopBounds {
  readonly signal: NodeJS.Signals;
  /** Milliseconds from the signal until SIGKILL. */
  readonly graceMs: number;
}

const POLL_MS = 20;
const KILL_WAIT_MS = 2_000;
/** Fields of /proc/PID/stat after the command's name: the state is the first, the start time the twentieth. */
const STAT_STATE = 0;
const STAT_START_TIME = 19;

/**
 * Distinguishes a process from a later process with an equal id.
 * @returns undefined when no such process lives; a zombie does not.
 */
export function processIdentity(pid: number): string | undefined {
  return existsSync('/proc/self/stat') ? identityFromProc(pid) : identityFromPs(pid);
}

function identityFromProc(pid: number): string | undefined {
  const stat = readIfExists(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[STAT_STATE] === 'Z') return undefined;
  const boot = readIfExists('/proc/sys/kernel/random/boot_id')?.trim();
  return `${boot}/${fields[STAT_START_TIME]}`;
}

function identityFromPs(pid: number): string | undefined {
  const { stdout } = spawnSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' });
  const line = stdout.trim();
  if (line === '' || line.startsWith('Z')) return undefined;
  return line.replace(/^\S+\s+/, '');
}

/** The command line of a living process, its arguments joined by blanks; undefined when there is none. */
export function commandLine(pid: number): string | undefined {
  if (existsSync('/proc/self/stat')) return readIfExists(`/proc/${pid}/cmdline`)?.replaceAll('\0', ' ').trim();
  const { stdout } = spawnSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' });
  return stdout.trim() === '' ? undefined : stdout.trim();
}

function readIfExists(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH');
}

/** Sends a signal to a process, or with a negative id to a group. @returns false when there is none. */
export function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if (isGone(error)) return false;
    throw error;
  }
}

/** Kills the remaining processes of a group. The leader may already have ended. */
export function killGroup(leader: number): void {
  try {
    sendSignal(-leader, 'SIGKILL');
  } catch (error) {
    // macOS answers EPERM when only zombies are left in the group.
    if (!(error instanceof Error && 'code' in error && error.code === 'EPERM')) throw error;
  }
}

/** Writes id and identity of a running process to a file, so that a later start can recognise the process. */
export async function writePidFile(path: string, pid: number): Promise<void> {
  const identity = processIdentity(pid);
  if (identity !== undefined) await writeFile(path, JSON.stringify({ pid, identity } satisfies Incarnation));
}

/** The process of a pid file, if it still runs and its id was not given to another process. */
async function readPidFile(path: string): Promise<Incarnation | undefined> {
  const file = Bun.file(path);
  if (!(await file.exists())) return undefined;
  const stored = parseIncarnation(await readFile(path, 'utf8'));
  return stored !== undefined && processIdentity(stored.pid) === stored.identity ? stored : undefined;
}

function parseIncarnation(text: string): Incarnation | undefined {
  const match = /^\{"pid":(\d+),"identity":"([^"]*)"\}$/.exec(text);
  return match?.[1] === undefined || match[2] === undefined ? undefined : { pid: Number(match[1]), identity: match[2] };
}

/**
 * Stops the process that an earlier start left behind (its supervisor was killed), and removes the pid file.
 * @throws Error when the process cannot be ended, for example because it belongs to another user.
 */
export async function stopLeftover(path: string, bounds: StopBounds, log: LineSink): Promise<void> {
  const leftover = await readPidFile(path);
  if (leftover !== undefined) {
    log(`an earlier start left process ${leftover.pid} behind: stopping it`);
    await stopProcess(leftover, bounds);
  }
  await rm(path, { force: true });
}

/** Ends a process that is no child of this process, with its group: by the signal, then by SIGKILL after `graceMs`. */
async function stopProcess(target: Incarnation, { signal, graceMs }: StopBounds): Promise<void> {
  sendSignal(target.pid, signal);
  const stopped = await hasEnded(target, graceMs);
  killGroup(target.pid);
  if (stopped) return;
  sendSignal(target.pid, 'SIGKILL');
  if (!(await hasEnded(target, KILL_WAIT_MS)))
    throw new Error(`process ${target.pid} still runs ${KILL_WAIT_MS} ms after SIGKILL`);
}

async function hasEnded({ pid, identity }: Incarnation, waitMs: number): Promise<boolean> {
  const deadline = AbortSignal.timeout(waitMs);
  while (processIdentity(pid) === identity) {
    if (deadline.aborted) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/** Stops a process by its id alone, for pid files that other programs write and that hold no identity. */
export async function stopPid(pid: number, bounds: StopBounds): Promise<void> {
  const identity = processIdentity(pid);
  if (identity !== undefined) await stopProcess({ pid, identity }, bounds);
}

/** Thrown when another living process holds a lock file. */
export class LockHeldError extends Error {
  constructor(
    readonly path: string,
    readonly pid: number,
  ) {
    super(`process ${pid} holds the lock file ${path}`);
    this.name = 'LockHeldError';
  }
}

/**
 * Acquires a lock file for this process. The lock file of a process that no longer lives is replaced.
 * @returns a function that releases the lock.
 * @throws LockHeldError
 */
export async function acquireLock(path: string): Promise<() => Promise<void>> {
  await mkdir(dirname(path), { recursive: true });
  const ownFile = `${path}.${process.pid}`;
  await writePidFile(ownFile, process.pid);
  try {
    // Creating a link is atomic: no process reads a lock file that is half written.
    while (!(await createLink(ownFile, path))) {
      const holder = await readPidFile(path);
      if (holder !== undefined) throw new LockHeldError(path, holder.pid);
      await rm(path, { force: true });
    }
  } finally {
    await rm(ownFile, { force: true });
  }
  return () => rm(path, { force: true });
}

async function createLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

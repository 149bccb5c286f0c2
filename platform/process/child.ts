import { setTimeout as sleep } from 'node:timers/promises';
import { killGroup, processIdentity, type StopBounds, sendSignal } from './identity.ts';
import { eachLine, type LineSink } from './lines.ts';

/** When a child is ready: once it has written a matching line, once `probe` resolves to true, or as soon as it is spawned. */
export type Readiness = { readonly line: RegExp } | { readonly probe: () => Promise<boolean> } | 'spawned';

export interface ChildCommand {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly cwd?: string;
  /** The whole environment. @default that of this process */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** The user that the child runs as. Only root can change it. @default the user of this process */
  readonly user?: { readonly uid: number; readonly gid: number };
  readonly readyWhen: Readiness;
  /** @default 60_000 */
  readonly readyTimeoutMs?: number;
}

export interface ExitReport {
  /** Such as `exited with code 1` or `was killed by SIGKILL`. */
  readonly how: string;
  /** The exit status; null when a signal ended the process, or it was not started. */
  readonly status: number | null;
  /** The last lines of its output, at most LAST_LINES. */
  readonly lastLines: readonly string[];
}

export interface RunningChild {
  readonly pid: number;
  /** Resolves to true when the child is ready, to false when it exits or exceeds `readyTimeoutMs` before. */
  readonly ready: Promise<boolean>;
  readonly exited: Promise<ExitReport>;
  /** Ends the child and its process group. Resolves when the child has exited. */
  terminate(bounds: StopBounds): Promise<void>;
}

const READY_TIMEOUT_MS = 60_000;
const PROBE_INTERVAL_MS = 50;
const LAST_LINES = 5;
/** Output is read for this time after the exit, and no longer, because a grandchild may keep the pipe open. */
const DRAIN_MS = 500;

/** Starts a process as the leader of a process group, so that its own children can be ended with it. */
export function spawnChild(spec: ChildCommand, log: LineSink): RunningChild {
  const lastLines: string[] = [];
  const sawLine = Promise.withResolvers<true>();
  const onLine = (line: string) => {
    lastLines.push(line);
    if (lastLines.length > LAST_LINES) lastLines.shift();
    log(line);
    if (typeof spec.readyWhen === 'object' && 'line' in spec.readyWhen && spec.readyWhen.line.test(line)) {
      sawLine.resolve(true);
    }
  };
  const child = Bun.spawn([...spec.command], {
    ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
    ...(spec.env === undefined ? {} : { env: { ...spec.env } }),
    ...(spec.user ?? {}),
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    detached: true,
  });
  const drained = Promise.all([eachLine(child.stdout, onLine), eachLine(child.stderr, onLine)]);
  const exited = child.exited.then(async (): Promise<ExitReport> => {
    killGroup(child.pid);
    await Promise.race([drained, sleep(DRAIN_MS)]);
    const how = child.signalCode === null ? `exited with code ${child.exitCode}` : `was killed by ${child.signalCode}`;
    return { how, status: child.exitCode, lastLines };
  });
  const terminate = async ({ signal, graceMs }: StopBounds) => {
    sendSignal(child.pid, signal);
    const grace = new AbortController();
    const inTime = await Promise.race([exited.then(() => true), timedOut(graceMs, grace.signal)]);
    grace.abort();
    if (!inTime) {
      log(`did not end within ${graceMs} ms of ${signal}: killing it`);
      if (processIdentity(child.pid) !== undefined) killGroup(child.pid);
    }
    await exited;
  };
  return { pid: child.pid, ready: becomesReady(spec, sawLine.promise, exited, log), exited, terminate };
}

async function becomesReady(
  spec: ChildCommand,
  sawLine: Promise<true>,
  exited: Promise<ExitReport>,
  log: LineSink,
): Promise<boolean> {
  if (spec.readyWhen === 'spawned') return true;
  const settled = new AbortController();
  const limitMs = spec.readyTimeoutMs ?? READY_TIMEOUT_MS;
  const late = timedOut(limitMs, settled.signal).then(() => {
    if (!settled.signal.aborted) log(`is not ready after ${limitMs} ms`);
    return false;
  });
  const ready = 'line' in spec.readyWhen ? sawLine : untilProbeSucceeds(spec.readyWhen.probe, settled.signal);
  const outcome = await Promise.race([ready, late, exited.then(() => false)]);
  settled.abort();
  return outcome;
}

async function untilProbeSucceeds(probe: () => Promise<boolean>, cancelled: AbortSignal): Promise<boolean> {
  while (!cancelled.aborted) {
    if (await probe()) return true;
    await timedOut(PROBE_INTERVAL_MS, cancelled);
  }
  return false;
}

/** Resolves to false after `ms`, or at once when the caller cancels the wait. */
async function timedOut(ms: number, cancelled: AbortSignal): Promise<false> {
  const { promise, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(() => resolve(false), ms);
  cancelled.addEventListener('abort', () => {
    clearTimeout(timer);
    resolve(false);
  });
  return promise;
}

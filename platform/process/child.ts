import { setTimeout as sleep } from 'node:timers/promises';
import { killGroup, processIdentity, type StopBounds, sendSignal } from './identity.ts';
import { eachLine, type LineSink } from './lines.ts';

/** When a child counts as ready: it wrote a matching line, or a probe says so. */
export type Readiness = { readonly line: RegExp } | { readonly probe: () => Promise<boolean> } | 'spawned';

export interface ChildCommand {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly cwd?: string;
  /** The whole environment. @default that of this process */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Another user to run as; only root can. */
  readonly user?: { readonly uid: number; readonly gid: number };
  readonly readyWhen: Readiness;
  /** @default 60_000 */
  readonly readyTimeoutMs?: number;
}

export interface ExitReport {
  /** Such as `exited with code 1` or `was killed by SIGKILL`. */
  readonly how: string;
  /** What it wrote last, at most LAST_LINES lines. */
  readonly lastLines: readonly string[];
}

export interface RunningChild {
  readonly pid: number;
  /** True once it is ready, false when it ended before. */
  readonly ready: Promise<boolean>;
  readonly exited: Promise<ExitReport>;
  /** Ends it and everything that it started. Resolves when it has ended. */
  terminate(bounds: StopBounds): Promise<void>;
}

const READY_TIMEOUT_MS = 60_000;
const PROBE_INTERVAL_MS = 50;
const LAST_LINES = 5;
/** Output that arrives after the exit is read for so long: a grandchild may keep the pipe open. */
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
    return { how, lastLines };
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
  const given = new AbortController();
  const limitMs = spec.readyTimeoutMs ?? READY_TIMEOUT_MS;
  const late = timedOut(limitMs, given.signal).then(() => {
    if (!given.signal.aborted) log(`is not ready after ${limitMs} ms`);
    return false;
  });
  const ready = 'line' in spec.readyWhen ? sawLine : probed(spec.readyWhen.probe, given.signal);
  const outcome = await Promise.race([ready, late, exited.then(() => false)]);
  given.abort();
  return outcome;
}

async function probed(probe: () => Promise<boolean>, given: AbortSignal): Promise<boolean> {
  while (!given.aborted) {
    if (await probe()) return true;
    await timedOut(PROBE_INTERVAL_MS, given);
  }
  return false;
}

/** Resolves to false after `ms`, or at once when the signal aborts because the caller no longer waits. */
async function timedOut(ms: number, given: AbortSignal): Promise<false> {
  const { promise, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(() => resolve(false), ms);
  given.addEventListener('abort', () => {
    clearTimeout(timer);
    resolve(false);
  });
  return promise;
}

import { rm } from 'node:fs/promises';
import { type BackoffBounds, backoffMs, RESTART_BACKOFF } from '../retry/backoff.ts';
import { type ChildCommand, type ExitReport, type RunningChild, spawnChild } from './child.ts';
import { type StopBounds, stopLeftover, writePidFile } from './identity.ts';
import type { LineSink } from './lines.ts';

/**
 * The states of a supervised child:
 *
 *   starting ──ready──▶ running ──exit──▶ waiting (backoff) ──▶ starting …
 *      │                                     │
 *      └────── too many exits in a row ──────┴──▶ given up        stop(): from anywhere ──▶ stopped
 *
 * Invariants: at most one process runs at a time. No process runs after `stop` has resolved. After an exit without a call of
 * `stop`, the supervisor restarts the child, rejects `start`, or calls `onGiveUp`.
 */
export interface ChildSpec extends ChildCommand {
  /** The file that stores the process id, so that a later start can stop a child that a killed supervisor left behind. */
  readonly pidFile?: string;
  /** Runs before every start, for example to remove a stale lock. */
  readonly beforeSpawn?: () => Promise<void>;
  /** @default DEFAULT_STOP */
  readonly stop?: Partial<StopBounds>;
  /** The supervisor gives up at this many exits before the child is first ready. @default MAX_CRASHES_IN_A_ROW */
  readonly maxCrashesBeforeReady?: number;
  /** The exit status with which the child says that it can never run as it is configured: the supervisor gives up at once. */
  readonly terminalStatus?: number;
  /** @default RESTART_BACKOFF */
  readonly backoff?: BackoffBounds;
  readonly log: LineSink;
  /** Called once, when a child that had been ready has crashed MAX_CRASHES_IN_A_ROW times in a row. */
  readonly onGiveUp: (error: ChildGaveUpError) => void;
}

export interface SupervisedChild {
  readonly name: string;
  /** The id of the running process; undefined while none runs. */
  readonly pid: number | undefined;
  /**
   * Starts the child. Resolves when the child is ready for the first time, or is stopped before that.
   * @throws ChildGaveUpError when the child exited too often before it was ready.
   */
  start(): Promise<void>;
  /** Stops the child and its process group, and restarts it no more. */
  stop(bounds?: Partial<StopBounds>): Promise<void>;
}

/** A child that has run for this time is stable: its count of crashes restarts at 0. */
export const STABLE_AFTER_MS = 10_000;
export const MAX_CRASHES_IN_A_ROW = 8;
const DEFAULT_STOP: StopBounds = { signal: 'SIGTERM', graceMs: 5_000 };
/** What a program writes in front of the error with which it ends. */
const PROGRAM_PREFIX = /^lockfleet: /;
/** An aborted start has no data to save, so its processes get a short grace period. */
const ABORTED_START_STOP = { graceMs: 2_000 };

export class ChildGaveUpError extends Error {
  constructor(
    readonly childName: string,
    crashes: number,
    readonly exit: ExitReport,
    message?: string,
  ) {
    const lastOutput = exit.lastLines.length === 0 ? '' : `; its last lines:\n  ${exit.lastLines.join('\n  ')}`;
    super(message ?? `${childName} ${exit.how}${crashes > 1 ? `, ${crashes} times in a row` : ''}${lastOutput}`);
    this.name = 'ChildGaveUpError';
  }
}

/** The child ended with its `terminalStatus`. Its line that begins with `PROGRAM_PREFIX` says why. */
class ChildRefusedError extends ChildGaveUpError {
  constructor(childName: string, exit: ExitReport) {
    const reason =
      exit.lastLines.findLast((line) => PROGRAM_PREFIX.test(line))?.replace(PROGRAM_PREFIX, '') ?? exit.how;
    super(childName, 1, exit, `${childName} cannot run: ${reason}`);
  }
}

/** Prepares a child; `start` starts it. */
export function superviseChild(spec: ChildSpec): SupervisedChild {
  return new Supervision(spec);
}

class Supervision implements SupervisedChild {
  readonly name: string;
  readonly #spec: ChildSpec;
  readonly #stopped = Promise.withResolvers<void>();
  #stopping = false;
  #current: RunningChild | undefined;
  #crashesInARow = 0;
  #wasReady = false;
  #supervising: Promise<void> | undefined;

  constructor(spec: ChildSpec) {
    this.#spec = spec;
    this.name = spec.name;
  }

  get pid(): number | undefined {
    return this.#current?.pid;
  }

  start(): Promise<void> {
    const ready = Promise.withResolvers<void>();
    this.#supervising = this.#superviseUntilStopped(ready.resolve).then(ready.resolve, (error: unknown) => {
      if (this.#wasReady && error instanceof ChildGaveUpError) this.#spec.onGiveUp(error);
      ready.reject(error);
    });
    return ready.promise;
  }

  async stop(bounds: Partial<StopBounds> = {}): Promise<void> {
    this.#stopping = true;
    this.#stopped.resolve();
    await this.#current?.terminate({ ...DEFAULT_STOP, ...this.#spec.stop, ...bounds });
    await this.#supervising;
  }

  /** Starts the child again after each exit, until `stop` is called or the child has crashed too often. */
  async #superviseUntilStopped(onReady: () => void): Promise<void> {
    const { pidFile, log } = this.#spec;
    if (pidFile !== undefined) await stopLeftover(pidFile, { ...DEFAULT_STOP, ...this.#spec.stop }, log);
    while (!this.#stopping) {
      const exit = await this.#runOnce(onReady);
      if (this.#stopping) return;
      this.#crashesInARow += 1;
      const { terminalStatus } = this.#spec;
      if (terminalStatus !== undefined && exit.status === terminalStatus) throw new ChildRefusedError(this.name, exit);
      const limit = this.#wasReady ? MAX_CRASHES_IN_A_ROW : (this.#spec.maxCrashesBeforeReady ?? MAX_CRASHES_IN_A_ROW);
      if (this.#crashesInARow >= limit) throw new ChildGaveUpError(this.name, this.#crashesInARow, exit);
      const waitMs = backoffMs(this.#crashesInARow, this.#spec.backoff ?? RESTART_BACKOFF);
      this.#spec.log(`${exit.how}: starting it again in ${waitMs} ms`);
      await this.#pause(waitMs);
    }
  }

  async #runOnce(onReady: () => void): Promise<ExitReport> {
    const { pidFile, log } = this.#spec;
    await this.#spec.beforeSpawn?.();
    if (this.#stopping) return { how: 'was not started', status: null, lastLines: [] };
    const child = spawnChild(this.#spec, log);
    this.#current = child;
    const stable = setTimeout(() => {
      this.#crashesInARow = 0;
    }, STABLE_AFTER_MS).unref();
    try {
      if (pidFile !== undefined) await writePidFile(pidFile, child.pid);
      if (await child.ready) {
        this.#wasReady = true;
        onReady();
      } else {
        await child.terminate({ signal: 'SIGKILL', graceMs: 0 });
      }
      return await child.exited;
    } finally {
      clearTimeout(stable);
      this.#current = undefined;
      if (pidFile !== undefined) await rm(pidFile, { force: true });
    }
  }

  async #pause(ms: number): Promise<void> {
    const over = Promise.withResolvers<void>();
    const timer = setTimeout(over.resolve, ms);
    await Promise.race([over.promise, this.#stopped.promise]);
    clearTimeout(timer);
  }
}

/**
 * Starts a child, and stops it when the signal aborts before the child is ready.
 * @throws ChildGaveUpError, or the signal's reason.
 */
export async function startUnlessAborted(child: SupervisedChild, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  const stopped = Promise.withResolvers<void>();
  const stop = () => child.stop(ABORTED_START_STOP).then(stopped.resolve, stopped.reject);
  signal?.addEventListener('abort', stop);
  await child.start();
  signal?.removeEventListener('abort', stop);
  if (signal?.aborted === true) {
    await stopped.promise;
    throw signal.reason;
  }
}

/**
 * Stops children one after another within `totalMs`. Each child gets an equal share of the time that is left, so that time
 * which one does not use benefits the next ones.
 * @param killNow when aborted, the children that still run are killed at once.
 */
export async function stopInOrder(
  children: readonly Pick<SupervisedChild, 'stop'>[],
  totalMs: number,
  killNow: AbortSignal,
  nowMs: () => number,
): Promise<void> {
  const deadlineMs = nowMs() + totalMs;
  for (const [index, child] of children.entries()) {
    const graceMs = Math.max(0, (deadlineMs - nowMs()) / (children.length - index));
    const stopping = child.stop(killNow.aborted ? { signal: 'SIGKILL', graceMs: 0 } : { graceMs });
    const kill = () => void child.stop({ signal: 'SIGKILL', graceMs: 0 });
    killNow.addEventListener('abort', kill);
    await stopping;
    killNow.removeEventListener('abort', kill);
  }
}

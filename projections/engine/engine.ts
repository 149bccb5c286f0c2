/**
 * Fills read models from the event store and keeps them filled.
 *
 * How it works. Postgres holds the runs; the lane assignment says which lanes this process owns. A few times a second the
 * engine reads both and reconciles its reader groups with them. All runs that serve share one group, and so one reader. A run
 * that is built has a group of its own, so that it never slows down the runs that serve; when it is level with the run that
 * serves in every lane, the engine promotes it. When runs or lanes change, the engine stops the groups that this concerns and
 * starts new ones from the checkpoints. A start, a restart after a crash and the take-over of a lane all follow this one path.
 * Parked units are retried beside the groups (`parking/parked-retries.ts`).
 */

import type { EventStore, StoredMessage } from '../../platform/event-store/store.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { isRetryable, type RetryPolicy, retryWithBackoff } from '../../platform/retry/retry-policy.ts';
import { abortableSleep } from './abortable-sleep.ts';
import { BatchFiller } from './fill/batch-filler.ts';
import { type Filler, type FillOptions, RebuildFailedError } from './fill/filler.ts';
import { FoldFiller, PoisonedFoldError } from './fill/fold-filler.ts';
import { promoteWhenLevel } from './fill/promotion.ts';
import { ALL_LANES } from './lanes/lane-assignment.ts';
import { retryParkedUnits } from './parking/parked-retries.ts';
import type { Projection } from './projection.ts';
import { ReaderGroup } from './reader-group.ts';
import { dropEndedRuns } from './runs/drop-runs.ts';
import { hasPassedPosition } from './runs/promote-run.ts';
import { activeRuns, endRun, ensureRun, type Run, startRequestedRun } from './runs/runs.ts';
import { desiredGroups, type Share } from './shares.ts';

const RECONCILE_INTERVAL_MS = 250;
const POSITION_POLL_INTERVAL_MS = 20;
const DROP_INTERVAL_MS = 5_000;

export interface EngineOptions extends Pick<RetryPolicy, 'signal' | 'log'> {
  readonly postgres: Postgres;
  readonly store: EventStore;
  readonly projections: readonly Projection[];
  /** The lanes that this process owns; the engine calls a function at each reconciliation. @default ALL_LANES */
  readonly lanes?: readonly number[] | ((projection: Projection) => readonly number[]);
  /** Monotonic, in milliseconds. */
  readonly clock: () => number;
  /** From 0 to 1, for jitter. @default Math.random */
  readonly random?: () => number;
  /** Called once, when every event that the store held at the start is applied in runs that serve. */
  readonly onCaughtUp?: () => void;
  /** Called after each committed transaction. Must not throw. */
  readonly onApplied?: FillOptions['onApplied'];
}

/**
 * Runs until the signal aborts and the running transactions have ended.
 *
 * @throws terminal errors: GapError, CheckpointBeyondEndError, CheckpointWentBackError, ObsoleteProjectionError,
 *   RebuildFailedError of a run of a new version, and what a faulty projection throws
 */
export async function runProjections(options: EngineOptions): Promise<void> {
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const retryPolicy: RetryPolicy = { signal, log: options.log, sleep: (ms) => abortableSleep(signal, ms) };
  const engine = new Engine(options, retryPolicy);
  try {
    const tasks = [
      engine.run(),
      engine.reportCaughtUp(),
      dropEndedRunsPeriodically(options, retryPolicy),
      ...options.projections.map(({ name }) => engine.retryParked(name)),
    ];
    // The first failure stops the other tasks; this function returns when all have ended.
    const guarded = tasks.map((task) => task.catch(abortAndRethrow(failed)));
    await Promise.allSettled(guarded);
    await Promise.all(guarded);
  } catch (error) {
    if (options.signal.aborted && isRetryable(error)) return;
    throw error;
  }
}

function abortAndRethrow(failed: AbortController) {
  return (error: unknown): never => {
    failed.abort();
    throw error;
  };
}

class Engine {
  readonly #options: EngineOptions;
  readonly #retryPolicy: RetryPolicy;
  /** The running groups, each by the key of its shares. */
  readonly #groups = new Map<string, ReaderGroup>();
  /** Messages that are no commit and were logged: several fillers receive the same message. */
  readonly #loggedMalformed = new WeakSet<StoredMessage>();
  /** Ids of the runs that cannot be folded and are filled batch by batch. */
  readonly #unfoldableRuns = new Set<number>();
  readonly #loggedObsolete = new Set<string>();
  /** What this process fills, as of the last reconciliation. */
  #shares: readonly Share[] = [];
  #runsChanged = Promise.withResolvers<void>();

  constructor(options: EngineOptions, retryPolicy: RetryPolicy) {
    this.#options = options;
    this.#retryPolicy = retryPolicy;
  }

  async run(): Promise<void> {
    const { postgres, projections } = this.#options;
    const { signal, sleep } = this.#retryPolicy;
    try {
      const end = await this.#readStoreEnd(this.#retryPolicy);
      for (const projection of projections)
        await retryWithBackoff('preparing a projection', this.#retryPolicy, () =>
          ensureRun(postgres, projection, end === 0),
        );
      while (!signal.aborted) {
        await retryWithBackoff('reconciling the runs', this.#retryPolicy, () => this.#reconcile());
        await Promise.race([sleep(RECONCILE_INTERVAL_MS), this.#runsChanged.promise]);
        this.#runsChanged = Promise.withResolvers();
      }
    } finally {
      await Promise.all([...this.#groups.values()].map((group) => group.stop()));
    }
    // `hasEnded` throws the terminal error of a group that failed after the last reconciliation.
    for (const group of this.#groups.values()) void group.hasEnded;
  }

  /** Calls `onCaughtUp` when the runs that serve have passed the end of the store as it was at the start. */
  async reportCaughtUp(): Promise<void> {
    const { signal, sleep } = this.#retryPolicy;
    const end = await this.#readStoreEnd(this.#retryPolicy);
    const hasCaughtUp = () => retryWithBackoff('reading checkpoints', this.#retryPolicy, () => this.#hasPassed(end));
    while (!signal.aborted && !(await hasCaughtUp())) await sleep(POSITION_POLL_INTERVAL_MS);
    if (!signal.aborted) this.#options.onCaughtUp?.();
  }

  /** Retries the parked units of one read model, beside the groups that fill it. */
  retryParked(projection: string): Promise<void> {
    const { postgres, store, clock, random = Math.random, onApplied = () => undefined } = this.#options;
    return retryParkedUnits(projection, {
      ...this.#retryPolicy,
      ...{ postgres, store, clock, random, onApplied },
      shares: () => this.#shares.filter(({ run }) => run.projection === projection),
    });
  }

  #readStoreEnd(retryPolicy: RetryPolicy): Promise<number> {
    return retryWithBackoff('reading the end of the event store', retryPolicy, () =>
      this.#options.store.lastSequence(),
    );
  }

  /**
   * Whether every projection serves beyond a position. It looks at the lanes of other processes too, because no process owns the
   * lanes of one that has just crashed.
   */
  async #hasPassed(end: number): Promise<boolean> {
    const { postgres, projections } = this.#options;
    const passedHere = new Map<string, number>();
    for (const { fillers } of this.#groups.values()) {
      for (const { run, lowestPosition } of fillers)
        if (run.status === 'serving' && lowestPosition >= end) passedHere.set(run.projection, run.id);
    }
    if (!projections.every(({ name }) => passedHere.has(name))) return false;
    const passed = await Promise.all(
      [...passedHere.values()].map((runId) => hasPassedPosition(postgres.sql, runId, end)),
    );
    return passed.every((hasPassed) => hasPassed);
  }

  /** Stops and starts groups until they are exactly those that runs and lanes ask for. */
  async #reconcile(): Promise<void> {
    const { postgres, projections } = this.#options;
    const names = projections.map(({ name }) => name);
    const runs = await activeRuns(postgres.sql, names);
    const shares = runs.flatMap((run) => this.#shareOf(run));
    for (const { run, projection } of shares)
      if (run.status === 'requested') await startRequestedRun(postgres, projection, run);
    this.#shares = shares;
    const desired = desiredGroups(shares);
    for (const [key, group] of this.#groups) {
      if (desired.has(key) && !(await this.#mustRestart(group, desired.get(key) ?? []))) continue;
      await group.stop();
      this.#groups.delete(key);
    }
    for (const [key, groupShares] of desired)
      if (!this.#groups.has(key)) this.#groups.set(key, this.#startGroup(groupShares));
  }

  /** @returns no share when this process owns no lane of the run, or the run has another version than this code */
  #shareOf(run: Run): Share[] {
    const { projections, lanes = ALL_LANES, log } = this.#options;
    const projection = projections.find(({ name }) => name === run.projection);
    if (projection === undefined) return [];
    if (run.version > projection.version && run.status === 'serving' && !this.#loggedObsolete.has(run.projection)) {
      this.#loggedObsolete.add(run.projection);
      log.warn('a newer version of a projection serves: this process stops filling the projection; update its code', {
        projection: run.projection,
      });
    }
    if (run.version !== projection.version) return [];
    const own = typeof lanes === 'function' ? lanes(projection) : lanes;
    return own.length === 0 ? [] : [{ run, projection, lanes: own }];
  }

  /** Whether a group has ended by itself and the engine must start it again. @throws the terminal error that ended it */
  async #mustRestart(group: ReaderGroup, shares: readonly Share[]): Promise<boolean> {
    const { postgres, log } = this.#options;
    try {
      return group.hasEnded;
    } catch (error) {
      const run = shares[0]?.run;
      if (run === undefined || run.status !== 'building') throw error;
      if (error instanceof PoisonedFoldError) {
        log.warn('a run cannot be filled by folding: it is filled batch by batch, which is slower', {
          schema: run.schema,
          error,
        });
        this.#unfoldableRuns.add(run.id);
        return true;
      }
      if (!(error instanceof RebuildFailedError) || run.reason !== 'request') throw error;
      log.error('a rebuild failed: the old run still serves', { projection: run.projection, error });
      await endRun(postgres.sql, run.id, 'failed', error.message);
      return true;
    }
  }

  #startGroup(shares: readonly Share[]): ReaderGroup {
    const { store } = this.#options;
    const isBuilding = shares[0]?.run.status === 'building';
    const { signal, log } = this.#retryPolicy;
    return new ReaderGroup({
      ...{ signal, log, store },
      createFillers: (retryPolicy) => shares.map((share) => this.#createFiller(share, retryPolicy)),
      ...(isBuilding ? { backgroundTask: ([filler], retryPolicy) => this.#promote(filler, retryPolicy) } : {}),
    });
  }

  async #promote(filler: Filler | undefined, retryPolicy: RetryPolicy): Promise<void> {
    const { postgres, store, clock } = this.#options;
    const onPromoted = () => this.#runsChanged.resolve();
    if (filler !== undefined) await promoteWhenLevel(filler, { postgres, store, clock, onPromoted }, retryPolicy);
  }

  #createFiller({ run, projection, lanes }: Share, retryPolicy: RetryPolicy): Filler {
    const { postgres, clock, onApplied = () => undefined } = this.#options;
    const options: FillOptions = {
      ...retryPolicy,
      ...{ postgres, projection, run, lanes, clock, onApplied },
      onMalformed: (message, reason) => this.#logMalformed(message, reason),
    };
    const isFolded = run.status === 'building' && !this.#unfoldableRuns.has(run.id);
    return isFolded ? new FoldFiller(options) : new BatchFiller(options);
  }

  #logMalformed(message: StoredMessage, reason: string): void {
    if (this.#loggedMalformed.has(message)) return;
    this.#loggedMalformed.add(message);
    const { sequence, unit, aggregate } = message;
    this.#options.log.error('a message of the event store is no commit: the projections skip it', {
      sequence,
      unit,
      aggregate,
      reason,
    });
  }
}

async function dropEndedRunsPeriodically({ postgres }: EngineOptions, retryPolicy: RetryPolicy): Promise<void> {
  const { signal, sleep, log } = retryPolicy;
  while (!signal.aborted) {
    await sleep(DROP_INTERVAL_MS);
    try {
      if (!signal.aborted) await dropEndedRuns(postgres, log);
    } catch (error) {
      log.warn('the schemas of ended runs could not be dropped; the next attempt follows in 5 s', { error });
    }
  }
}

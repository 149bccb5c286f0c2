/**
 * Fills projections from the event store and keeps them filled.
 *
 * How it works. Which runs there are stands in Postgres, which lanes this process has says whoever deals them; a few times a
 * second both are looked at. All runs that serve share one reader. A run that is built beside an old one has a reader of its
 * own, so that nobody waits for it; when it is level with the old one in every lane, it takes its place. Whenever runs or
 * lanes change, the groups that this touches are stopped and made anew from the checkpoints: there is no other way in which
 * anything begins, goes on after a crash, or is taken over from somebody else.
 */

import { LANE_COUNT } from '../../domain/shard.ts';
import type { EventStore, StoredMessage } from '../../platform/event-store/store.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { isRetryable, type RetryPolicy, retryWithBackoff } from '../../platform/retry/retry-policy.ts';
import { BatchFiller, type Filler, type FillOptions, RebuildFailedError } from './fill/batch-filler.ts';
import { FoldFiller, PoisonedFoldError } from './fill/fold-filler.ts';
import { retryAllParked, retryRequestedUnits } from './parking/parking.ts';
import type { Projection } from './projection.ts';
import { ReaderGroup } from './reader-group.ts';
import { dropEndedRuns } from './runs/drop-runs.ts';
import {
  activeRuns,
  endRun,
  ensureRun,
  hasPassedPosition,
  promoteRun,
  type Run,
  startRequestedRun,
} from './runs/runs.ts';
import { sleepUnless } from './sleep.ts';

/** How often runs and lanes are looked at. */
const LOOK_INTERVAL_MS = 250;
const CAUGHT_UP_POLL_MS = 20;
const TAKE_OVER_INTERVAL_MS = 500;
const DROP_INTERVAL_MS = 5_000;

export const ALL_LANES: readonly number[] = Array.from({ length: LANE_COUNT }, (_, lane) => lane);

export interface EngineOptions extends Pick<RetryPolicy, 'signal' | 'log'> {
  readonly postgres: Postgres;
  readonly store: EventStore;
  readonly projections: readonly Projection[];
  /** The lanes of this process; asked again and again. @default ALL_LANES */
  readonly lanes?: readonly number[] | ((projection: Projection) => readonly number[]);
  /** Milliseconds of a clock that nobody sets. */
  readonly clock: () => number;
  /** Called once, when everything that was in the store at the start is applied, and serves. */
  readonly onCaughtUp?: () => void;
  /** Called after each transaction that was committed. Must not throw. */
  readonly onApplied?: FillOptions['onApplied'];
}

/**
 * Runs until the signal; then the transactions that are under way end.
 *
 * @throws what does not pass by itself: GapError, CheckpointBeyondEndError, CheckpointWentBackError,
 *   ObsoleteProjectionError, RebuildFailedError of a new version, or what a broken projection throws
 */
export async function runProjections(options: EngineOptions): Promise<void> {
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const retryPolicy: RetryPolicy = { signal, log: options.log, sleep: (ms) => sleepUnless(signal, ms) };
  const engine = new Engine(options, retryPolicy);
  try {
    const tasks = [engine.run(), engine.tellWhenCaughtUp(), dropFromTimeToTime(options, retryPolicy)];
    // The first failure stops the others; all have ended before this returns.
    const guarded = tasks.map((task) => task.catch(stopAll(failed)));
    await Promise.allSettled(guarded);
    await Promise.all(guarded);
  } catch (error) {
    if (options.signal.aborted && isRetryable(error)) return;
    throw error;
  }
}

function stopAll(failed: AbortController) {
  return (error: unknown): never => {
    failed.abort();
    throw error;
  };
}

/** What a group is made of: the runs, each with the lanes of this process. */
interface Share {
  readonly run: Run;
  readonly projection: Projection;
  readonly lanes: readonly number[];
}

class Engine {
  readonly #options: EngineOptions;
  readonly #retryPolicy: RetryPolicy;
  /** By what they are made of. */
  readonly #groups = new Map<string, ReaderGroup>();
  readonly #malformed = new WeakSet<StoredMessage>();
  /** Runs of which the parked units were tried by this code. */
  readonly #triedParked = new Set<number>();
  /** Runs that cannot be folded: they are filled batch by batch. */
  readonly #unfoldable = new Set<number>();
  readonly #saidObsolete = new Set<string>();
  #wake = Promise.withResolvers<void>();

  constructor(options: EngineOptions, retryPolicy: RetryPolicy) {
    this.#options = options;
    this.#retryPolicy = retryPolicy;
  }

  async run(): Promise<void> {
    const { postgres, store, projections } = this.#options;
    const { signal, sleep } = this.#retryPolicy;
    try {
      const end = await retryWithBackoff('reading the event store', this.#retryPolicy, () => store.lastSequence());
      for (const projection of projections)
        await retryWithBackoff('preparing a projection', this.#retryPolicy, () =>
          ensureRun(postgres, projection, end === 0),
        );
      while (!signal.aborted) {
        await retryWithBackoff('looking at the runs', this.#retryPolicy, () => this.#look());
        await Promise.race([sleep(LOOK_INTERVAL_MS), this.#wake.promise]);
        this.#wake = Promise.withResolvers();
      }
    } finally {
      await Promise.all([...this.#groups.values()].map((group) => group.stop()));
    }
    for (const group of this.#groups.values()) void group.hasEnded;
  }

  async tellWhenCaughtUp(): Promise<void> {
    const { signal, sleep } = this.#retryPolicy;
    const { store, onCaughtUp } = this.#options;
    const end = await retryWithBackoff('reading the event store', this.#retryPolicy, () => store.lastSequence());
    const look = () => retryWithBackoff('reading checkpoints', this.#retryPolicy, () => this.#isLevel(end));
    while (!signal.aborted && !(await look())) await sleep(CAUGHT_UP_POLL_MS);
    if (!signal.aborted) onCaughtUp?.();
  }

  /** Here, and in the lanes of others: those of a process that has just died are nobody's for a moment. */
  async #isLevel(end: number): Promise<boolean> {
    const { postgres, projections } = this.#options;
    const level = new Map<string, number>();
    for (const { fillers } of this.#groups.values()) {
      for (const { run, lowestPosition: appliedTo } of fillers)
        if (run.status === 'serving' && appliedTo >= end) level.set(run.projection, run.id);
    }
    if (!projections.every(({ name }) => level.has(name))) return false;
    const passed = await Promise.all([...level.values()].map((runId) => hasPassedPosition(postgres.sql, runId, end)));
    return passed.every((isPassed) => isPassed);
  }

  /** Lets exactly those groups run that runs and lanes ask for. */
  async #look(): Promise<void> {
    const { postgres, projections } = this.#options;
    const names = projections.map(({ name }) => name);
    const runs = await activeRuns(postgres.sql, names);
    const shares = runs.flatMap((run) => this.#shareOf(run));
    for (const { run, projection } of shares)
      if (run.status === 'requested') await startRequestedRun(postgres, projection, run);
    await this.#tryParked(shares);
    const wanted = this.#wantedGroups(shares);
    for (const [key, group] of this.#groups) {
      if (wanted.has(key) && !(await this.#isOver(group, wanted.get(key) ?? []))) continue;
      await group.stop();
      this.#groups.delete(key);
    }
    for (const [key, members] of wanted) if (!this.#groups.has(key)) this.#groups.set(key, this.#start(members));
  }

  /** A run of this code's version, in as far as this process has lanes of it. */
  #shareOf(run: Run): Share[] {
    const { projections, lanes = ALL_LANES, log } = this.#options;
    const projection = projections.find(({ name }) => name === run.projection);
    if (projection === undefined) return [];
    if (run.version > projection.version && run.status === 'serving' && !this.#saidObsolete.has(run.projection)) {
      this.#saidObsolete.add(run.projection);
      log.warn('newer code fills a projection: this process no longer does', { projection: run.projection });
    }
    if (run.version !== projection.version) return [];
    const own = typeof lanes === 'function' ? lanes(projection) : lanes;
    return own.length === 0 ? [] : [{ run, projection, lanes: own }];
  }

  #wantedGroups(shares: readonly Share[]): Map<string, readonly Share[]> {
    const serving = shares.filter(({ run }) => run.status === 'serving');
    const building = shares.filter(({ run }) => run.status === 'building');
    const groups = [...(serving.length > 0 ? [serving] : []), ...building.map((share) => [share])];
    return new Map(groups.map((group) => [group.map(keyOf).join(' '), group]));
  }

  /** Whether a group has ended by itself and is to be made anew. @throws what ended it for good */
  async #isOver(group: ReaderGroup, members: readonly Share[]): Promise<boolean> {
    const { postgres, log } = this.#options;
    try {
      return group.hasEnded;
    } catch (error) {
      const run = members[0]?.run;
      if (run === undefined || run.status !== 'building') throw error;
      if (error instanceof PoisonedFoldError) {
        log.warn('a run cannot be folded: it is filled batch by batch', { schema: run.schema, error });
        this.#unfoldable.add(run.id);
        return true;
      }
      if (!(error instanceof RebuildFailedError) || run.reason !== 'request') throw error;
      log.error('a rebuild has failed: the old run goes on serving', { projection: run.projection, error });
      await endRun(postgres.sql, run.id, 'failed', error.message);
      return true;
    }
  }

  #start(members: readonly Share[]): ReaderGroup {
    const { store } = this.#options;
    const isBuilding = members[0]?.run.status === 'building';
    const { signal, log } = this.#retryPolicy;
    return new ReaderGroup({
      ...{ signal, log, store },
      createFillers: (retryPolicy) => members.map((share) => this.#fillerOf(share, retryPolicy)),
      ...(isBuilding
        ? { backgroundTask: ([filler], retryPolicy) => this.#takeOverWhenLevel(filler, retryPolicy) }
        : {}),
    });
  }

  #fillerOf({ run, projection, lanes }: Share, retryPolicy: RetryPolicy): Filler {
    const { postgres, clock, onApplied = () => undefined } = this.#options;
    const options: FillOptions = {
      ...retryPolicy,
      ...{ postgres, projection, run, lanes, clock, onApplied },
      onMalformed: (message, reason) => this.#tellMalformed(message, reason),
    };
    return run.status === 'building' && !this.#unfoldable.has(run.id)
      ? new FoldFiller(options)
      : new BatchFiller(options);
  }

  #tellMalformed(message: StoredMessage, reason: string): void {
    if (this.#malformed.has(message)) return;
    this.#malformed.add(message);
    const { sequence, unit, aggregate } = message;
    this.#options.log.error('a message of the event store is no commit: it is skipped', {
      sequence,
      unit,
      aggregate,
      reason,
    });
  }

  async #takeOverWhenLevel(filler: Filler | undefined, retryPolicy: RetryPolicy): Promise<void> {
    const { postgres, store, log } = this.#options;
    const { signal, sleep } = retryPolicy;
    if (filler === undefined) return;
    const { run } = filler;
    while (!signal.aborted) {
      const end = await retryWithBackoff('reading the event store', retryPolicy, () => store.lastSequence());
      while (!signal.aborted && filler.lowestPosition < end) await sleep(CAUGHT_UP_POLL_MS);
      if (signal.aborted) return;
      const outcome = await retryWithBackoff('taking over', retryPolicy, async () =>
        (await hasPassedPosition(postgres.sql, run.id, end)) ? promoteRun(postgres, run, end, sleep) : 'behind',
      );
      if (outcome === 'serving') {
        log.info('a run of a projection serves', { projection: run.projection, schema: run.schema });
        this.#wake.resolve();
      }
      if (outcome !== 'behind') return;
      await sleep(TAKE_OVER_INTERVAL_MS);
    }
  }

  /** Takes up parked units: all of a run that this code has not seen before, then those that somebody asks for. */
  async #tryParked(shares: readonly Share[]): Promise<void> {
    const { postgres, store, onApplied, log } = this.#options;
    for (const { run, projection, lanes } of shares) {
      if (run.status === 'requested') continue;
      const isNew = !this.#triedParked.has(run.id);
      this.#triedParked.add(run.id);
      const retryParked = isNew ? retryAllParked : retryRequestedUnits;
      const units = await retryParked({ postgres, store, log }, projection, run, lanes);
      if (units.length > 0) onApplied?.(run, { events: 0, units: new Set(units) });
    }
  }
}

function keyOf({ run, lanes }: Share): string {
  return `${run.id} ${run.status} ${lanes.join()}`;
}

async function dropFromTimeToTime({ postgres }: EngineOptions, retryPolicy: RetryPolicy): Promise<void> {
  const { signal, sleep, log } = retryPolicy;
  while (!signal.aborted) {
    await sleep(DROP_INTERVAL_MS);
    try {
      if (!signal.aborted) await dropEndedRuns(postgres, log);
    } catch (error) {
      log.warn('schemas of ended runs stay for now', { error });
    }
  }
}

/**
 * Fills projections from the event store and keeps them filled.
 *
 * Runs that serve share one reader. A run of a new version that is being built beside the old one has a reader of its own,
 * so that nobody waits for it; when it is level with the old one in every lane, it takes its place.
 */

import { setTimeout as pause } from 'node:timers/promises';
import { LANE_COUNT } from '../../domain/shard.ts';
import type { EventStore, StoredMessage } from '../../platform/event-store/store.ts';
import { mayPass, type Patience, untilItWorks } from '../../platform/patience.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { Intake } from './intake.ts';
import { takeUp } from './parking.ts';
import type { Projection } from './projection.ts';
import { readInto, requireInStore, watchEnd } from './reader.ts';
import { Runner } from './runner.ts';
import { ensureRun, takeOver } from './runs.ts';

const CAUGHT_UP_POLL_MS = 20;
const TAKE_OVER_INTERVAL_MS = 500;

export const ALL_LANES: readonly number[] = Array.from({ length: LANE_COUNT }, (_, lane) => lane);

export interface EngineOptions extends Pick<Patience, 'signal' | 'log'> {
  readonly postgres: Postgres;
  readonly store: EventStore;
  readonly projections: readonly Projection[];
  /** The lanes of this process. @default ALL_LANES */
  readonly lanes?: readonly number[];
  /** Milliseconds of a clock that nobody sets. */
  readonly clock: () => number;
  /** Called once, when everything that was in the store at the start is applied in every run. */
  readonly onCaughtUp?: () => void;
}

/**
 * Runs until the signal; then the transactions that are under way end.
 *
 * @throws what does not pass by itself: GapError, CheckpointBeyondEndError, CheckpointWentBackError,
 *   ObsoleteProjectionError, RebuildFailedError, or what a broken projection throws
 */
export async function runProjections(options: EngineOptions): Promise<void> {
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const patience: Patience = { signal, log: options.log, sleep: (ms) => sleepUnless(signal, ms) };
  try {
    const runners = await prepare(options, patience);
    const serving = runners.filter(({ run }) => run.status === 'serving');
    const building = runners.filter(({ run }) => run.status === 'building');
    const groups = [...(serving.length > 0 ? [serving] : []), ...building.map((runner) => [runner])];
    const tasks = [
      ...groups.flatMap((group) => fill(group, options, patience)),
      ...building.map((runner) => takeOverWhenLevel(runner, options, patience)),
      tellWhenCaughtUp(runners, options, patience),
    ];
    // The first failure stops the others; all have ended before this returns.
    const guarded = tasks.map((task) => task.catch(stopAll(failed)));
    await Promise.allSettled(guarded);
    await Promise.all(guarded);
  } catch (error) {
    if (options.signal.aborted && mayPass(error)) return;
    throw error;
  }
}

function stopAll(failed: AbortController) {
  return (error: unknown): never => {
    failed.abort();
    throw error;
  };
}

/** Finds or makes the runs, and takes up what was parked. */
async function prepare(options: EngineOptions, patience: Patience): Promise<Runner[]> {
  const { postgres, store, projections, lanes = ALL_LANES, clock, log } = options;
  const malformed = new WeakSet<StoredMessage>();
  const onMalformed = (message: StoredMessage, reason: string) => {
    if (malformed.has(message)) return;
    malformed.add(message);
    const { sequence, unit, aggregate } = message;
    log.error('a message of the event store is no commit: it is skipped', { sequence, unit, aggregate, reason });
  };
  const runners: Runner[] = [];
  for (const projection of projections) {
    const run = await untilItWorks('preparing a projection', patience, () => ensureRun(postgres, projection));
    const runner = new Runner({ ...patience, postgres, projection, run, lanes, clock, onMalformed });
    await untilItWorks('reading checkpoints', patience, () => runner.reload());
    await untilItWorks('reading the event store', patience, () => requireInStore(store, runner.reachedTo));
    for (const unit of runner.parkedUnits) {
      const again = await untilItWorks('taking up a parked unit', patience, () =>
        takeUp({ postgres, store }, projection, run, unit),
      );
      if (again === undefined) log.info('a parked unit was taken up', { projection: run.projection, unit });
      else log.error('a parked unit stays parked', { projection: run.projection, ...again });
    }
    if (runner.parkedUnits.length > 0) await untilItWorks('reading checkpoints', patience, () => runner.reload());
    log.info('filling a projection', { projection: run.projection, schema: run.schema, from: runner.appliedTo });
    runners.push(runner);
  }
  return runners;
}

/** One reader, and what it feeds. */
function fill(runners: readonly Runner[], { store }: EngineOptions, patience: Patience): Promise<void>[] {
  const fed = runners.map((runner) => ({ runner, intake: new Intake(runner.appliedTo) }));
  const intakes = fed.map(({ intake }) => intake);
  return [
    readInto(intakes, store, patience),
    watchEnd(intakes, store, patience),
    ...fed.map(({ runner, intake }) => runner.fillFrom(intake)),
  ];
}

async function takeOverWhenLevel(
  runner: Runner,
  { postgres, store }: EngineOptions,
  patience: Patience,
): Promise<void> {
  const { signal, sleep, log } = patience;
  while (!signal.aborted) {
    const end = await untilItWorks('reading the event store', patience, () => store.lastSequence());
    while (!signal.aborted && runner.appliedTo < end) await sleep(CAUGHT_UP_POLL_MS);
    if (signal.aborted) return;
    const isServing = await untilItWorks('taking over', patience, () => takeOver(postgres, runner.run, end, sleep));
    if (isServing) {
      runner.serve();
      log.info('a new version of a projection serves', {
        projection: runner.run.projection,
        schema: runner.run.schema,
      });
      return;
    }
    await sleep(TAKE_OVER_INTERVAL_MS);
  }
}

async function tellWhenCaughtUp(runners: readonly Runner[], options: EngineOptions, patience: Patience): Promise<void> {
  const { signal, sleep } = patience;
  const end = await untilItWorks('reading the event store', patience, () => options.store.lastSequence());
  const isLevel = () => runners.every((runner) => runner.appliedTo >= end && runner.run.status === 'serving');
  while (!signal.aborted && !isLevel()) await sleep(CAUGHT_UP_POLL_MS);
  if (!signal.aborted) options.onCaughtUp?.();
}

/** Sleeps until the time is over or the process stops. */
async function sleepUnless(signal: AbortSignal, ms: number): Promise<void> {
  try {
    await pause(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

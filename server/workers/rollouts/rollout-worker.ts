/**
 * The rollout worker advances every running rollout: it makes the rollout's configuration the desired one of unit after unit at
 * the rollout's pace, aborts a rollout with too many failures, withdraws the changes of an aborted one, and completes a rollout
 * when each of its units has an outcome. The configuration worker pushes the configurations, as it does for every other change.
 *
 * Any number of processes may run it, because each step locks the row of its rollout. The id of a command names the rollout and
 * the unit, so a step that is repeated after a crash decides nothing twice.
 */

import { requireConfigured } from '../../../domain/configuration/configuration.ts';
import { changeConfiguration, withdrawChange } from '../../../domain/configuration/delivery.ts';
import {
  isAbortThresholdReached,
  type RolloutChanges,
  type RolloutUnitStatus,
  unitsDue,
} from '../../../domain/configuration/rollout.ts';
import type { ConfigurationValues } from '../../../domain/configuration-values.ts';
import { Refusal } from '../../../domain/refusal.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { chunksOf } from '../../../platform/batching/chunks-of.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { Postgres, Sql, Tx } from '../../../platform/postgres/connection.ts';
import { type Idle, poll } from '../../../platform/retry/poll.ts';
import {
  claimRollout,
  listUnfinishedRolloutIds,
  listUnstartedUnits,
  markUnitsStarted,
  markUnitsWithdrawn,
  type Rollout,
  type RolloutUnit,
  type StartedUnit,
  updateRolloutStatus,
} from '../../../platform/rollouts/rollout-store.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';

/** From the start of one poll of the unfinished rollouts to the start of the next. */
const POLL_INTERVAL_MS = 500;
/** Greatest share of the time for polls, without the pauses between the units of a step. */
const MAX_POLL_DUTY = 0.2;
/** Running time that one step may add to a rollout: after an outage a rollout resumes its pace and does not catch up at once. */
const MAX_STEP_MS = 5_000;
/** Units that one step starts or withdraws. */
const MAX_UNITS_PER_STEP = 1_000;
/** Units on which one step decides at the same time: more would delay the decisions that customers and operators wait for. */
const MAX_CONCURRENT_DECISIONS = 8;
const ACTOR = 'platform:rollout';
const SOURCE = '/lockfleet/server';

export interface RolloutWorkerOptions {
  readonly postgres: Postgres;
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** Counts the units of a rollout by status. The read model may lag. */
  readonly countUnits: (sql: Sql, id: string) => Promise<Partial<Record<RolloutUnitStatus, number>>>;
  /** Lists units whose desired version is the one of the rollout and not proved, with the values that were desired before. */
  readonly listUnprovedUnits: (sql: Sql, id: string, limit: number) => Promise<readonly UnprovedUnit[]>;
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

interface UnprovedUnit extends RolloutUnit {
  readonly version: number;
  readonly former: ConfigurationValues;
}

/** Runs until `signal` aborts and the running step has ended. */
export function runRolloutWorker(options: RolloutWorkerOptions): Promise<void> {
  const { postgres, clock, signal, sleep, log } = options;
  const polling = { name: 'advancing the rollouts', intervalMs: POLL_INTERVAL_MS, maxDuty: MAX_POLL_DUTY };
  return poll({ ...polling, clock, signal, sleep, log }, async (idle) => {
    const ids = await listUnfinishedRolloutIds(postgres.sql);
    const pacing = { spreadMs: POLL_INTERVAL_MS / ids.length, idle, clock, signal };
    for (const id of ids) if (!signal.aborted) await advance(id, pacing, options);
  });
}

/** Advances one rollout by one step, unless another process is doing so. */
async function advance(id: string, pacing: Pacing, options: RolloutWorkerOptions): Promise<void> {
  await options.postgres.transaction(async (tx) => {
    const rollout = await claimRollout(tx, id, MAX_STEP_MS);
    if (rollout === undefined) return;
    if (rollout.status === 'aborting') await withdrawUnits(tx, rollout, pacing, options);
    else await startUnits(tx, rollout, pacing, options);
  });
}

async function startUnits(tx: Tx, rollout: Rollout, pacing: Pacing, options: RolloutWorkerOptions): Promise<void> {
  const counts = await options.countUnits(tx, rollout.id);
  const sum = (...statuses: readonly RolloutUnitStatus[]) =>
    statuses.reduce((total, status) => total + (counts[status] ?? 0), 0);
  const total = Object.values(counts).reduce((all, units) => all + units, 0);
  const waiting = sum('waiting');
  const started = total - waiting - sum('skipped');
  const failed = sum('rejected', 'failed');
  if (isAbortThresholdReached(rollout.abortThreshold, { failed, started })) {
    const reason = `${failed} of ${started} units rejected the configuration or failed to apply it`;
    await updateRolloutStatus(tx, rollout.id, { status: 'aborting', by: ACTOR, reason });
    options.log.error('A rollout reached its abort threshold. The worker withdraws its changes from unproved units.', {
      rollout: rollout.id,
      reason,
    });
    return;
  }
  const due = Math.min(waiting, MAX_UNITS_PER_STEP, unitsDue(rollout.pace, rollout.ranMs) - (total - waiting));
  if (due > 0) {
    const units = await listUnstartedUnits(tx, rollout.id, due);
    await markUnitsStarted(tx, rollout.id, await mapPaced(units, pacing, (unit) => startUnit(unit, rollout, options)));
  }
  if (waiting === 0 && sum('pending', 'queued', 'failed') === 0) {
    await updateRolloutStatus(tx, rollout.id, { status: 'completed', by: ACTOR });
  }
}

/** Makes the values of a rollout the desired ones of a unit. A unit that refuses them is skipped. */
async function startUnit(
  { ordinal, unit }: RolloutUnit,
  { id, changes, createdBy }: Rollout,
  { decider }: RolloutWorkerOptions,
): Promise<StartedUnit> {
  const commandId = `${id}.${unit}`;
  const meta = { commandId, actor: createdBy, source: SOURCE, correlationId: id, priority: 'background' } as const;
  try {
    const { state } = await decider.decide(unit, 'config', meta, (current) =>
      applyChanges(current, changes, commandId),
    );
    const { desired, commandIds } = requireConfigured(state.configuration);
    // A change that others made stays theirs, also when the rollout is aborted.
    if (!commandIds.includes(commandId)) return { ordinal, skipped: 'The unit is to have these values already.' };
    return { ordinal, version: desired.version };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { ordinal, skipped: skipReason(error) };
  }
}

function applyChanges(state: UnitState, changes: RolloutChanges, commandId: string) {
  const { values } = requireConfigured(state.configuration).desired;
  return changeConfiguration(state, { commandId, values: { ...values, ...changes }, mode: 'queued' });
}

function skipReason({ message, errors }: Refusal): string {
  return [message, ...errors.map((error) => `${error.path} ${error.message}`)].join(' ');
}

/** Restores the former desired values of units that have not proved the rollout's configuration. Aborts when none is left. */
async function withdrawUnits(tx: Tx, rollout: Rollout, pacing: Pacing, options: RolloutWorkerOptions): Promise<void> {
  const { decider, listUnprovedUnits } = options;
  const { id } = rollout;
  const unproved = await listUnprovedUnits(tx, id, MAX_UNITS_PER_STEP);
  if (unproved.length === 0) {
    const { statusBy: by, statusReason } = rollout;
    await updateRolloutStatus(tx, id, {
      status: 'aborted',
      by,
      ...(statusReason === null ? {} : { reason: statusReason }),
    });
    return;
  }
  const withdrawn = await mapPaced(unproved, pacing, async ({ ordinal, unit, version, former }) => {
    const commandId = `${id}.${unit}.withdrawn`;
    const actor = rollout.statusBy;
    const meta = { commandId, actor, source: SOURCE, correlationId: id, priority: 'background' } as const;
    const { state } = await decider.decide(unit, 'config', meta, (current) =>
      withdrawChange(current, { version, former }),
    );
    return { ordinal, version: requireConfigured(state.configuration).desired.version, from: version };
  });
  // A unit that still has the rollout's version proved it in the meantime, which the read model does not show yet.
  await markUnitsWithdrawn(
    tx,
    id,
    withdrawn.filter(({ version, from }) => version !== from),
  );
}

interface Pacing {
  /** Milliseconds over which the calls are spread. */
  readonly spreadMs: number;
  readonly idle: Idle;
  readonly clock: () => number;
  readonly signal: AbortSignal;
}

/**
 * Calls `map` for `MAX_CONCURRENT_DECISIONS` items at a time, evenly spread over `spreadMs`, so that neither the event store nor
 * the units get all of them in one burst. Leaves the rest to another step when the process stops.
 */
async function mapPaced<T, R>(
  items: readonly T[],
  { spreadMs, idle, clock, signal }: Pacing,
  map: (item: T) => Promise<R>,
): Promise<R[]> {
  const startedMs = clock();
  const results: R[] = [];
  for (const chunk of chunksOf(items, MAX_CONCURRENT_DECISIONS)) {
    const waitMs = startedMs + (spreadMs * results.length) / items.length - clock();
    if (waitMs > 0) await idle(Math.min(waitMs, spreadMs));
    if (signal.aborted) break;
    results.push(...(await Promise.all(chunk.map(map))));
  }
  return results;
}

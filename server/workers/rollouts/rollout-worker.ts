/**
 * Looks after the rollouts that run: begins units when their time has come, aborts what fails too often, and tells when all is
 * done. Bringing the configurations to the units is the work of the configuration worker, as for every other change.
 *
 * Each rollout is held by whoever looks after it at that moment, so any number of processes may. What is decided on a unit is
 * named by the rollout and the unit: whoever crashed before it was noted decides nothing new.
 */

import { changeConfiguration, withdrawChange } from '../../../domain/configuration/delivery.ts';
import {
  isAbortThresholdReached,
  type RolloutChanges,
  type RolloutUnitStatus,
  unitsDue,
} from '../../../domain/configuration/rollout.ts';
import { requireConfigured } from '../../../domain/configuration/state.ts';
import type { ConfigurationValues } from '../../../domain/configuration-values.ts';
import { Refusal } from '../../../domain/refusal.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { errorMessage } from '../../../platform/observability/error-message.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { Postgres, Sql, Tx } from '../../../platform/postgres/connection.ts';
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

/** Pause between two looks. A look that takes long makes it longer, so that little time goes into looking. */
const LOOK_INTERVAL_MS = 500;
const LOOK_DUTY = 4;
/** Time that one look makes up for: after a pause of the platform, a rollout does not catch up in one go. */
const MAX_STEP_MS = 5_000;
/** Units that are begun, or withdrawn, in one look. */
const MAX_UNITS_PER_STEP = 1_000;
/** Units that are decided on at once: a crowd would stand before what people wait for. */
const MAX_DECISIONS_UNDER_WAY = 8;
const ACTOR = 'platform:rollout';
const SOURCE = '/lockfleet/server';

export interface RolloutWorkerOptions {
  readonly postgres: Postgres;
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** How many units of a rollout are in each state, as the read model knows it. */
  readonly counts: (sql: Sql, id: string) => Promise<Partial<Record<RolloutUnitStatus, number>>>;
  /** Units on which its version is wanted and not proved, with the values that were wanted before. */
  readonly unproved: (sql: Sql, id: string, limit: number) => Promise<readonly UnprovedUnit[]>;
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

interface UnprovedUnit extends RolloutUnit {
  readonly version: number;
  readonly former: ConfigurationValues;
}

/** Runs until `signal` ends it. */
export async function runRolloutWorker(options: RolloutWorkerOptions): Promise<void> {
  const { postgres, signal, sleep, clock, log } = options;
  let failing = false;
  while (!signal.aborted) {
    const startedMs = clock();
    let restedMs = 0;
    try {
      const open = await listUnfinishedRolloutIds(postgres.sql);
      for (const id of open) {
        if (!signal.aborted) restedMs += await step(id, LOOK_INTERVAL_MS / open.length, options);
      }
      failing = false;
    } catch (error) {
      if (!failing) log.warn('rollouts cannot be looked after', { reason: errorMessage(error) });
      failing = true;
    }
    const tookMs = clock() - startedMs;
    await sleep(Math.max(LOOK_INTERVAL_MS - tookMs, (tookMs - restedMs) * LOOK_DUTY));
  }
}

/** What is begun is spread over some milliseconds. @returns how many of them it rested */
function step(id: string, overMs: number, options: RolloutWorkerOptions): Promise<number> {
  return options.postgres.transaction(async (tx) => {
    const rollout = await claimRollout(tx, id, MAX_STEP_MS);
    if (rollout === undefined) return 0;
    const spread = new Spread(overMs, options);
    if (rollout.status === 'aborting') await withdraw(tx, rollout, spread, options);
    else await goOn(tx, rollout, spread, options);
    return spread.restedMs;
  });
}

async function goOn(tx: Tx, rollout: Rollout, spread: Spread, options: RolloutWorkerOptions): Promise<void> {
  const counts = await options.counts(tx, rollout.id);
  const sum = (...statuses: readonly RolloutUnitStatus[]) =>
    statuses.reduce((total, status) => total + (counts[status] ?? 0), 0);
  const total = Object.values(counts).reduce((all, units) => all + units, 0);
  const waiting = sum('waiting');
  const started = total - waiting - sum('skipped');
  const failed = sum('rejected', 'failed');
  if (isAbortThresholdReached(rollout.abortThreshold, { failed, started })) {
    const reason = `${failed} of ${started} units cannot take it`;
    await updateRolloutStatus(tx, rollout.id, { status: 'aborting', by: ACTOR, reason });
    options.log.error('a rollout of a configuration aborts itself', { rollout: rollout.id, reason });
    return;
  }
  const due = Math.min(waiting, MAX_UNITS_PER_STEP, unitsDue(rollout.pace, rollout.ranMs) - (total - waiting));
  if (due > 0) {
    const units = await listUnstartedUnits(tx, rollout.id, due);
    await markUnitsStarted(tx, rollout.id, await spread.work(units, (unit) => begin(unit, rollout, options)));
  }
  if (waiting === 0 && sum('pending', 'queued', 'failed') === 0) {
    await updateRolloutStatus(tx, rollout.id, { status: 'completed', by: ACTOR });
  }
}

/** Wants the changes of a rollout on a unit. */
async function begin(
  { ordinal, unit }: RolloutUnit,
  { id, changes, createdBy }: Rollout,
  { decider }: RolloutWorkerOptions,
): Promise<StartedUnit> {
  const commandId = `${id}.${unit}`;
  const meta = { commandId, actor: createdBy, source: SOURCE, correlationId: id, priority: 'background' } as const;
  try {
    const { state } = await decider.decide(unit, 'config', meta, (present) => change(present, changes, commandId));
    return { ordinal, version: requireConfigured(state.configuration).desired.version };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { ordinal, skipped: skippedBecause(error) };
  }
}

function change(state: UnitState, changes: RolloutChanges, commandId: string) {
  const { values } = requireConfigured(state.configuration).desired;
  return changeConfiguration(state, { commandId, values: { ...values, ...changes }, mode: 'queued' });
}

function skippedBecause({ message, errors }: Refusal): string {
  return [message, ...errors.map((error) => `${error.path} ${error.message}`)].join(' ');
}

/** Wants again what was wanted before, where the unit has not proved that it runs what the rollout brought. */
async function withdraw(tx: Tx, rollout: Rollout, spread: Spread, options: RolloutWorkerOptions): Promise<void> {
  const { decider, unproved: read } = options;
  const { id } = rollout;
  const unproved = await read(tx, id, MAX_UNITS_PER_STEP);
  if (unproved.length === 0) {
    const { statusBy: by, statusReason } = rollout;
    await updateRolloutStatus(tx, id, {
      status: 'aborted',
      by,
      ...(statusReason === null ? {} : { reason: statusReason }),
    });
    return;
  }
  const withdrawn = await spread.work(unproved, async ({ ordinal, unit, version, former }) => {
    const commandId = `${id}.${unit}.withdrawn`;
    const meta = {
      commandId,
      actor: rollout.statusBy,
      source: SOURCE,
      correlationId: id,
      priority: 'background',
    } as const;
    const { state } = await decider.decide(unit, 'config', meta, (present) =>
      withdrawChange(present, { version, former }),
    );
    return { ordinal, version: requireConfigured(state.configuration).desired.version, from: version };
  });
  // Where the version still stands, the unit has proved it after all, and the read model shows that in a moment.
  await markUnitsWithdrawn(
    tx,
    id,
    withdrawn.filter(({ version, from }) => version !== from),
  );
}

/** Spreads the work of one look evenly, so that people's commits, and units, meet no crowd. */
class Spread {
  readonly #overMs: number;
  readonly #options: Pick<RolloutWorkerOptions, 'clock' | 'sleep' | 'signal'>;
  restedMs = 0;

  constructor(overMs: number, options: Pick<RolloutWorkerOptions, 'clock' | 'sleep' | 'signal'>) {
    this.#overMs = overMs;
    this.#options = options;
  }

  /** What is not begun when the process stops is left for another look. */
  async work<T, R>(items: readonly T[], begin: (item: T) => Promise<R>): Promise<R[]> {
    const { clock, sleep, signal } = this.#options;
    const startedMs = clock();
    const results: R[] = [];
    for (let first = 0; first < items.length && !signal.aborted; first += MAX_DECISIONS_UNDER_WAY) {
      const waitMs = startedMs + (this.#overMs * first) / items.length - clock();
      if (waitMs > 0) {
        await sleep(waitMs);
        this.restedMs += waitMs;
      }
      results.push(...(await Promise.all(items.slice(first, first + MAX_DECISIONS_UNDER_WAY).map(begin))));
    }
    return results;
  }
}

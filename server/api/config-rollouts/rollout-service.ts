/** Creates, shows, pauses, resumes and aborts rollouts for operators. */

import {
  DEFAULT_ABORT_THRESHOLD,
  DEFAULT_PACE,
  type Pace,
  type RolloutAction,
  type RolloutUnitStatus,
  statusAfterAction,
  validateRolloutChanges,
} from '../../../domain/configuration/rollout.ts';
import type { Postgres } from '../../../platform/postgres/connection.ts';
import {
  createRollout,
  getRollout,
  listRollouts,
  lockRollout,
  type Rollout,
  updateRolloutStatus,
} from '../../../platform/rollouts/rollout-store.ts';
import { rolloutCounts, rolloutUnits } from '../../../projections/configuration/queries.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { selectUnits } from '../../../projections/units/queries/units.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { invalidField, Problem } from '../../http/problems.ts';
import type { RolloutBody, Selection } from './schema.ts';

/** The largest number of units in one rollout. */
const MAX_ROLLOUT_UNITS = 500_000;

type RolloutView = ReturnType<typeof shown>;
/** A rollout with the number of its units in each state. */
type RolloutWithUnits = RolloutView & {
  readonly units: { readonly total: number } & Partial<Readonly<Record<RolloutUnitStatus, number>>>;
};

interface RolloutCommand {
  readonly commandId: string;
  readonly actor: string;
}

export class RolloutService {
  readonly #postgres: Postgres;
  readonly #readModels: ReadModels;

  constructor(postgres: Postgres, readModels: ReadModels) {
    this.#postgres = postgres;
    this.#readModels = readModels;
  }

  async create({ commandId, actor }: RolloutCommand, body: RolloutBody): Promise<Answer<RolloutWithUnits, 201>> {
    const { selection, changes, abortThreshold = DEFAULT_ABORT_THRESHOLD } = body;
    const pace = paceOf(body);
    const errors = validateRolloutChanges(changes).map(({ path, message }) => ({ path: `/changes${path}`, message }));
    if (errors.length > 0)
      throw new Problem(
        'validation',
        422,
        'The changes do not fit together. `errors` names each field and what is wrong with it.',
        { errors },
      );
    const units = await this.#select(selection);
    const rollout = { id: commandId, createdBy: actor, selection, changes, pace, abortThreshold };
    await this.#postgres.transaction((tx) => createRollout(tx, rollout, units));
    return { status: 201, body: await this.view(commandId) };
  }

  async view(id: string): Promise<RolloutWithUnits> {
    const { sql } = this.#postgres;
    const rollout = await getRollout(sql, id);
    if (rollout === undefined) throw unknownRollout(id);
    const counts = await rolloutCounts(this.#readModels, id);
    const total = Object.values(counts).reduce((sum, units) => sum + units, 0);
    return { ...shown(rollout), units: { total, ...counts } };
  }

  async list(query: { readonly limit: number; readonly cursor?: string }) {
    const page = await listRollouts(this.#postgres.sql, query);
    return { ...page, items: page.items.map(shown) };
  }

  async listUnits(query: Parameters<typeof rolloutUnits>[1]) {
    if ((await getRollout(this.#postgres.sql, query.id)) === undefined) throw unknownRollout(query.id);
    return rolloutUnits(this.#readModels, query);
  }

  /** Pauses, resumes or aborts a rollout. @throws Problem `not-found`, and a Refusal */
  async act(
    id: string,
    action: RolloutAction,
    actor: string,
    reason: string | undefined,
  ): Promise<Answer<RolloutWithUnits, 200>> {
    await this.#postgres.transaction(async (tx) => {
      const rollout = await lockRollout(tx, id);
      if (rollout === undefined) throw unknownRollout(id);
      const status = statusAfterAction(rollout.status, action);
      if (status !== rollout.status) await updateRolloutStatus(tx, id, { status, by: actor, reason });
    });
    return { status: 200, body: await this.view(id) };
  }

  async #select(selection: Selection): Promise<readonly string[]> {
    const units = await selectUnits(this.#readModels, selection, MAX_ROLLOUT_UNITS + 1);
    if (units.length > MAX_ROLLOUT_UNITS)
      throw invalidField('/selection', `selects more than ${MAX_ROLLOUT_UNITS} units`);
    if (units.length === 0) throw invalidField('/selection', 'selects no unit');
    requireAll(selection, new Set(units));
    return units;
  }
}

/** A selection by names alone must find every named unit. */
function requireAll({ names, ...others }: Selection, selected: ReadonlySet<string>): void {
  if (names === undefined || Object.keys(others).length > 0) return;
  const errors = names.flatMap((name, index) =>
    selected.has(name)
      ? []
      : [{ path: `/selection/names/${index}`, message: `${name} is not the name of a unit in use` }],
  );
  if (errors.length > 0)
    throw new Problem('validation', 422, 'Some of the named units do not exist. `errors` names them.', { errors });
}

function paceOf({ rate, waves }: RolloutBody): Pace {
  if (rate !== undefined && waves !== undefined)
    throw invalidField('/waves', 'cannot be combined with rate: name one of the two');
  if (waves !== undefined) return { waves };
  return rate === undefined ? DEFAULT_PACE : { rate };
}

function shown({ ranMs: _, pace, selection, ...rollout }: Rollout) {
  // The store keeps the selection as the API validated it.
  return { ...rollout, selection: selection as Selection, ...pace };
}

function unknownRollout(id: string): Problem {
  return new Problem('not-found', 404, `There is no rollout ${id}.`);
}

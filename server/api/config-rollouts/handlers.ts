/** What operators do with rollouts: begin, look, pause, resume, abort. */

import {
  DEFAULT_ABORT_THRESHOLD,
  DEFAULT_PACE,
  type Pace,
  type RolloutAction,
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
import { selectUnits } from '../../../projections/units/queries.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { invalidField, Problem } from '../../http/problems.ts';
import type { RolloutBody, Selection } from './schema.ts';

/** Units of one rollout. */
const MAX_ROLLOUT_UNITS = 500_000;

interface RolloutCommand {
  readonly commandId: string;
  readonly actor: string;
}

export class Rollouts {
  readonly #postgres: Postgres;
  readonly #readModels: ReadModels;

  constructor(postgres: Postgres, readModels: ReadModels) {
    this.#postgres = postgres;
    this.#readModels = readModels;
  }

  async create({ commandId, actor }: RolloutCommand, body: RolloutBody): Promise<Answer> {
    const { selection, changes, abortThreshold = DEFAULT_ABORT_THRESHOLD } = body;
    const pace = paceOf(body);
    const errors = validateRolloutChanges(changes).map(({ path, message }) => ({ path: `/changes${path}`, message }));
    if (errors.length > 0) throw new Problem('validation', 422, 'The changes do not hold together.', { errors });
    const units = await this.#select(selection);
    const rollout = { id: commandId, createdBy: actor, selection, changes, pace, abortThreshold };
    await this.#postgres.transaction((tx) => createRollout(tx, rollout, units));
    return { status: 201, body: await this.view(commandId) };
  }

  async view(id: string) {
    const { sql } = this.#postgres;
    const rollout = await getRollout(sql, id);
    if (rollout === undefined) throw noRollout();
    const counts = await rolloutCounts(this.#readModels, id);
    const total = Object.values(counts).reduce((all, units) => all + units, 0);
    return { ...shown(rollout), units: { total, ...counts } };
  }

  async list(query: { readonly limit: number; readonly cursor?: string }) {
    const page = await listRollouts(this.#postgres.sql, query);
    return { ...page, items: page.items.map(shown) };
  }

  async units(query: Parameters<typeof rolloutUnits>[1]) {
    if ((await getRollout(this.#postgres.sql, query.id)) === undefined) throw noRollout();
    return rolloutUnits(this.#readModels, query);
  }

  /** Pauses, resumes or aborts. */
  async act(id: string, action: RolloutAction, actor: string, reason: string | undefined): Promise<Answer> {
    await this.#postgres.transaction(async (tx) => {
      const rollout = await lockRollout(tx, id);
      if (rollout === undefined) throw noRollout();
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

/** Who names units means all of them, unless something else is to hold, too. */
function requireAll({ names, ...others }: Selection, selected: ReadonlySet<string>): void {
  if (names === undefined || Object.keys(others).length > 0) return;
  const errors = names.flatMap((name, index) =>
    selected.has(name) ? [] : [{ path: `/selection/names/${index}`, message: `${name} is not a unit in use` }],
  );
  if (errors.length > 0) throw new Problem('validation', 422, 'Some of these units are not there.', { errors });
}

function paceOf({ rate, waves }: RolloutBody): Pace {
  if (rate !== undefined && waves !== undefined) throw invalidField('/waves', 'cannot stand beside rate');
  if (waves !== undefined) return { waves };
  return rate === undefined ? DEFAULT_PACE : { rate };
}

function shown({ ranMs: _, pace, ...rollout }: Rollout) {
  return { ...rollout, ...pace };
}

function noRollout(): Problem {
  return new Problem('not-found', 404, 'There is no such rollout.');
}

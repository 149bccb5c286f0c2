/** Carries out what operators do with the lockers of a unit: add and remove, take out of service, plan maintenance, open. */

import type { EventOf } from '../../../domain/events/catalogue.ts';
import type { EventDraft } from '../../../domain/events/drafts.ts';
import {
  addLocker,
  cancelMaintenance,
  planMaintenance,
  recordServiceOpenAnswer,
  removeLocker,
  requestServiceOpen,
  requireLocker,
  returnToService,
  SERVICE_OPEN_TTL_MS,
  takeOutOfService,
} from '../../../domain/registry/locker-decisions.ts';
import { type RegistryState, requireUnit } from '../../../domain/registry/registry.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { unitUse } from '../../../domain/unit/unit-use.ts';
import type { Locker } from '../../../domain/vocabulary.ts';
import { type UnitCommandClient, UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import type { DecisionResult } from '../../../platform/units/unit-decider.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { Problem, UNIT_RETRY_AFTER_S } from '../../http/problems.ts';
import type { LockerView, MaintenanceView, OutOfServiceBody, PlanMaintenanceBody } from './lockers-schema.ts';
import { type SettleDependencies, settleUnit } from './settle-bookings.ts';
import { changedUnit, type UnitCommand } from './unit-changes.ts';
import { unitInUseProblem } from './unit-in-use.ts';

export interface UnitLockersDependencies extends SettleDependencies {
  readonly commands: UnitCommandClient;
}

/** A command of an operator on a locker. */
export interface LockerCommand extends UnitCommand {
  readonly lockerId: string;
}

type OpenOutcome = Pick<EventOf<'ServiceOpenAnswered'>, 'result' | 'reason'>;

export class UnitLockers {
  readonly #deps: UnitLockersDependencies;

  constructor(deps: UnitLockersDependencies) {
    this.#deps = deps;
  }

  async add(command: UnitCommand, locker: Locker): Promise<Answer<LockerView, 201>> {
    const decided = await this.#decide(command, ({ registry }) => addLocker(registry, locker, command.commandId));
    return { ...this.#lockerAnswer(decided, locker.id), status: 201 };
  }

  /**
   * Removes a locker. With `isForced`, its bookings move to other lockers or are given up. A running rental is never given up, because
   * the belongings of a customer are in the locker.
   * @throws Problem `unit-in-use`; Refusal `not-found`
   */
  async remove(command: LockerCommand, isForced: boolean): Promise<Answer<{ readonly id: string }, 200>> {
    const { commandId, lockerId, name } = command;
    const decided = await this.#decide(command, (state) => {
      const drafts = removeLocker(state.registry, lockerId, commandId);
      const use = unitUse(state, lockerId);
      const isRented = use.rentals.length > 0 || use.bookings.some(({ status }) => status === 'active');
      if (drafts.length > 0 && (isRented || (use.bookings.length > 0 && !isForced))) {
        const advice = isRented
          ? 'Wait until the rental ends, or end it with `POST /v1/reservations/{id}/force-end`.'
          : 'Wait, or give them up with `force=true`.';
        throw unitInUseProblem(`Locker ${lockerId} of unit ${name}`, use, 0, advice);
      }
      return drafts;
    });
    const settled = await this.#settle(command, decided);
    return { status: 200, body: { id: lockerId }, position: settled.sequence };
  }

  async takeOutOfService(command: LockerCommand, body: OutOfServiceBody): Promise<Answer<LockerView, 200>> {
    const decided = await this.#decide(command, ({ registry }) =>
      takeOutOfService(registry, { ...command, ...body, nowMs: this.#deps.clock() }),
    );
    return this.#lockerAnswer(await this.#settle(command, decided), command.lockerId);
  }

  async returnToService(command: LockerCommand): Promise<Answer<LockerView, 200>> {
    const decided = await this.#decide(command, ({ registry }) =>
      returnToService(registry, command.lockerId, command.commandId),
    );
    return this.#lockerAnswer(await this.#settle(command, decided), command.lockerId);
  }

  /** Plans maintenance. Bookings that overlap it are given up, because every locker of the unit is closed. */
  async planMaintenance(command: UnitCommand, plan: PlanMaintenanceBody): Promise<Answer<MaintenanceView, 201>> {
    const { commandId, name } = command;
    const decided = await this.#decide(command, ({ registry }) =>
      planMaintenance(registry, plan, commandId, this.#deps.clock()),
    );
    const settled = await this.#settle(command, decided);
    return { status: 201, body: { unit: name, id: commandId, ...plan }, position: settled.sequence };
  }

  async cancelMaintenance(command: UnitCommand, maintenanceId: string): Promise<Answer<{ readonly id: string }, 200>> {
    const decided = await this.#decide(command, ({ registry }) =>
      cancelMaintenance(registry, maintenanceId, command.commandId),
    );
    return { status: 200, body: { id: maintenanceId }, position: decided.sequence };
  }

  /**
   * Opens a locker for an operator: records the request with its reason, sends the command to the unit within this request, and records
   * the answer. The command is never queued. @throws Problem `unit-offline`, `unit-rejected`; Refusal `not-found`, `closed`
   */
  async open(
    command: LockerCommand,
    reason: string,
  ): Promise<Answer<{ readonly result: 'opened'; readonly locker: string }, 200>> {
    const { newId, clock } = this.#deps;
    const { commandId, lockerId, name } = command;
    const requested = await this.#decide(command, ({ registry }) =>
      requestServiceOpen(registry, { commandId, lockerId, reason, nowMs: clock() }),
    );
    const body = { result: 'opened', locker: lockerId } as const;
    const before = openingIn(requested.state.registry, commandId);
    if (before === 'opened') return { status: 200, body, position: requested.sequence };
    const outcome = await this.#send(requested.state, commandId, lockerId);
    const answered = await this.#decide({ ...command, commandId: newId() }, ({ registry }) =>
      recordServiceOpenAnswer(registry, { ...outcome, locker: lockerId, commandId }),
    );
    if (outcome.result !== 'opened') throw openProblem(name, lockerId, outcome);
    return { status: 200, body, position: answered.sequence };
  }

  async #send(state: UnitState, commandId: string, locker: string): Promise<OpenOutcome> {
    try {
      const command = { commandId, openLocker: { locker, service: true } };
      const answer = await this.#deps.commands.send(requireUnit(state.registry), command, {
        ttlMs: SERVICE_OPEN_TTL_MS,
      });
      const { status, reason } = answer;
      const result = status === 'done' ? 'opened' : status;
      return reason === undefined ? { result } : { result, reason };
    } catch (error) {
      if (!(error instanceof UnitUnreachableError)) throw error;
      return { result: 'unreachable', reason: 'no answer' };
    }
  }

  #decide(
    { name, commandId, actor }: UnitCommand,
    decision: (state: UnitState) => readonly EventDraft[],
  ): Promise<DecisionResult> {
    const meta = { commandId, actor, source: '/lockfleet/server' };
    return this.#deps.decider.decide(name, 'registry', meta, decision);
  }

  /** Settles the bookings of the unit after a decision on its lockers. */
  async #settle({ name: unit, actor }: UnitCommand, decided: DecisionResult): Promise<DecisionResult> {
    const settled = await settleUnit(this.#deps, { unit, actor });
    return { ...settled, sequence: Math.max(decided.sequence, settled.sequence) };
  }

  #lockerAnswer({ state, sequence }: DecisionResult, lockerId: string): Answer<LockerView, 200> {
    const { id } = requireLocker(state.registry, lockerId);
    const details = changedUnit(state, this.#deps.clock()).lockerDetails.find((locker) => locker.id === id);
    if (details === undefined) throw new Problem('not-found', 404, `The unit has no locker ${lockerId}.`);
    return { status: 200, body: { unit: state.name, ...details }, position: sequence };
  }
}

function openingIn(registry: RegistryState, commandId: string): string | undefined {
  if (registry.status === 'unregistered' || !Object.hasOwn(registry.serviceOpenings, commandId)) return undefined;
  return registry.serviceOpenings[commandId];
}

function openProblem(unit: string, locker: string, { result, reason }: OpenOutcome): Problem {
  if (result === 'unreachable') {
    const detail = `Unit ${unit} did not answer in time. Look whether the locker is open; if not, send the request again.`;
    return new Problem('unit-offline', 503, detail, { retryAfterS: UNIT_RETRY_AFTER_S });
  }
  const why = reason === undefined ? '' : `: ${reason}`;
  return new Problem('unit-rejected', 409, `Unit ${unit} did not open locker ${locker}${why}.`);
}

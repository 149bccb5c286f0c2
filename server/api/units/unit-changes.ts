/** Changes and retires units for operators. */

import { recordedSeq } from '../../../domain/device/epochs.ts';
import { requireRegistered } from '../../../domain/registry/registry.ts';
import {
  type UnitChanges as ChangedProperties,
  retireUnit,
  updateUnit,
} from '../../../domain/registry/unit-decisions.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import { unitUse } from '../../../domain/unit/unit-use.ts';
import type { AddressResolver } from '../../../platform/network/address-resolver.ts';
import type { LogPosition, UnitLogClient } from '../../../platform/unit-log/unit-log-client.ts';
import { UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import type { DecisionResult } from '../../../platform/units/unit-decider.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { unitDetails } from '../../../projections/units/details.ts';
import { getUnit } from '../../../projections/units/queries/units.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import type { ChangedUnit } from './changes-schema.ts';
import { requireUsableAddress, TimeZones } from './place-checks.ts';
import { type SettleDependencies, settleUnit } from './settle-bookings.ts';
import type { UnitCredentials } from './unit-credentials.ts';
import { unitInUseProblem } from './unit-in-use.ts';

/** How long a unit may take to say how long its log is. After that, the last ping counts. */
const LOG_END_TIMEOUT_MS = 3_000;

export interface UnitChangesDependencies extends SettleDependencies {
  readonly addresses: AddressResolver;
  readonly credentials: UnitCredentials;
  readonly readModels: ReadModels;
  readonly unitLogClient: Pick<UnitLogClient, 'readEnd'>;
}

/** A command of an operator on a unit. */
export interface UnitCommand {
  readonly commandId: string;
  readonly actor: string;
  readonly name: string;
}

export class UnitChanges {
  readonly #deps: UnitChangesDependencies;
  readonly #timeZones = new TimeZones();

  constructor(deps: UnitChangesDependencies) {
    this.#deps = deps;
  }

  /**
   * Changes properties of a unit. A change of its time zone may close it for bookings.
   * @throws Problem `validation` for a time zone or an address that cannot be used; Refusal `precondition-failed`, `not-found`
   */
  async update(
    { name, ...command }: UnitCommand,
    changes: ChangedProperties,
    expectedRevision: number | undefined,
  ): Promise<Answer<ChangedUnit, 200>> {
    if (changes.timeZone !== undefined) this.#timeZones.require(changes.timeZone);
    if (changes.address !== undefined) await requireUsableAddress(changes.address, this.#deps.addresses);
    const decided = await this.#deps.decider.decide(name, 'registry', metaOf(command), ({ registry }) =>
      updateUnit(registry, changes, command.commandId, expectedRevision),
    );
    return this.#answer(decided);
  }

  /**
   * Retires a unit: its credentials end. With `isForced`, open bookings are given up, and what the unit has not reported is lost.
   * Otherwise the log of the unit must be recorded up to the end that the unit itself names now or, when it does not answer, that
   * it named in its last ping.
   * @throws Problem `unit-in-use`; Refusal `not-found`
   */
  async retire(
    { name, ...command }: UnitCommand,
    { reason, isForced }: { readonly reason?: string | undefined; readonly isForced: boolean },
  ): Promise<Answer<ChangedUnit, 200>> {
    const { decider, credentials } = this.#deps;
    await credentials.requireRevocations();
    const backlogAt = isForced ? () => 0 : await this.#backlog(name);
    const retired = await decider.decide(name, 'registry', metaOf(command), (state) => {
      const drafts = retireUnit(state.registry, { reason, isForced });
      const use = unitUse(state);
      const backlog = backlogAt(state);
      const isInUse = use.bookings.length > 0 || use.rentals.length > 0 || backlog > 0;
      if (drafts.length > 0 && isInUse && !isForced)
        throw unitInUseProblem(`Unit ${name}`, use, backlog, 'Wait, or give them up with `force=true`.');
      return drafts;
    });
    const settled = await settleUnit(this.#deps, { unit: name, actor: command.actor });
    await credentials.revokeEnded(retired);
    return this.#answer({ ...settled, sequence: Math.max(retired.sequence, settled.sequence) });
  }

  /** How many events of its log a unit has in advance of a state of it. */
  async #backlog(name: string): Promise<(state: UnitState) => number> {
    const { readModels, clock } = this.#deps;
    const end = await this.#logEnd(name);
    if (end !== undefined) return ({ device }) => Math.max(0, end.seq - recordedSeq(device, end.epoch));
    const reported = (await getUnit(readModels, name, clock()))?.backlog ?? 0;
    return () => reported;
  }

  /** The end of its log that the unit names now. @returns undefined when it does not answer or cannot be asked */
  async #logEnd(name: string): Promise<LogPosition | undefined> {
    const { decider, unitLogClient } = this.#deps;
    const { registry, device } = await decider.getLatestState(name);
    // Another device may answer at the address of a unit whose credentials are revoked.
    if (registry.status !== 'registered' || registry.credentialsRevoked) return undefined;
    const { epoch } = device;
    const recorded = epoch === undefined ? undefined : { epoch, seq: recordedSeq(device, epoch) };
    try {
      return await unitLogClient.readEnd(registry, recorded, LOG_END_TIMEOUT_MS);
    } catch (error) {
      if (error instanceof UnitUnreachableError) return undefined;
      throw error;
    }
  }

  #answer({ state, sequence }: DecisionResult): Answer<ChangedUnit, 200> {
    return { status: 200, body: changedUnit(state, this.#deps.clock()), position: sequence };
  }
}

/** A unit after a change, as the API shows it. */
export function changedUnit(state: UnitState, nowMs: number): ChangedUnit {
  const registry = requireRegistered(state.registry);
  return { name: state.name, displayName: registry.displayName, ...unitDetails(state, registry, nowMs) };
}

function metaOf({ commandId, actor }: Omit<UnitCommand, 'name'>) {
  return { commandId, actor, source: '/lockfleet/server' };
}

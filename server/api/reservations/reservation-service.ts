/** Carries out the commands of customers: decides, appends the events, and to open a door sends a command to the unit. */

import {
  cancelReservation,
  confirmReservation,
  endReservation,
  holdLocker,
  OPEN_COMMAND_TTL_MS,
  recordOpenAnswer,
  requestLockerOpen,
} from '../../../domain/booking/customer-decisions.ts';
import { type Reservation as BookedReservation, findReservation } from '../../../domain/booking/reservation.ts';
import { requireUnit } from '../../../domain/registry/registry.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import type { CommandAnswer } from '../../../domain/unit-protocol/commands.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import type { ReservationSecrets } from '../../../platform/credentials/reservation-secrets.ts';
import { type UnitCommandClient, UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import type { DecisionMeta, DecisionResult, UnitDecider } from '../../../platform/units/unit-decider.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { invalidField, Problem, UNIT_RETRY_AFTER_S } from '../../http/problems.ts';
import { type Reservation, type ReserveBody, unitOfReservation } from './schema.ts';

const SOURCE = '/lockfleet/server';

export interface ReservationDependencies {
  readonly decider: UnitDecider;
  readonly commands: UnitCommandClient;
  readonly secrets: ReservationSecrets;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

/** A command of a customer on a reservation. */
export interface ReservationCommand {
  readonly commandId: string;
  readonly customer: string;
  readonly reservationId: string;
}

export class ReservationService {
  readonly #deps: ReservationDependencies;

  constructor(deps: ReservationDependencies) {
    this.#deps = deps;
  }

  async hold(commandId: string, customer: string, body: ReserveBody): Promise<Answer<Reservation, 201>> {
    const { unit, size, locker, from, until } = body;
    const requested = requestedLocker(size, locker);
    // The id of the reservation follows from that of the command, so that a repeated command finds the reservation it made.
    const reservationId = `${unit}.${commandId}`;
    const decided = await this.#decide({ commandId, customer, reservationId }, (state, dated) =>
      holdLocker(state, { ...dated, requested, from, until }),
    );
    return this.#answer(201, decided, reservationId);
  }

  async confirm(command: ReservationCommand, paymentReference: string): Promise<Answer<Reservation, 200>> {
    const decided = await this.#decide(command, (state, dated) =>
      confirmReservation(state, { ...dated, paymentReference }),
    );
    return this.#answer(200, decided, command.reservationId);
  }

  async cancel(command: ReservationCommand): Promise<Answer<Reservation, 200>> {
    return this.#answer(200, await this.#decide(command, cancelReservation), command.reservationId);
  }

  async end(command: ReservationCommand): Promise<Answer<Reservation, 200>> {
    return this.#answer(200, await this.#decide(command, endReservation), command.reservationId);
  }

  /**
   * Opens the locker now: records the request, sends the command to the unit, and records its answer.
   * @throws Problem `unit-offline`, `unit-rejected`
   */
  async open(command: ReservationCommand): Promise<Answer<{ readonly result: 'opened' }, 200>> {
    const { state } = await this.#decide(command, requestLockerOpen);
    const reservation = reservationIn(state, command.reservationId);
    const earlier = reservation.openResults[command.commandId];
    const outcome =
      earlier === undefined || earlier === 'pending' || earlier === 'unreachable'
        ? await this.#openDoor(state, reservation, command.commandId)
        : { result: earlier as OpenOutcome['result'] };
    // The answer is a commit with an id of its own: the store takes a second commit under the id of the request for a repeat.
    const answerId = `${command.commandId}.${outcome.result}`;
    const decided = await this.#decide(
      command,
      (current, dated) => recordOpenAnswer(current, { ...dated, ...outcome, nowMs: this.#deps.clock() }),
      answerId,
    );
    if (outcome.result === 'unreachable') {
      throw new Problem(
        'unit-offline',
        503,
        `Unit ${state.name} did not answer in time. Look whether the locker is open; if not, send the request again.`,
        { retryAfterS: UNIT_RETRY_AFTER_S },
      );
    }
    if (outcome.result !== 'opened') {
      const reason = outcome.reason === undefined ? '' : `: ${outcome.reason}`;
      throw new Problem('unit-rejected', 409, `Unit ${state.name} did not open locker ${reservation.locker}${reason}.`);
    }
    return { status: 200, body: { result: outcome.result }, position: decided.sequence };
  }

  /** A reservation as the API shows it: with the access code and the token while they open the locker. */
  async view(fields: ShownFields): Promise<Reservation> {
    const { id, unit, locker, size, from, until, status, holdExpiresAt, price, unitAck } = fields;
    const view = { id, unit, locker, size, from, until, status, holdExpiresAt, price, unitAck };
    if (status !== 'confirmed' && status !== 'active') return view;
    return { ...view, ...(await this.#deps.secrets.of(fields)) };
  }

  #decide(
    { commandId, customer, reservationId }: ReservationCommand,
    decision: (state: UnitState, command: ReservationCommand & { nowMs: number }) => ReturnType<typeof holdLocker>,
    commitId = commandId,
  ): Promise<DecisionResult> {
    const meta: DecisionMeta = { commandId: commitId, source: SOURCE, actor: `customer:${customer}` };
    return this.#deps.decider.decide(unitOfReservation(reservationId), 'booking', meta, (state) =>
      decision(state, { commandId, customer, reservationId, nowMs: this.#deps.clock() }),
    );
  }

  async #openDoor(state: UnitState, reservation: BookedReservation, commandId: string): Promise<OpenOutcome> {
    const { id, locker, until } = reservation;
    const expiresAt = toInstant(this.#deps.clock() + OPEN_COMMAND_TTL_MS);
    try {
      const command = { commandId, expiresAt, openLocker: { locker, reservationId: id, until } };
      return outcomeOf(await this.#deps.commands.send(requireUnit(state.registry), command));
    } catch (error) {
      if (!(error instanceof UnitUnreachableError)) throw error;
      return { result: 'unreachable', reason: 'no answer' };
    }
  }

  async #answer<Status extends number>(
    status: Status,
    decided: DecisionResult,
    reservationId: string,
  ): Promise<Answer<Reservation, Status>> {
    const reservation = reservationIn(decided.state, reservationId);
    const fields = { ...reservation, unit: unitOfReservation(reservationId) };
    return { status, body: await this.view(fields), position: decided.sequence };
  }
}

/** A reservation of the domain, with its unit. */
type ShownFields = BookedReservation & { readonly unit: string };

interface OpenOutcome {
  readonly result: 'opened' | 'failed' | 'refused' | 'unreachable';
  readonly reason?: string;
}

function outcomeOf({ status, reason }: CommandAnswer): OpenOutcome {
  const result = status === 'done' ? 'opened' : status;
  return reason === undefined ? { result } : { result, reason };
}

function reservationIn(state: UnitState, reservationId: string): BookedReservation {
  const reservation = findReservation(state.booking, reservationId);
  if (reservation === undefined) throw new Problem('not-found', 404, `There is no reservation ${reservationId}.`);
  return reservation;
}

function requestedLocker(size: ReserveBody['size'], locker: ReserveBody['locker']) {
  if (size !== undefined && locker !== undefined)
    throw invalidField('/locker', 'cannot be combined with size: name a size or a locker');
  if (locker !== undefined) return { locker };
  if (size !== undefined) return { size };
  throw invalidField('/size', 'is missing: name a size or a locker');
}

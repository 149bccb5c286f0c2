/** Carries out the commands of customers: decides, appends the events, and to open a door sends a command to the unit. */

import type { AccessCodeOf } from '../../../domain/booking/access-codes.ts';
import {
  cancelReservation,
  confirmReservation,
  endReservation,
  holdLocker,
  type LockerOpening,
  OPEN_COMMAND_TTL_MS,
  recordOpenAnswer,
  requestLockerOpen,
  requireOpenable,
} from '../../../domain/booking/customer-decisions.ts';
import { type Reservation as BookedReservation, findReservation } from '../../../domain/booking/reservation.ts';
import { requireUnit } from '../../../domain/registry/registry.ts';
import type { UnitState } from '../../../domain/unit/unit.ts';
import type { CommandAnswer } from '../../../domain/unit-protocol/commands.ts';
import type { ReservationSecrets } from '../../../platform/credentials/reservation-secrets.ts';
import { type UnitCommandClient, UnitUnreachableError } from '../../../platform/units/unit-command-client.ts';
import type { DecisionMeta, DecisionResult, UnitDecider } from '../../../platform/units/unit-decider.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { invalidField, Problem, UNIT_RETRY_AFTER_S } from '../../http/problems.ts';
import { type OpenedLocker, type Reservation, type ReserveBody, unitOfReservation } from './schema.ts';

const SOURCE = '/lockfleet/server';
/** Lockers that one request tries to open, one after another: each attempt may take as long as a unit needs to answer. */
const MAX_OPENED_LOCKERS = 3;

export interface ReservationDependencies {
  readonly decider: UnitDecider;
  readonly commands: UnitCommandClient;
  readonly secrets: ReservationSecrets;
  readonly newId: () => string;
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
  readonly #accessCodeOf: AccessCodeOf = (id, accessCodeDraw) => this.#deps.secrets.accessCode({ id, accessCodeDraw });

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
      confirmReservation(state, { ...dated, paymentReference, accessCodeOf: this.#accessCodeOf }),
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
   * Opens the locker now: records the request, sends the command to the unit, and records its answer. When the locker fails and another
   * one fits, the reservation moves and the next command opens that one.
   * @throws Refusal `reservation-state`, `not-yet`
   * @throws Problem `unit-offline`, `unit-rejected`
   */
  async open(command: ReservationCommand): Promise<Answer<OpenedLocker, 200>> {
    const { decider, newId } = this.#deps;
    const booked = reservationIn(
      await decider.getState(unitOfReservation(command.reservationId)),
      command.reservationId,
    ).locker;
    let opening = await this.#requestOpening(command);
    for (let sent = 1; ; sent += 1) {
      const { openId, locker } = opening;
      const outcome: OpenOutcome = opening.isOpened
        ? { result: 'opened' }
        : await this.#openDoor(command.reservationId, opening);
      const decided = await this.#decide(
        command,
        (state, { nowMs, reservationId }) =>
          recordOpenAnswer(state, { ...outcome, reservationId, commandId: openId, locker, nowMs }),
        newId(),
      );
      if (outcome.result === 'opened') {
        const movedFrom = locker === booked ? null : booked;
        return { status: 200, body: { result: 'opened', locker, movedFrom }, position: decided.sequence };
      }
      const hasMoved = reservationIn(decided.state, command.reservationId).locker !== locker;
      if (!hasMoved || sent >= MAX_OPENED_LOCKERS) throw openProblem(decided.state.name, locker, outcome);
      opening = await this.#requestOpening(command);
    }
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

  /** Records a request to open. The commit has an id of its own, because a repeated request may add events to those of the first. */
  async #requestOpening(command: ReservationCommand): Promise<LockerOpening> {
    const { state } = await this.#decide(command, requestLockerOpen, this.#deps.newId());
    return requireOpenable(state, { ...command, nowMs: this.#deps.clock() });
  }

  async #openDoor(reservationId: string, { openId, locker, until }: LockerOpening): Promise<OpenOutcome> {
    const { decider, commands } = this.#deps;
    const { registry } = await decider.getState(unitOfReservation(reservationId));
    try {
      const command = { commandId: openId, openLocker: { locker, reservationId, until } };
      return outcomeOf(await commands.send(requireUnit(registry), command, { ttlMs: OPEN_COMMAND_TTL_MS }));
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
    const bookingSequence = decided.state.sequences.booking;
    const fields = { ...reservation, unit: unitOfReservation(reservationId), bookingSequence };
    return { status, body: await this.view(fields), position: decided.sequence };
  }
}

/** A reservation of the domain, with its unit and the sequence of the unit's bookings at which it was read. */
type ShownFields = BookedReservation & { readonly unit: string; readonly bookingSequence: number };

interface OpenOutcome {
  readonly result: 'opened' | 'failed' | 'refused' | 'unreachable';
  readonly reason?: string;
}

function openProblem(unit: string, locker: string, { result, reason }: OpenOutcome): Problem {
  if (result === 'unreachable') {
    const detail = `Unit ${unit} did not answer in time. Look whether the locker is open; if not, send the request again.`;
    return new Problem('unit-offline', 503, detail, { retryAfterS: UNIT_RETRY_AFTER_S });
  }
  const why = reason === undefined ? '' : `: ${reason}`;
  return new Problem('unit-rejected', 409, `Unit ${unit} did not open locker ${locker}${why}.`);
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

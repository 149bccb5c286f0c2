/** Actions of a customer at the unit: rent at the screen, show a QR code, open, close, give back. They work offline. */

import { rentalPeriod } from '../../domain/booking/allocation.ts';
import { priceOf } from '../../domain/booking/price.ts';
import { closedAt } from '../../domain/configuration/opening-hours.ts';
import { overlaps, type Period } from '../../domain/period.ts';
import type { OfflineTokenClaims } from '../../domain/unit-protocol/commands.ts';
import { type Money, toInstant, toMs } from '../../domain/vocabulary.ts';
import {
  type Decision,
  type DecisionContext,
  decisionWith,
  type EntryDraft,
  findLocker,
  findSyncedReservation,
  type Outcome,
  refusal,
  rentalReference,
  syncedLocker,
  type UnitLocker,
  type UnitModel,
  type UnitRental,
  withLocker,
  withoutRental,
} from './model.ts';

const MS_PER_MINUTE = 60_000;
/** The time zone of the opening hours before the first list of reservations. */
const UNKNOWN_TIME_ZONE = 'UTC';
/** How long after its period the unit remembers a used reservation: a clock set back must not make its QR code work again. */
const USED_RETENTION_MS = 24 * 60 * MS_PER_MINUTE;
/** Most used reservations that the unit remembers. It forgets the oldest first. */
const MAX_USED_RESERVATIONS = 1_000;

export interface RentalOrder {
  /** @default the unit picks a free locker */
  readonly locker?: string;
  readonly minutes: number;
  readonly byScenario?: true;
}

/** A customer rents at the screen and pays at the terminal. */
export function rentAtScreen(
  unit: UnitModel,
  order: RentalOrder,
  context: DecisionContext,
): Decision<Outcome<{ locker: string; rentalId: string; until: string; price: Money }>> {
  const { minimumMinutes, maximumMinutes } = unit.configuration.values;
  if (order.minutes < minimumMinutes || order.minutes > maximumMinutes) {
    return refusal(unit, 'period', `This unit rents lockers for ${minimumMinutes} to ${maximumMinutes} minutes.`);
  }
  const period = { fromMs: context.nowMs, untilMs: context.nowMs + order.minutes * MS_PER_MINUTE };
  const { timeZone = UNKNOWN_TIME_ZONE } = unit.synced;
  const closed = closedAt(unit.configuration.values, timeZone, period);
  if (closed !== undefined) return refusal(unit, 'closed', closed.detail);
  const locker = order.locker === undefined ? pickFreeLocker(unit, period, context) : findLocker(unit, order.locker);
  if (locker === undefined) {
    return order.locker === undefined
      ? refusal(unit, 'no-locker-free', 'No locker is free for that long.')
      : refusal(unit, 'unknown-locker', `This unit has no locker ${order.locker}.`);
  }
  const reason = unavailability(unit, locker, period, context.nowMs);
  if (reason !== undefined) return refusal(unit, reason, `Locker ${locker.id} cannot be rented now: ${reason}.`);
  const price = priceOf(unit.configuration.values, locker.size, period.fromMs, period.untilMs);
  if (price === undefined)
    return refusal(unit, 'not-for-rent', `This unit has no price for lockers of size ${locker.size}.`);
  return payAndRent(unit, locker, { until: toInstant(period.untilMs), price, byScenario: order.byScenario }, context);
}

/** The terminal charges the customer only when the door can open: a customer never pays for a locker that stays closed. */
function payAndRent(
  unit: UnitModel,
  locker: UnitLocker,
  terms: { readonly until: string; readonly price: Money; readonly byScenario: true | undefined },
  context: DecisionContext,
): Decision<Outcome<{ locker: string; rentalId: string; until: string; price: Money }>> {
  const { id } = locker;
  const { until, price, byScenario } = terms;
  const rentalId = context.newId();
  const payment = { reference: context.newId(), ...price, rentalId };
  const started: EntryDraft = { type: 'PaymentStarted', locker: id, data: payment };
  const failed = (reason: string): EntryDraft => ({ type: 'PaymentFailed', locker: id, data: { ...payment, reason } });
  if (context.doesTerminalDecline) {
    const detail = 'The terminal declined the payment.';
    return decisionWith(unit, context, [started, failed('declined')], { done: false, reason: 'declined', detail });
  }
  if (context.jammedLockers.has(id)) {
    const drafts = [started, lockerOpenFailed(id), failed('the door is jammed')];
    return decisionWith(unit, context, drafts, jammedOutcome(id));
  }
  const rental: UnitRental = {
    rentalId,
    startedAt: toInstant(context.nowMs),
    until,
    startedSeq: unit.log.lastSeq + 3,
    ...(byScenario === undefined ? {} : { byScenario }),
  };
  return decisionWith(
    withLocker(unit, { ...locker, door: 'open', rental }),
    context,
    [
      started,
      { type: 'PaymentSucceeded', locker: id, data: payment },
      { type: 'RentalStarted', locker: id, data: { rentalId, until, price } },
      { type: 'LockerOpened', locker: id, data: { cause: 'walk-up' } },
    ],
    { done: true, locker: id, rentalId, until, price },
  );
}

/**
 * A customer shows the QR code of a reservation. The unit need not have the reservation in its list, because the token is signed, unless
 * the list is newer than the token. When the list has the reservation, its locker and period replace those of the token.
 * @param claims the payload of a token whose signature holds
 */
export function redeemReservation(
  unit: UnitModel,
  claims: OfflineTokenClaims,
  context: DecisionContext,
): Decision<Outcome<{ locker: string; reservationId: string; rentalId: string; until: string }>> {
  const reservationId = claims.sub;
  const rentedLocker = unit.lockers.find((locker) => locker.rental?.reservationId === reservationId);
  if (rentedLocker?.rental !== undefined) {
    const { rentalId, until } = rentedLocker.rental;
    return openRentedLocker(unit, rentedLocker, context, { locker: rentedLocker.id, reservationId, rentalId, until });
  }
  if (Object.hasOwn(unit.usedReservations, reservationId))
    return refusal(unit, 'spent', 'The reservation was used: its locker was given back.');
  const synced = findSyncedReservation(unit, reservationId);
  if (synced === undefined && isRevoked(unit, claims))
    return refusal(unit, 'revoked', 'The platform has cancelled or moved the reservation since it issued the QR code.');
  const { locker: lockerId, from, until } = synced ?? claims;
  if (context.nowMs < toMs(from) || context.nowMs >= toMs(until)) {
    return refusal(unit, 'period', `The reservation can be used from ${from} until ${until}.`);
  }
  const locker = findLocker(unit, lockerId);
  if (locker === undefined) return refusal(unit, 'unknown-locker', `This unit has no locker ${lockerId}.`);
  if (locker.rental !== undefined)
    return refusal(unit, 'occupied', `Locker ${lockerId} is rented to another customer.`);
  if (context.jammedLockers.has(lockerId))
    return decisionWith(unit, context, [lockerOpenFailed(lockerId)], jammedOutcome(lockerId));
  const rental = {
    rentalId: context.newId(),
    reservationId,
    startedAt: toInstant(context.nowMs),
    until,
    startedSeq: unit.log.lastSeq + 2,
  };
  return decisionWith(
    withLocker(unit, { ...locker, door: 'open', rental }),
    context,
    [
      { type: 'ReservationRedeemed', locker: lockerId, data: { reservationId } },
      { type: 'RentalStarted', locker: lockerId, data: { ...rentalReference(rental), until } },
      { type: 'LockerOpened', locker: lockerId, data: { cause: 'reservation' } },
    ],
    { done: true, locker: lockerId, reservationId, rentalId: rental.rentalId, until },
  );
}

/** Whether a page about the locker is at least as new as the token, covers its period, and lacks the reservation. */
function isRevoked(unit: UnitModel, { locker, from, asOf }: OfflineTokenClaims): boolean {
  const known = syncedLocker(unit, locker);
  if (known === undefined || known.bookings < asOf) return false;
  return known.completeUntil === undefined || toMs(from) < toMs(known.completeUntil);
}

/** The customer who rents a locker opens it again. */
export function openLocker(
  unit: UnitModel,
  lockerId: string,
  context: DecisionContext,
): Decision<Outcome<{ locker: string }>> {
  const locker = findLocker(unit, lockerId);
  if (locker === undefined) return refusal(unit, 'unknown-locker', `This unit has no locker ${lockerId}.`);
  if (locker.rental === undefined) return refusal(unit, 'not-rented', `Locker ${lockerId} is not rented.`);
  if (locker.door === 'open') return refusal(unit, 'door-open', `The door of locker ${lockerId} is open.`);
  return openRentedLocker(unit, locker, context, { locker: lockerId });
}

/** A customer closes the door. A rental that the platform has released ends with it. */
export function closeDoor(
  unit: UnitModel,
  lockerId: string,
  context: DecisionContext,
): Decision<Outcome<{ locker: string }>> {
  const locker = findLocker(unit, lockerId);
  if (locker === undefined) return refusal(unit, 'unknown-locker', `This unit has no locker ${lockerId}.`);
  if (locker.door === 'closed') return refusal(unit, 'door-closed', `The door of locker ${lockerId} is closed.`);
  const closed: UnitLocker = { ...locker, door: 'closed' };
  const lockerClosed: EntryDraft = { type: 'LockerClosed', locker: lockerId, data: {} };
  const answer = { done: true, locker: lockerId } as const;
  if (locker.rental?.releaseOnClose === undefined)
    return decisionWith(withLocker(unit, closed), context, [lockerClosed], answer);
  const released = endRental(unit, closed, locker.rental, 'released', context.nowMs);
  return decisionWith(released.unit, context, [lockerClosed, released.draft], answer);
}

/** A customer gives a locker back. Its door must be closed. */
export function giveBackLocker(
  unit: UnitModel,
  lockerId: string,
  context: DecisionContext,
): Decision<Outcome<{ locker: string; rentalId: string }>> {
  const locker = findLocker(unit, lockerId);
  if (locker === undefined) return refusal(unit, 'unknown-locker', `This unit has no locker ${lockerId}.`);
  const { rental } = locker;
  if (rental === undefined) return refusal(unit, 'not-rented', `Locker ${lockerId} is not rented.`);
  if (locker.door === 'open')
    return refusal(unit, 'door-open', `The door of locker ${lockerId} is open. Close it first.`);
  const ended = endRental(unit, locker, rental, 'given-back', context.nowMs);
  return decisionWith(ended.unit, context, [ended.draft], { done: true, locker: lockerId, rentalId: rental.rentalId });
}

/** Ends a rental. The unit remembers its reservation, if it has one, as used: the QR code opens no locker any more. */
export function endRental(
  unit: UnitModel,
  locker: UnitLocker,
  rental: UnitRental,
  reason: 'given-back' | 'released',
  nowMs: number,
): { unit: UnitModel; draft: EntryDraft } {
  const vacated = withLocker(unit, withoutRental(locker));
  const draft: EntryDraft = { type: 'RentalEnded', locker: locker.id, data: { ...rentalReference(rental), reason } };
  if (rental.reservationId === undefined) return { unit: vacated, draft };
  const remembered = Object.entries(unit.usedReservations).filter(([, untilMs]) => untilMs + USED_RETENTION_MS > nowMs);
  const used = [...remembered, [rental.reservationId, toMs(rental.until)] as const].slice(-MAX_USED_RESERVATIONS);
  return { unit: { ...vacated, usedReservations: Object.fromEntries(used) }, draft };
}

export function lockerOpenFailed(locker: string, commandId?: string): EntryDraft {
  if (commandId === undefined) return { type: 'LockerOpenFailed', locker, data: { reason: 'jammed' } };
  return { type: 'LockerOpenFailed', locker, causationId: commandId, data: { reason: 'jammed', commandId } };
}

function openRentedLocker<T extends object>(
  unit: UnitModel,
  locker: UnitLocker,
  context: DecisionContext,
  answer: T,
): Decision<Outcome<T>> {
  const { id, rental } = locker;
  if (context.jammedLockers.has(id)) return decisionWith(unit, context, [lockerOpenFailed(id)], jammedOutcome(id));
  const cause = rental?.reservationId === undefined ? 'walk-up' : 'reservation';
  const opened: EntryDraft = { type: 'LockerOpened', locker: id, data: { cause } };
  return decisionWith(withLocker(unit, { ...locker, door: 'open' }), context, [opened], { done: true, ...answer });
}

function jammedOutcome(locker: string): { done: false; reason: 'jammed'; detail: string } {
  return { done: false, reason: 'jammed', detail: `The door of locker ${locker} is jammed.` };
}

/** The first locker that the unit can rent out for the period and whose door is not jammed. */
function pickFreeLocker(unit: UnitModel, period: Period, context: DecisionContext): UnitLocker | undefined {
  const { values } = unit.configuration;
  return unit.lockers.find(
    (locker) =>
      !context.jammedLockers.has(locker.id) &&
      unavailability(unit, locker, period, context.nowMs) === undefined &&
      priceOf(values, locker.size, period.fromMs, period.untilMs) !== undefined,
  );
}

function unavailability(
  unit: UnitModel,
  locker: UnitLocker,
  period: Period,
  nowMs: number,
): 'occupied' | 'door-open' | 'out-of-service' | 'reserved' | undefined {
  if (rentalPeriod(locker, nowMs) !== undefined) return 'occupied';
  if (locker.door === 'open') return 'door-open';
  const synced = syncedLocker(unit, locker.id);
  if (synced?.closed.some(({ from, until }) => overlaps(period, openEndedPeriod(from, until))) === true)
    return 'out-of-service';
  const isReserved = synced?.reservations.some(
    ({ reservationId, from, until }) =>
      !Object.hasOwn(unit.usedReservations, reservationId) &&
      overlaps(period, { fromMs: toMs(from), untilMs: toMs(until) }),
  );
  return isReserved === true ? 'reserved' : undefined;
}

function openEndedPeriod(from: string | undefined, until: string | undefined): Period {
  return {
    fromMs: from === undefined ? Number.NEGATIVE_INFINITY : toMs(from),
    untilMs: until === undefined ? Number.POSITIVE_INFINITY : toMs(until),
  };
}

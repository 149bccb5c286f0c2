/** What a customer does at the unit: rent at the screen, show a QR code, open, close, give back. Needs no connection. */

import { overlaps, type Period, rentalPeriod } from '../../domain/booking/allocation.ts';
import { priceOf } from '../../domain/booking/price.ts';
import type { OfflineTokenClaims } from '../../domain/unit-protocol/commands.ts';
import { type Money, toInstant, toMs } from '../../domain/vocabulary.ts';
import {
  type Decision,
  type DecisionContext,
  decisionWith,
  type EntryDraft,
  lockerOf,
  type Outcome,
  refusal,
  rentalReference,
  type UnitLocker,
  type UnitModel,
  type UnitRental,
  withLocker,
  withoutRental,
} from './model.ts';

const MS_PER_MINUTE = 60_000;
/** A used reservation is remembered this much longer than its period, so that a wrong clock brings no QR code back. */
const SPENT_RETENTION_MS = 24 * 60 * MS_PER_MINUTE;
/** Most used reservations that are remembered; the oldest go first. */
const MAX_SPENT_RESERVATIONS = 1_000;

export interface RentalOrder {
  /** Undefined: the unit picks one. */
  readonly locker?: string;
  readonly minutes: number;
  readonly byScenario?: true;
}

/** A customer rents at the screen and pays at the terminal. */
export function rentAtScreen(
  unit: UnitModel,
  order: RentalOrder,
  around: DecisionContext,
): Decision<Outcome<{ locker: string; rentalId: string; until: string; price: Money }>> {
  const { minimumMinutes, maximumMinutes } = unit.configuration.values;
  if (order.minutes < minimumMinutes || order.minutes > maximumMinutes) {
    return refusal(unit, 'period', `Lockers are rented for ${minimumMinutes} to ${maximumMinutes} minutes here.`);
  }
  const period = { fromMs: around.nowMs, untilMs: around.nowMs + order.minutes * MS_PER_MINUTE };
  const locker = order.locker === undefined ? pickFree(unit, period, around) : lockerOf(unit, order.locker);
  if (locker === undefined) {
    return order.locker === undefined
      ? refusal(unit, 'no-locker-free', 'No locker is free for that long.')
      : refusal(unit, 'unknown-locker', `This unit has no locker ${order.locker}.`);
  }
  const taken = whyTaken(unit, locker, period, around.nowMs);
  if (taken !== undefined) return refusal(unit, taken, `Locker ${locker.id} cannot be rented now: ${taken}.`);
  const price = priceOf(unit.configuration.values, locker.size, period.fromMs, period.untilMs);
  if (price === undefined)
    return refusal(unit, 'not-for-rent', `Lockers of size ${locker.size} are not for rent here.`);
  return payAndRent(unit, locker, { until: toInstant(period.untilMs), price, byScenario: order.byScenario }, around);
}

/** The money is taken only when the door can open: a customer never pays for a locker that stays shut. */
function payAndRent(
  unit: UnitModel,
  locker: UnitLocker,
  terms: { readonly until: string; readonly price: Money; readonly byScenario: true | undefined },
  around: DecisionContext,
): Decision<Outcome<{ locker: string; rentalId: string; until: string; price: Money }>> {
  const { id } = locker;
  const { until, price, byScenario } = terms;
  const rentalId = around.newId();
  const payment = { reference: around.newId(), ...price, rentalId };
  const started: EntryDraft = { type: 'PaymentStarted', locker: id, data: payment };
  const failed = (reason: string): EntryDraft => ({ type: 'PaymentFailed', locker: id, data: { ...payment, reason } });
  if (around.doesTerminalDecline) {
    const detail = 'The terminal declined the payment.';
    return decisionWith(unit, around, [started, failed('declined')], { done: false, reason: 'declined', detail });
  }
  if (around.jammedLockers.has(id)) {
    const drafts = [started, lockerOpenFailed(id), failed('the door is jammed')];
    return decisionWith(unit, around, drafts, jammedOutcome(id));
  }
  const rental: UnitRental = {
    rentalId,
    startedAt: toInstant(around.nowMs),
    until,
    ...(byScenario === undefined ? {} : { byScenario }),
  };
  return decisionWith(
    withLocker(unit, { ...locker, door: 'open', rental }),
    around,
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
 * A customer shows the QR code of a reservation, which the unit need not have heard of. `claims` come from a token whose
 * signature holds. What the platform synced is newer than the token, and wins.
 */
export function redeemReservation(
  unit: UnitModel,
  claims: OfflineTokenClaims,
  around: DecisionContext,
): Decision<Outcome<{ locker: string; reservationId: string; rentalId: string; until: string }>> {
  const reservationId = claims.sub;
  const inUse = unit.lockers.find((locker) => locker.rental?.reservationId === reservationId);
  if (inUse?.rental !== undefined) {
    const { rentalId, until } = inUse.rental;
    return openRented(unit, inUse, around, { locker: inUse.id, reservationId, rentalId, until });
  }
  if (Object.hasOwn(unit.usedReservations, reservationId))
    return refusal(unit, 'spent', 'The reservation was used, and its locker given back.');
  const known = unit.syncedList.reservations.find((reservation) => reservation.reservationId === reservationId);
  const { locker: lockerId, from, until } = known ?? claims;
  if (around.nowMs < toMs(from) || around.nowMs >= toMs(until)) {
    return refusal(unit, 'period', `The reservation is for ${from} until ${until}.`);
  }
  const locker = lockerOf(unit, lockerId);
  if (locker === undefined) return refusal(unit, 'unknown-locker', `This unit has no locker ${lockerId}.`);
  if (locker.rental !== undefined) return refusal(unit, 'occupied', `Locker ${lockerId} is rented to somebody else.`);
  if (around.jammedLockers.has(lockerId))
    return decisionWith(unit, around, [lockerOpenFailed(lockerId)], jammedOutcome(lockerId));
  const rental = { rentalId: around.newId(), reservationId, startedAt: toInstant(around.nowMs), until };
  return decisionWith(
    withLocker(unit, { ...locker, door: 'open', rental }),
    around,
    [
      { type: 'ReservationRedeemed', locker: lockerId, data: { reservationId } },
      { type: 'RentalStarted', locker: lockerId, data: { ...rentalReference(rental), until } },
      { type: 'LockerOpened', locker: lockerId, data: { cause: 'reservation' } },
    ],
    { done: true, locker: lockerId, reservationId, rentalId: rental.rentalId, until },
  );
}

/** Somebody who rents a locker opens it again. */
export function openLocker(
  unit: UnitModel,
  lockerId: string,
  around: DecisionContext,
): Decision<Outcome<{ locker: string }>> {
  const locker = lockerOf(unit, lockerId);
  if (locker === undefined) return refusal(unit, 'unknown-locker', `This unit has no locker ${lockerId}.`);
  if (locker.rental === undefined) return refusal(unit, 'not-rented', `Nobody rents locker ${lockerId}.`);
  if (locker.door === 'open') return refusal(unit, 'door-open', `The door of ${lockerId} stands open.`);
  return openRented(unit, locker, around, { locker: lockerId });
}

/** Somebody shuts a door. */
export function closeDoor(
  unit: UnitModel,
  lockerId: string,
  around: DecisionContext,
): Decision<Outcome<{ locker: string }>> {
  const locker = lockerOf(unit, lockerId);
  if (locker === undefined) return refusal(unit, 'unknown-locker', `This unit has no locker ${lockerId}.`);
  if (locker.door === 'closed') return refusal(unit, 'door-closed', `The door of ${lockerId} is closed.`);
  const closed: UnitLocker = { ...locker, door: 'closed' };
  const shut: EntryDraft = { type: 'LockerClosed', locker: lockerId, data: {} };
  const answer = { done: true, locker: lockerId } as const;
  if (locker.rental?.releaseOnClose === undefined)
    return decisionWith(withLocker(unit, closed), around, [shut], answer);
  const released = endRental(unit, closed, locker.rental, 'released', around.nowMs);
  return decisionWith(released.unit, around, [shut, released.draft], answer);
}

/** Somebody gives a locker back, with its door closed. */
export function giveBackLocker(
  unit: UnitModel,
  lockerId: string,
  around: DecisionContext,
): Decision<Outcome<{ locker: string; rentalId: string }>> {
  const locker = lockerOf(unit, lockerId);
  if (locker === undefined) return refusal(unit, 'unknown-locker', `This unit has no locker ${lockerId}.`);
  const { rental } = locker;
  if (rental === undefined) return refusal(unit, 'not-rented', `Nobody rents locker ${lockerId}.`);
  if (locker.door === 'open') return refusal(unit, 'door-open', `The door of ${lockerId} stands open; close it first.`);
  const ended = endRental(unit, locker, rental, 'given-back', around.nowMs);
  return decisionWith(ended.unit, around, [ended.draft], { done: true, locker: lockerId, rentalId: rental.rentalId });
}

/** The unit without the rental, and what its log says about that. A reservation that was used opens nothing more. */
export function endRental(
  unit: UnitModel,
  locker: UnitLocker,
  rental: UnitRental,
  reason: 'given-back' | 'released',
  nowMs: number,
): { unit: UnitModel; draft: EntryDraft } {
  const freed = withLocker(unit, withoutRental(locker));
  const draft: EntryDraft = { type: 'RentalEnded', locker: locker.id, data: { ...rentalReference(rental), reason } };
  if (rental.reservationId === undefined) return { unit: freed, draft };
  const kept = Object.entries(unit.usedReservations).filter(([, untilMs]) => untilMs + SPENT_RETENTION_MS > nowMs);
  const spent = [...kept, [rental.reservationId, toMs(rental.until)] as const].slice(-MAX_SPENT_RESERVATIONS);
  return { unit: { ...freed, usedReservations: Object.fromEntries(spent) }, draft };
}

export function lockerOpenFailed(locker: string, commandId?: string): EntryDraft {
  if (commandId === undefined) return { type: 'LockerOpenFailed', locker, data: { reason: 'jammed' } };
  return { type: 'LockerOpenFailed', locker, causationId: commandId, data: { reason: 'jammed', commandId } };
}

function openRented<T extends object>(
  unit: UnitModel,
  locker: UnitLocker,
  around: DecisionContext,
  answer: T,
): Decision<Outcome<T>> {
  const { id, rental } = locker;
  if (around.jammedLockers.has(id)) return decisionWith(unit, around, [lockerOpenFailed(id)], jammedOutcome(id));
  const cause = rental?.reservationId === undefined ? 'walk-up' : 'reservation';
  const opened: EntryDraft = { type: 'LockerOpened', locker: id, data: { cause } };
  return decisionWith(withLocker(unit, { ...locker, door: 'open' }), around, [opened], { done: true, ...answer });
}

function jammedOutcome(locker: string): { done: false; reason: 'jammed'; detail: string } {
  return { done: false, reason: 'jammed', detail: `The door of ${locker} is jammed.` };
}

/** The first locker that could be rented now. One that says it is jammed is not offered. */
function pickFree(unit: UnitModel, period: Period, around: DecisionContext): UnitLocker | undefined {
  const { values } = unit.configuration;
  return unit.lockers.find(
    (locker) =>
      !around.jammedLockers.has(locker.id) &&
      whyTaken(unit, locker, period, around.nowMs) === undefined &&
      priceOf(values, locker.size, period.fromMs, period.untilMs) !== undefined,
  );
}

function whyTaken(
  unit: UnitModel,
  locker: UnitLocker,
  period: Period,
  nowMs: number,
): 'occupied' | 'door-open' | 'reserved' | undefined {
  if (rentalPeriod(locker, nowMs) !== undefined) return 'occupied';
  if (locker.door === 'open') return 'door-open';
  const reserved = unit.syncedList.reservations.some(
    ({ reservationId, locker: id, from, until }) =>
      id === locker.id &&
      !Object.hasOwn(unit.usedReservations, reservationId) &&
      overlaps(period, { fromMs: toMs(from), untilMs: toMs(until) }),
  );
  return reserved ? 'reserved' : undefined;
}

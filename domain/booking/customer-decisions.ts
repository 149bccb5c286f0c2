/**
 * The decisions of a customer on a reservation (its states: `reservation.ts`).
 *
 * A decision is guarded by the sequence of the unit's `booking` subject alone. The state includes what the unit reported, but a
 * report never conflicts with a decision: `settlement.ts` corrects a decision that was made before a report arrived. The repetition
 * of a command that was executed returns no events.
 */

import { requireConfigured } from '../configuration/configuration.ts';
import { requireOpen } from '../configuration/opening-hours.ts';
import { usageOf } from '../device/unit-log.ts';
import type { EventOf } from '../events/catalogue.ts';
import type { EventDraft } from '../events/drafts.ts';
import { overlaps, type Period } from '../period.ts';
import { Refusal } from '../refusal.ts';
import { requireBookableUnit } from '../registry/registry.ts';
import { type LockerSize, toInstant, toMs } from '../vocabulary.ts';
import { type AccessCodeOf, drawAccessCode } from './access-codes.ts';
import { blocksLocker, freeLockers, periodOf } from './allocation.ts';
import type { BookingContext } from './context.ts';
import { priceOf } from './price.ts';
import { findReservation, isFailureOfLocker, type Reservation } from './reservation.ts';
import { reconcileUsage, settleReservation, withDrafts } from './settlement.ts';

const MS_PER_S = 1_000;
const MS_PER_MINUTE = 60_000;
const MS_PER_DAY = 86_400_000;
/** How far `from` may lie in the past: a phone whose clock is behind still reserves from now on. */
export const PAST_TOLERANCE_MS = 60_000;
/** How far ahead a customer may reserve. */
export const MAX_RESERVE_AHEAD_DAYS = 365;
/** How long after the request a unit may open the door. */
export const OPEN_COMMAND_TTL_MS = 10_000;

/** A command of a customer on a reservation. */
export interface ReservationCommand {
  readonly commandId: string;
  readonly reservationId: string;
  readonly customer: string;
  readonly nowMs: number;
}

export interface HoldCommand extends ReservationCommand {
  readonly requested: { readonly size: LockerSize } | { readonly locker: string };
  readonly from: string;
  readonly until: string;
}

/** Holds a locker. @throws Refusal `validation` (period, locker), `no-locker-free`, `not-found` (unit). */
export function holdLocker(state: BookingContext, command: HoldCommand): EventDraft[] {
  const earlier = findReservation(state.booking, command.reservationId);
  if (earlier?.customer === command.customer) return [];
  if (earlier !== undefined) throw stateRefusal(earlier, 'It exists already.');
  const unit = requireBookableUnit(state.registry);
  const { values, version } = requireConfigured(state.configuration).desired;
  const period = { fromMs: toMs(command.from), untilMs: toMs(command.until) };
  requireBookablePeriod(period, values, command.nowMs);
  requireOpen(values, unit.timeZone, period);

  const { requested: wanted } = command;
  if ('locker' in wanted && !unit.lockers.some((locker) => locker.id === wanted.locker)) {
    throw new Refusal('validation', `This unit has no locker ${wanted.locker}.`, [
      { path: '/locker', message: 'is not a locker of this unit' },
    ]);
  }
  const { certain, doubtful } = freeLockers(unit, state, period, command.nowMs);
  const locker = [...certain, ...doubtful].find((free) =>
    'locker' in wanted ? free.id === wanted.locker : free.size === wanted.size,
  );
  if (locker === undefined) {
    const what = 'locker' in wanted ? `Locker ${wanted.locker} is not` : `No locker of size ${wanted.size} is`;
    throw new Refusal('no-locker-free', `${what} free from ${command.from} until ${command.until}.`);
  }
  const price = priceOf(values, locker.size, period.fromMs, period.untilMs);
  if (price === undefined) throw new Refusal('no-locker-free', `Lockers of size ${locker.size} are not for rent here.`);
  return [
    {
      type: 'ReservationHeld',
      locker: locker.id,
      data: {
        reservationId: command.reservationId,
        customer: command.customer,
        locker: locker.id,
        size: locker.size,
        from: toInstant(period.fromMs),
        until: toInstant(period.untilMs),
        holdExpiresAt: toInstant(Math.min(command.nowMs + values.holdTtlS * MS_PER_S, period.untilMs)),
        price,
        configurationVersion: version,
      },
    },
  ];
}

/** Checks a period against the clock and the rental limits of a unit. @throws Refusal `validation` with `/from` or `/until` */
export function requireBookablePeriod(
  period: Period,
  limits: { readonly minimumMinutes: number; readonly maximumMinutes: number },
  nowMs: number,
): void {
  const { fromMs, untilMs } = period;
  const minutes = (untilMs - fromMs) / MS_PER_MINUTE;
  const refuse = (path: string, message: string) => {
    throw new Refusal('validation', 'The period cannot be reserved.', [{ path, message }]);
  };
  if (!Number.isFinite(fromMs)) refuse('/from', 'is not a time');
  if (!Number.isFinite(untilMs)) refuse('/until', 'is not a time');
  if (untilMs <= fromMs) refuse('/until', 'must be after from');
  if (fromMs < nowMs - PAST_TOLERANCE_MS) refuse('/from', 'lies in the past');
  if (fromMs > nowMs + MAX_RESERVE_AHEAD_DAYS * MS_PER_DAY) {
    refuse('/from', `lies more than ${MAX_RESERVE_AHEAD_DAYS} days ahead`);
  }
  if (minutes < limits.minimumMinutes) refuse('/until', `must be at least ${limits.minimumMinutes} minutes after from`);
  if (minutes > limits.maximumMinutes) refuse('/until', `must be at most ${limits.maximumMinutes} minutes after from`);
}

/** Confirms a hold after its payment. @throws Refusal `reservation-state`, `not-found`. */
export function confirmReservation(
  state: BookingContext,
  command: ReservationCommand & { paymentReference: string; accessCodeOf: AccessCodeOf },
): EventDraft[] {
  const reservation = requireOwnReservation(state, command);
  if (isRepeated(reservation, command)) return [];
  if (reservation.status !== 'held') {
    throw stateRefusal(
      reservation,
      reservation.status === 'confirmed' ? 'It is confirmed already.' : 'It cannot be confirmed.',
    );
  }
  if (!blocksLocker(reservation, command.nowMs)) throw holdExpiredRefusal(reservation);
  if (isLockerPromisedToAnother(state, reservation))
    throw stateRefusal(reservation, 'Another customer has its locker by now.');
  const { id, price } = reservation;
  const accessCodeDraw = drawAccessCode(state.booking, reservation, command.accessCodeOf);
  if (accessCodeDraw === undefined)
    throw stateRefusal(reservation, 'No access code is free at the unit. Try it later.');
  return [
    {
      type: 'PaymentSucceeded',
      locker: reservation.locker,
      data: { reference: command.paymentReference, ...price, reservationId: id },
    },
    {
      type: 'ReservationConfirmed',
      locker: reservation.locker,
      data: {
        reservationId: id,
        paymentReference: command.paymentReference,
        ...(accessCodeDraw === 0 ? {} : { accessCodeDraw }),
      },
    },
  ];
}

/** Cancels a reservation before its use. @throws Refusal `reservation-state`, `not-found`. */
export function cancelReservation(state: BookingContext, command: ReservationCommand): EventDraft[] {
  const reservation = requireOwnReservation(state, command);
  if (isRepeated(reservation, command)) return [];
  const unused = reservation.status === 'held' || reservation.status === 'confirmed';
  if (!unused || usageOf(state, reservation.id) !== undefined) {
    throw stateRefusal(
      reservation,
      reservation.status === 'cancelled' ? 'It is cancelled already.' : 'Only an unused one can be cancelled.',
    );
  }
  if (!blocksLocker(reservation, command.nowMs)) throw holdExpiredRefusal(reservation);
  if (isBeingOpened(reservation, command.nowMs))
    throw stateRefusal(reservation, 'Its locker is being opened; wait a few seconds.');
  if (command.nowMs >= toMs(reservation.until))
    throw stateRefusal(reservation, `Its period ended at ${reservation.until}.`);
  return [{ type: 'ReservationCancelled', locker: reservation.locker, data: { reservationId: reservation.id } }];
}

/**
 * Requests to open the locker now. It settles the reservation first, so that a displaced one opens its new locker. The platform records
 * the request before it sends the command to the unit. A repeated request is checked anew, and is recorded once.
 *
 * When settlement ends the reservation, the result is its events without a request, and `requireOpenable` refuses on the new state.
 * @throws Refusal `not-yet` before the period, `reservation-state`, `not-found`.
 */
export function requestLockerOpen(state: BookingContext, command: ReservationCommand): EventDraft[] {
  const before = requireOwnReservation(state, command);
  const refusalBefore = openRefusal(state, before, command.nowMs);
  if (refusalBefore !== undefined) throw refusalBefore;
  const settled = settleReservation(state, before, command.nowMs);
  const present = withDrafts(state, settled, toInstant(command.nowMs));
  const reservation = findReservation(present.booking, before.id) ?? before;
  if (openRefusal(present, reservation, command.nowMs) !== undefined) return settled;
  const openId = openIdOf(reservation, command.commandId);
  if (Object.hasOwn(reservation.openResults, openId)) return settled;
  const locker = lockerOf(present, reservation);
  const expiresAt = toInstant(command.nowMs + OPEN_COMMAND_TTL_MS);
  const data = { reservationId: reservation.id, locker, commandId: openId, expiresAt };
  return [...settled, { type: 'LockerOpenRequested', locker, data }];
}

/** A request to open that is recorded and may be sent to the unit. */
export interface LockerOpening {
  /** The id of the command to the unit, which executes it once. */
  readonly openId: string;
  readonly locker: string;
  readonly until: string;
  readonly isOpened: boolean;
}

/** The opening that `requestLockerOpen` has recorded. @throws Refusal `not-yet`, `reservation-state`, `not-found` */
export function requireOpenable(state: BookingContext, command: ReservationCommand): LockerOpening {
  const reservation = requireOwnReservation(state, command);
  const refusal = openRefusal(state, reservation, command.nowMs);
  if (refusal !== undefined) throw refusal;
  const openId = openIdOf(reservation, command.commandId);
  const isOpened = reservation.openResults[openId] === 'opened';
  return { openId, locker: lockerOf(state, reservation), until: reservation.until, isOpened };
}

function openRefusal(state: BookingContext, reservation: Reservation, nowMs: number): Refusal | undefined {
  const { status, from, until } = reservation;
  const usage = usageOf(state, reservation.id);
  if (usage?.endedAt !== undefined) return stateRefusal(reservation, `It was given back at ${usage.endedAt}.`);
  if (status !== 'confirmed' && status !== 'active')
    return stateRefusal(reservation, 'Only a confirmed one opens its locker.');
  if (status === 'active' || usage !== undefined) return undefined;
  if (nowMs < toMs(from)) return new Refusal('not-yet', `The reservation begins at ${from}.`);
  if (nowMs >= toMs(until)) return stateRefusal(reservation, `Its period ended at ${until}.`);
  return undefined;
}

/**
 * The id of the command to the unit: that of the customer's command, or, after failed ones, that id with the number of the attempt. A
 * unit answers a repeated id with its stored answer, so a new attempt needs a new id.
 */
function openIdOf(reservation: Reservation, commandId: string): string {
  for (let attempt = 1; ; attempt += 1) {
    const openId = attempt === 1 ? commandId : `${commandId}.${attempt}`;
    const result = reservation.openResults[openId];
    if (result !== 'failed' && result !== 'refused') return openId;
  }
}

/** The locker in which the unit reported the usage, or else the booked one. */
function lockerOf(state: BookingContext, reservation: Reservation): string {
  return usageOf(state, reservation.id)?.locker ?? reservation.locker;
}

/**
 * Records the outcome of a request to open. The first door that opens starts the rental. A door that failed moves the reservation to
 * another locker when one fits.
 */
export function recordOpenAnswer(
  state: BookingContext,
  answer: {
    readonly reservationId: string;
    readonly commandId: string;
    /** The locker that the unit was told to open; the reservation may have moved since. */
    readonly locker: string;
    readonly result: EventOf<'LockerOpenAnswered'>['result'];
    readonly reason?: string;
    readonly nowMs: number;
  },
): EventDraft[] {
  const { commandId, locker, result, reason, nowMs } = answer;
  const reservation = findReservation(state.booking, answer.reservationId);
  // The server may send the command again after the unit was unreachable, so that only this outcome may change.
  const answered = reservation?.openResults[commandId];
  if (reservation === undefined || answered === undefined || answered === result) return [];
  if (answered !== 'pending' && answered !== 'unreachable') return [];
  const { id, status } = reservation;
  const data = { reservationId: id, locker, commandId, result, ...(reason === undefined ? {} : { reason }) };
  const drafts: EventDraft[] = [{ type: 'LockerOpenAnswered', locker, data }];
  if (result === 'opened' && status === 'confirmed') drafts.push(startReservation(state, reservation, locker, nowMs));
  const present = withDrafts(state, drafts, toInstant(nowMs));
  const failed = findReservation(present.booking, id);
  const settled =
    failed === undefined || !isFailureOfLocker(result, reason) ? [] : settleReservation(present, failed, nowMs);
  return [...drafts, ...settled];
}

/** Gives the locker back. @throws Refusal `reservation-state` (not in use, door open), `not-found`. */
export function endReservation(state: BookingContext, command: ReservationCommand): EventDraft[] {
  const reservation = requireOwnReservation(state, command);
  if (isRepeated(reservation, command)) return [];
  const { id, status } = reservation;
  const use = usageOf(state, reservation.id);
  if (status === 'confirmed' && use === undefined) {
    throw stateRefusal(reservation, 'It was not used yet; cancel it instead.');
  }
  if (status !== 'active' && status !== 'confirmed') throw stateRefusal(reservation, 'It is not in use.');
  const followed = reconcileUsage(state, reservation) ?? [];
  if (use?.endedAt !== undefined) return followed;
  const locker = use?.locker ?? reservation.locker;
  if (state.device.lockers[locker]?.door === 'open') {
    throw stateRefusal(reservation, 'The door stands open; close it first.');
  }
  const data = { reservationId: id, endedAt: toInstant(command.nowMs), endedBy: 'customer' as const };
  return [...followed, { type: 'ReservationCompleted', locker, data }];
}

/** The reservation of this customer. Those of other customers count as not found. @throws Refusal `not-found` */
export function requireOwnReservation(
  state: BookingContext,
  command: { reservationId: string; customer: string },
): Reservation {
  const reservation = findReservation(state.booking, command.reservationId);
  if (reservation === undefined || reservation.customer !== command.customer) {
    throw new Refusal('not-found', 'There is no such reservation.');
  }
  return reservation;
}

/** The start of the usage as the unit reported it, or else now, in the locker that opened. */
function startReservation(state: BookingContext, { id }: Reservation, openedLocker: string, nowMs: number): EventDraft {
  const usage = usageOf(state, id);
  const locker = usage?.locker ?? openedLocker;
  const startedAt = usage?.startedAt ?? toInstant(nowMs);
  return { type: 'ReservationStarted', locker, data: { reservationId: id, locker, startedAt } };
}

/**
 * Whether a later reservation has the locker of a hold: a process whose clock had seen the hold run out promised it to another
 * customer. The later hold, and every confirmed reservation, keeps the locker.
 */
function isLockerPromisedToAnother(state: BookingContext, held: Reservation): boolean {
  const { open } = state.booking;
  const place = open.findIndex(({ id }) => id === held.id);
  return open.some(
    (other, index) =>
      other.id !== held.id &&
      other.locker === held.locker &&
      (other.status !== 'held' || index > place) &&
      overlaps(periodOf(other), periodOf(held)),
  );
}

/** Whether a command to open is on its way to the unit. */
function isBeingOpened({ openResults, openableUntil }: Reservation, nowMs: number): boolean {
  if (openableUntil === undefined || nowMs >= toMs(openableUntil)) return false;
  return Object.values(openResults).includes('pending');
}

function isRepeated(reservation: Reservation, command: ReservationCommand): boolean {
  return reservation.commandIds.includes(command.commandId);
}

function stateRefusal(reservation: Reservation, why: string): Refusal {
  return new Refusal('reservation-state', `The reservation is ${reservation.status}. ${why}`);
}

function holdExpiredRefusal(reservation: Reservation): Refusal {
  return stateRefusal(reservation, `The hold ran out at ${reservation.holdExpiresAt}.`);
}

/** What follows from a unit's answer to a page of the list of reservations. */

import { findReservation, type Reservation } from '../booking/reservation.ts';
import { nextExpectedSeq, usageOf } from '../device/unit-log.ts';
import type { EventDraft } from '../events/drafts.ts';
import type { CommandAnswer } from '../unit-protocol/commands.ts';
import type { SyncReservations } from '../unit-protocol/reservation-list.ts';
import { toInstant } from '../vocabulary.ts';
import { isKeptByUnit } from './reservation-list.ts';
import type { UnitState } from './unit.ts';

/** A reason of a unit that its log explains: the rental at its screen that occupies the locker. */
const EXPLAINED_BY_LOG = 'occupied';

export interface AnsweredPage {
  /** The state from which the page was computed. */
  readonly sentFrom: UnitState;
  readonly page: SyncReservations;
  readonly answer: Pick<CommandAnswer, 'rejected' | 'log' | 'rentals'>;
}

/**
 * Records what a unit answered to a page: the reservations that it keeps, those that it refuses, and those whose locker it has free. At
 * most one event for each reservation of the page. A reservation that changed after the page was sent waits for the next page.
 */
export function recordUnitAnswer(state: UnitState, answered: AnsweredPage, nowMs: number): EventDraft[] {
  const refused = new Map(answered.answer.rejected?.map(({ reservationId, reason }) => [reservationId, reason]));
  return answered.page.reservations.flatMap(({ reservationId, locker }): EventDraft[] => {
    const current = findReservation(state.booking, reservationId);
    if (current === undefined || current.locker !== locker || !isKeptByUnit(current)) return [];
    const reason = refused.get(reservationId);
    if (reason === EXPLAINED_BY_LOG) return [];
    if (reason !== undefined) return refuseReservation(current, reason);
    if (isFreeAtUnit(state, answered, current)) {
      const data = { reservationId, endedAt: toInstant(nowMs), endedBy: 'unit' as const };
      return [{ type: 'ReservationCompleted', locker, data }];
    }
    return current.unitAck === 'pending' ? [{ type: 'ReservationAccepted', locker, data: { reservationId } }] : [];
  });
}

function refuseReservation({ id, locker, status, unitAck }: Reservation, reason: string): EventDraft[] {
  if (status !== 'confirmed' || unitAck === 'rejected') return [];
  return [{ type: 'ReservationRefusedByUnit', locker, data: { reservationId: id, locker, reason } }];
}

/**
 * Whether the answer proves that a reservation is over: it was active in the state that was sent, the whole log of the unit was recorded
 * without a use of it, and no rental of it runs at the unit.
 */
function isFreeAtUnit(
  state: UnitState,
  { sentFrom, page, answer }: AnsweredPage,
  { id, status, openResults }: Reservation,
): boolean {
  if (status !== 'active' || usageOf(state, id) !== undefined) return false;
  const sent = findReservation(sentFrom.booking, id);
  // A request to open that came meanwhile may have started a use behind the answered place of the log.
  if (sent?.status !== 'active' || !hasSameOpenings(sent.openResults, openResults)) return false;
  return isLogRecorded(page, answer) && answer.rentals?.includes(id) === false;
}

function hasSameOpenings(sent: Reservation['openResults'], current: Reservation['openResults']): boolean {
  const openings = Object.entries(current);
  return (
    openings.length === Object.keys(sent).length &&
    openings.every(([commandId, result]) => result !== 'pending' && sent[commandId] === result)
  );
}

/** Whether the page was computed from the whole log that the unit has at its answer. */
function isLogRecorded({ asOf }: SyncReservations, { log }: AnsweredPage['answer']): boolean {
  return log !== undefined && log.epoch === asOf.epoch && log.lastSeq === asOf.seq;
}

/**
 * Whether the unit must get the page again once more of its log is recorded: it runs a rental that the page does not name, or does not
 * run one that the platform believes active, and its log goes on behind the place from which the page was computed.
 */
export function isAnswerInconclusive({ sentFrom, page, answer }: AnsweredPage): boolean {
  const { log, rentals = [] } = answer;
  if (log === undefined || isLogRecorded(page, answer)) return false;
  const named = new Set(page.reservations.map(({ reservationId }) => reservationId));
  const running = new Set(rentals);
  return (
    rentals.some((id) => !named.has(id)) ||
    page.reservations.some(
      ({ reservationId: id }) => !running.has(id) && findReservation(sentFrom.booking, id)?.status === 'active',
    )
  );
}

/** Whether everything up to a place in the log of a unit is recorded, or lost. */
export function isRecordedUpTo(
  { log, device }: UnitState,
  place: { readonly epoch: string; readonly seq: number },
): boolean {
  return nextExpectedSeq(log, device, place.epoch) > place.seq;
}

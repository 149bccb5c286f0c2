/** Ends a use that the customer and the unit do not end: by an operator, or because the unit has left the platform. */

import { usageOf } from '../device/unit-log.ts';
import type { EventDraft } from '../events/drafts.ts';
import { Refusal } from '../refusal.ts';
import { toInstant } from '../vocabulary.ts';
import type { BookingContext } from './context.ts';
import { findReservation, isFinished, type Reservation } from './reservation.ts';

export interface ForceEndCommand {
  readonly commandId: string;
  readonly reservationId: string;
  readonly reason: string;
  readonly nowMs: number;
}

/**
 * Ends a reservation for an operator. One that is not in use is rejected, so that its customer is told why. The unit releases a rental
 * of it with its next list of reservations.
 * @throws Refusal `reservation-state` when it is over; `not-found`
 */
export function forceEndReservation(state: BookingContext, command: ForceEndCommand): EventDraft[] {
  const reservation = findReservation(state.booking, command.reservationId);
  if (reservation === undefined) throw new Refusal('not-found', 'There is no such reservation.');
  if (reservation.commandIds.includes(command.commandId)) return [];
  if (isFinished(reservation))
    throw new Refusal('reservation-state', `The reservation is ${reservation.status}. It is over already.`);
  return endByOperator(state, reservation, command.reason, command.nowMs);
}

/** Whether a reservation is in use at a unit that has left the platform. */
export function isDueAtRetirement(state: BookingContext, { id, status }: Reservation): boolean {
  return state.registry.status === 'retired' && status === 'active' && usageOf(state, id)?.endedAt === undefined;
}

/** Ends a reservation that is in use at a retired unit; `undefined` when there is nothing to end. */
export function endAtRetirement(
  state: BookingContext,
  reservation: Reservation,
  nowMs: number,
): EventDraft[] | undefined {
  if (!isDueAtRetirement(state, reservation)) return undefined;
  return endByOperator(state, reservation, 'The unit has left the platform.', nowMs);
}

function endByOperator(state: BookingContext, reservation: Reservation, reason: string, nowMs: number): EventDraft[] {
  const { id, status } = reservation;
  const usage = usageOf(state, id);
  const locker = usage?.locker ?? reservation.locker;
  if (status !== 'active' && usage === undefined)
    return [{ type: 'ReservationRejected', locker, data: { reservationId: id, reason } }];
  const started = { reservationId: id, locker, startedAt: usage?.startedAt ?? toInstant(nowMs) };
  const endedAt = usage?.endedAt ?? toInstant(nowMs);
  return [
    ...(status === 'active' ? [] : [{ type: 'ReservationStarted' as const, locker, data: started }]),
    {
      type: 'ReservationCompleted',
      locker,
      data: { reservationId: id, endedAt, endedBy: 'operator', reason },
    },
  ];
}

/** Carries out what operators do with the reservations of customers. */

import { forceEndReservation } from '../../../domain/booking/force-end.ts';
import { type Reservation as BookedReservation, findReservation } from '../../../domain/booking/reservation.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';
import type { Answer } from '../../http/idempotent-writes.ts';
import { Problem } from '../../http/problems.ts';
import { type Reservation, unitOfReservation } from './schema.ts';

export interface ReservationSupportDependencies {
  readonly decider: UnitDecider;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

export class ReservationSupport {
  readonly #deps: ReservationSupportDependencies;

  constructor(deps: ReservationSupportDependencies) {
    this.#deps = deps;
  }

  /** Ends a reservation that the customer and the unit do not end. @throws Refusal `reservation-state`, `not-found` */
  async forceEnd(
    {
      commandId,
      actor,
      reservationId,
    }: { readonly commandId: string; readonly actor: string; readonly reservationId: string },
    reason: string,
  ): Promise<Answer<Reservation, 200>> {
    const { decider, clock } = this.#deps;
    const unit = unitOfReservation(reservationId);
    const meta = { commandId, actor, source: '/lockfleet/server' };
    const { state, sequence } = await decider.decide(unit, 'booking', meta, (before) =>
      forceEndReservation(before, { commandId, reservationId, reason, nowMs: clock() }),
    );
    const reservation = findReservation(state.booking, reservationId);
    if (reservation === undefined) throw new Problem('not-found', 404, `There is no reservation ${reservationId}.`);
    return { status: 200, body: supportedReservation({ ...reservation, unit }), position: sequence };
  }
}

/** A reservation as operators see it: with its customer, and without what opens the locker. */
export function supportedReservation(reservation: BookedReservation & { readonly unit: string }): Reservation {
  const { id, unit, customer, locker, size, from, until, status, holdExpiresAt, price, unitAck } = reservation;
  return { id, unit, customer, locker, size, from, until, status, holdExpiresAt, price, unitAck };
}

/**
 * Access codes: six digits that open the locker of a reservation at the screen of its unit. A code is derived from the reservation
 * and the number of a draw, so that an event contains the draw and no code.
 *
 * From its confirmation to its end, no other reservation of the unit has the code of a reservation. A reservation that was cancelled,
 * expired or rejected keeps its code as long as the state has it: it becomes active again when the unit reports its use.
 */

import { allReservations, type BookingState, type Reservation } from './reservation.ts';

/** Draws that are tried. With 10,000 reservations at a unit, one in a hundred codes is taken, so the second draw is seldom needed. */
export const MAX_ACCESS_CODE_DRAWS = 32;

/** The code of a reservation. @param draw 0 for the first one */
export type AccessCodeOf = (reservationId: string, draw: number) => string;

/** The first draw whose code no other reservation of the unit has; `undefined` when the code of every draw is taken. */
export function drawAccessCode(
  state: BookingState,
  reservation: Reservation,
  accessCodeOf: AccessCodeOf,
): number | undefined {
  const others = allReservations(state).filter(({ id, status }) => id !== reservation.id && status !== 'completed');
  for (let draw = 0; draw < MAX_ACCESS_CODE_DRAWS; draw += 1) {
    const code = accessCodeOf(reservation.id, draw);
    if (!others.some(({ id, accessCodeDraw = 0 }) => accessCodeOf(id, accessCodeDraw) === code)) return draw;
  }
  return undefined;
}

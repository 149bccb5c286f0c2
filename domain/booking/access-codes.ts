/**
 * Access codes: six digits that open the locker of a reservation at the screen of its unit. A code is derived from the reservation
 * and the number of a draw, so that an event contains the draw and no code.
 *
 * From its confirmation to its end, no other reservation of the unit has the code of a reservation. A reservation that was cancelled,
 * expired or rejected keeps its code as long as the state has it: it becomes active again when the unit reports its use.
 */

import type { BookingState, Reservation } from './reservation.ts';

/** Draws that are tried. With 10,000 reservations at a unit, one in a hundred codes is taken, so the second draw is seldom needed. */
export const MAX_ACCESS_CODE_DRAWS = 32;

/** The code of a reservation: the same for the same arguments. @param draw 0 for the first one */
export type AccessCodeOf = (reservationId: string, draw: number) => string;

/** Codes that were derived: a decision compares a new code with those of thousands of reservations at a busy unit. */
const CODES = new WeakMap<AccessCodeOf, WeakMap<Reservation, string>>();

function codeOf(reservation: Reservation, accessCodeOf: AccessCodeOf): string {
  const codes = CODES.get(accessCodeOf) ?? new WeakMap<Reservation, string>();
  CODES.set(accessCodeOf, codes);
  const known = codes.get(reservation);
  if (known !== undefined) return known;
  const code = accessCodeOf(reservation.id, reservation.accessCodeDraw ?? 0);
  codes.set(reservation, code);
  return code;
}

/** The first draw whose code no other reservation of the unit has; `undefined` when the code of every draw is taken. */
export function drawAccessCode(
  state: BookingState,
  reservation: Reservation,
  accessCodeOf: AccessCodeOf,
): number | undefined {
  for (let draw = 0; draw < MAX_ACCESS_CODE_DRAWS; draw += 1) {
    const code = accessCodeOf(reservation.id, draw);
    const hasCode = (other: Reservation) =>
      codeOf(other, accessCodeOf) === code && other.id !== reservation.id && other.status !== 'completed';
    if (!state.open.some(hasCode) && !state.finished.some(hasCode)) return draw;
  }
  return undefined;
}

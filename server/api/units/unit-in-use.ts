/** The problem that customers still use a unit or a locker that an operator wants to remove. */

import type { UnitUse } from '../../../domain/unit/unit-use.ts';
import { Problem } from '../../http/problems.ts';

/** Reservations and rentals that a problem names. */
const MAX_NAMED = 20;

export function unitInUseProblem(
  what: string,
  { bookings, rentals }: UnitUse,
  backlog: number,
  advice: string,
): Problem {
  const reasons = [
    ...(bookings.length === 0 ? [] : [counted(bookings.length, 'open booking')]),
    ...(rentals.length === 0 ? [] : [counted(rentals.length, 'running rental')]),
    ...(backlog === 0
      ? []
      : [counted(backlog, 'event that the platform has not recorded', 'events that the platform has not recorded')]),
  ];
  return new Problem('unit-in-use', 409, `${what} has ${reasons.join(' and ')}. ${advice}`, {
    inUse: {
      bookings: bookings.length,
      reservations: bookings.slice(0, MAX_NAMED).map(({ id }) => id),
      rentals: rentals.slice(0, MAX_NAMED).map((rental) => ({ ...rental })),
      backlog,
    },
  });
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

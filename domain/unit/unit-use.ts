/** What stands in the way of retiring a unit or removing a locker: its bookings, and the rentals that run. */

import type { BookingContext } from '../booking/context.ts';
import { findReservation, type Reservation } from '../booking/reservation.ts';
import type { FormerUnit } from '../registry/registry.ts';

export interface UnitUse {
  /** Reservations that are held, confirmed or active, in the order of their holds. */
  readonly bookings: readonly Reservation[];
  /** Rentals that the unit reported and that run, with and without a reservation. */
  readonly rentals: readonly { readonly locker: string; readonly rentalId: string; readonly reservationId?: string }[];
}

/** What a retired unit leaves to the next one that is registered with its name. */
export function formerUnitOf({
  booking,
  configuration,
}: Pick<BookingContext, 'booking' | 'configuration'>): FormerUnit {
  return {
    openBookings: booking.open.length,
    configurationVersion: configuration.status === 'unconfigured' ? 0 : configuration.desired.version,
  };
}

/** The use of a unit, or of one of its lockers. */
export function unitUse({ booking, device }: Pick<BookingContext, 'booking' | 'device'>, lockerId?: string): UnitUse {
  const isMeant = (id: string) => lockerId === undefined || id === lockerId;
  return {
    bookings: booking.open.filter(({ locker }) => isMeant(locker)),
    rentals: Object.entries(device.lockers).flatMap(([locker, { rental }]) => {
      if (rental === undefined || !isMeant(locker)) return [];
      const { rentalId, reservationId } = rental;
      // A rental whose reservation an operator has ended does not run any more; the unit releases it with its next list.
      if (reservationId !== undefined && findReservation(booking, reservationId)?.status === 'completed') return [];
      return [{ locker, rentalId, ...(reservationId === undefined ? {} : { reservationId }) }];
    }),
  };
}

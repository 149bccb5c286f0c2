import type { Reservation } from '../../domain/booking/reservation.ts';
import type { DeviceLocker } from '../../domain/device/device.ts';
import type { UnitState } from '../../domain/unit/unit.ts';

/** JSON bytes of one element of the parts that change often. Their number is what lets a state grow. */
const RESERVATION_BYTES = 430;
const COMMAND_ID_BYTES = 40;
const OPEN_RESULT_BYTES = 60;
const LOCKER_BYTES = 25;
/** A rental without its ids, which the unit chooses. */
const RENTAL_BYTES = 90;
/** A usage without the id of its reservation, which the unit reports. */
const USAGE_BYTES = 105;
/** A raised error without its code. */
const ERROR_BYTES = 15;
const EPOCH_BYTES = 50;
/** Name, sequences and the scalars of the device. */
const BASE_BYTES = 400;

/**
 * Estimates the bytes of states as JSON, to bound caches of them; as objects they take about three times as much. Reservations and
 * lockers change with almost every commit, so their bytes are estimated by number and by the ids of units; the other parts change seldom and
 * are measured once for each object.
 */
export class StateSizes {
  readonly #measured = new WeakMap<object, number>();

  bytesOf({ registry, configuration, connectivity, booking, device, log }: UnitState): number {
    let bytes = BASE_BYTES;
    for (const part of [registry, configuration, connectivity, log]) bytes += this.#measure(part);
    for (const reservation of booking.open) bytes += reservationBytes(reservation);
    for (const reservation of booking.finished) bytes += reservationBytes(reservation);
    for (const locker of Object.values(device.lockers)) bytes += lockerBytes(locker);
    for (const { reservationId } of device.usages) bytes += USAGE_BYTES + reservationId.length;
    bytes += Object.keys(device.epochs).length * EPOCH_BYTES;
    return bytes;
  }

  #measure(part: object): number {
    const known = this.#measured.get(part);
    if (known !== undefined) return known;
    const bytes = JSON.stringify(part).length;
    this.#measured.set(part, bytes);
    return bytes;
  }
}

function lockerBytes({ rental, errors = [] }: DeviceLocker): number {
  let bytes = LOCKER_BYTES;
  for (const code of errors) bytes += ERROR_BYTES + code.length;
  if (rental === undefined) return bytes;
  return bytes + RENTAL_BYTES + rental.rentalId.length + (rental.reservationId?.length ?? 0);
}

/** Estimates the bytes of a reservation as JSON. */
export function reservationBytes({ commandIds: commands, openResults: opens }: Reservation): number {
  return RESERVATION_BYTES + commands.length * COMMAND_ID_BYTES + Object.keys(opens).length * OPEN_RESULT_BYTES;
}

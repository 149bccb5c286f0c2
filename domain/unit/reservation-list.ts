/** The list of reservations for a unit, as pages that each cover some lockers and stand alone. */

import type { Reservation } from '../booking/reservation.ts';
import { withReportedUsage } from '../booking/settlement.ts';
import { recordedSeq } from '../device/device.ts';
import { closedPeriodsOf, closedPeriodsOfUnit } from '../registry/closures.ts';
import type { RegisteredUnit } from '../registry/registry.ts';
import {
  MAX_PAGE_BYTES,
  MAX_PAGE_RESERVATIONS,
  type SyncedReservation,
  type SyncReservations,
} from '../unit-protocol/reservation-list.ts';
import { toMs } from '../vocabulary.ts';
import { lastSequenceOf, type UnitState } from './unit.ts';

/** Planned closures of the whole unit that a page names, the earliest first. */
const MAX_UNIT_CLOSURES = 64;
/** Bytes of the fields of a page that do not depend on its lockers. */
const HEAD_BYTES = 512;

/** The part of a page that covers one locker. */
interface LockerPart extends Pick<SyncReservations, 'reservations' | 'closed' | 'completeUntil'> {
  readonly locker: string;
  readonly bytes: number;
}

/** Whether a unit must know a reservation. */
export function isKeptByUnit({ status }: Reservation): boolean {
  return status === 'confirmed' || status === 'active';
}

/**
 * The pages of the list, in the order of the lockers. The usage that the unit has reported counts as adopted, also when the platform has
 * not decided on it yet: the list keeps every use that the recorded log contains.
 *
 * A locker with more reservations than a page can hold has a page of its own with the earliest ones, and `completeUntil`.
 */
export function reservationListPages(
  state: UnitState,
  unit: RegisteredUnit,
  accessCodeOf: (reservation: Reservation) => string,
  nowMs: number,
): SyncReservations[] {
  const kept = withReportedUsage(state, nowMs).booking.open.filter(isKeptByUnit);
  const synced = Map.groupBy(
    kept.map((reservation) => syncedReservation(reservation, accessCodeOf)),
    ({ locker }) => locker,
  );
  const unitClosures = closedPeriodsOfUnit(unit)
    .filter(({ until }) => until === undefined || toMs(until) > nowMs)
    .toSorted((a, b) => ((a.from ?? '') < (b.from ?? '') ? -1 : 1))
    .slice(0, MAX_UNIT_CLOSURES);
  const headBytes = HEAD_BYTES + bytesOf(unitClosures);
  const parts = lockersOf(state, unit, synced.keys()).map((locker) =>
    lockerPart(locker, synced.get(locker) ?? [], closedPeriodsOf(unit, locker)),
  );
  const { epoch } = state.device;
  const head = {
    version: lastSequenceOf(state),
    asOf: {
      ...(epoch === undefined ? {} : { epoch }),
      seq: epoch === undefined ? 0 : recordedSeq(state.device, epoch),
      bookings: state.sequences.booking,
    },
    timeZone: unit.timeZone,
  };
  return inPages(parts, headBytes).map((page) => ({
    ...head,
    lockers: page.map(({ locker }) => locker),
    ...(page[0]?.completeUntil === undefined ? {} : { completeUntil: page[0].completeUntil }),
    reservations: page.flatMap(({ reservations }) => reservations),
    closed: [...unitClosures, ...page.flatMap(({ closed }) => closed)],
  }));
}

/** The registered lockers, and those that only a report of the unit or a reservation names. */
function lockersOf({ device }: UnitState, { lockers }: RegisteredUnit, reserved: Iterable<string>): string[] {
  return [...new Set([...lockers.map(({ id }) => id), ...Object.keys(device.lockers), ...reserved])];
}

function lockerPart(locker: string, all: readonly SyncedReservation[], closed: SyncReservations['closed']): LockerPart {
  const ordered = all.toSorted((a, b) => (a.from < b.from ? -1 : 1));
  const reservations = ordered.slice(0, MAX_PAGE_RESERVATIONS);
  const omitted = ordered[MAX_PAGE_RESERVATIONS];
  const part = { locker, reservations, closed };
  const bytes = bytesOf(part);
  return omitted === undefined ? { ...part, bytes } : { ...part, bytes, completeUntil: omitted.from };
}

/** Fills each page up to its bounds. A locker whose reservations are not all listed has a page of its own. */
function inPages(parts: readonly LockerPart[], headBytes: number): LockerPart[][] {
  const pages: LockerPart[][] = [];
  let page: LockerPart[] = [];
  let bytes = headBytes;
  let count = 0;
  for (const part of parts) {
    const isFull = count + part.reservations.length > MAX_PAGE_RESERVATIONS || bytes + part.bytes > MAX_PAGE_BYTES;
    const isAlone = part.completeUntil !== undefined || page[0]?.completeUntil !== undefined;
    if (page.length > 0 && (isFull || isAlone)) {
      pages.push(page);
      page = [];
      bytes = headBytes;
      count = 0;
    }
    page.push(part);
    bytes += part.bytes;
    count += part.reservations.length;
  }
  return page.length === 0 ? pages : [...pages, page];
}

function syncedReservation(
  reservation: Reservation,
  accessCodeOf: (reservation: Reservation) => string,
): SyncedReservation {
  const { id, locker, size, from, until } = reservation;
  return { reservationId: id, locker, size, from, until, accessCode: accessCodeOf(reservation) };
}

function bytesOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

/** The list of reservations for a unit, as pages that each cover some lockers and stand alone. */

import type { Reservation } from '../booking/reservation.ts';
import { withReportedUsage } from '../booking/settlement.ts';
import { recordedSeq } from '../device/epochs.ts';
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

type AccessCodeOf = (reservation: Reservation) => string;

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
  accessCodeOf: AccessCodeOf,
  nowMs: number,
): SyncReservations[] {
  return pagesOfKept(state, unit, keptReservations(state, nowMs), accessCodeOf, nowMs);
}

/**
 * The pages in the order in which the unit gets them: those that add a reservation come first. A reservation that moved is added at its
 * new locker before a page removes it from its former one, so that the unit knows every confirmed reservation at any time. Two
 * reservations may have changed places, so the pages of the additions still list the moved ones at their former lockers too.
 */
export function reservationListRound(
  state: UnitState,
  unit: RegisteredUnit,
  accessCodeOf: AccessCodeOf,
  nowMs: number,
): SyncReservations[] {
  const kept = keptReservations(state, nowMs);
  const pages = pagesOfKept(state, unit, kept, accessCodeOf, nowMs);
  const pending = new Map(kept.filter(({ unitAck }) => unitAck === 'pending').map(({ id, locker }) => [id, locker]));
  // A single page is applied as a whole.
  if (pages.length <= 1 || pending.size === 0) return pages;
  const isAddition = ({ reservations }: SyncReservations) =>
    reservations.some(({ reservationId, locker }) => pending.get(reservationId) === locker);
  if (!kept.some(hasFormerLocker)) {
    return [...pages.filter(isAddition), ...pages.filter((page) => !isAddition(page))];
  }
  const everywhere = kept.flatMap((reservation) => {
    const synced = syncedReservation(reservation, accessCodeOf);
    const lockers = new Set(hasFormerLocker(reservation) ? reservation.formerLockers : []).add(reservation.locker);
    return [...lockers].map((locker) => ({ ...synced, locker }));
  });
  return [...pagesOf(state, unit, everywhere, nowMs).filter(isAddition), ...pages];
}

function hasFormerLocker({ unitAck, formerLockers = [] }: Reservation): boolean {
  return unitAck === 'pending' && formerLockers.length > 0;
}

function keptReservations(state: UnitState, nowMs: number): readonly Reservation[] {
  return withReportedUsage(state, nowMs).booking.open.filter(isKeptByUnit);
}

function pagesOfKept(
  state: UnitState,
  unit: RegisteredUnit,
  kept: readonly Reservation[],
  accessCodeOf: AccessCodeOf,
  nowMs: number,
): SyncReservations[] {
  const reservations = kept.map((reservation) => syncedReservation(reservation, accessCodeOf));
  return pagesOf(state, unit, reservations, nowMs);
}

function pagesOf(
  state: UnitState,
  unit: RegisteredUnit,
  reservations: readonly SyncedReservation[],
  nowMs: number,
): SyncReservations[] {
  const synced = Map.groupBy(reservations, ({ locker }) => locker);
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

function syncedReservation(reservation: Reservation, accessCodeOf: AccessCodeOf): SyncedReservation {
  const { id, locker, size, from, until } = reservation;
  return { reservationId: id, locker, size, from, until, accessCode: accessCodeOf(reservation) };
}

function bytesOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

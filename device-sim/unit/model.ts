/**
 * The state of a unit as an immutable value. A decision (`customer-actions.ts`, `commands.ts`, `lifecycle.ts`) is a pure
 * function: it takes a state and a context, and gives the next state, the new log entries and an answer.
 */

import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import { type EventOf, versionOf } from '../../domain/events/catalogue.ts';
import type { deviceEvents } from '../../domain/events/device.ts';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import type { CommandAnswer } from '../../domain/unit-protocol/commands.ts';
import {
  type ClosedPeriod,
  isOlderPage,
  type PageOrder,
  type SyncedReservation,
} from '../../domain/unit-protocol/reservation-list.ts';
import { type LockerSize, toInstant } from '../../domain/vocabulary.ts';
import type { Faults } from '../faults/faults.ts';

export interface UnitRental {
  readonly rentalId: string;
  readonly reservationId?: string;
  readonly startedAt: string;
  readonly until: string;
  /**
   * The seq of `RentalStarted`. A list that was computed without this event cannot end the rental. Rentals in stores of older versions
   * have none, and no list ends them.
   */
  readonly startedSeq?: number;
  /** The platform released the reservation while the door was open: the rental ends when the door closes. */
  readonly releaseOnClose?: true;
  /** A simulated customer took the locker. The simulator makes that customer give it back, also after a restart. */
  readonly byScenario?: true;
}

export interface UnitLocker {
  readonly id: string;
  readonly size: LockerSize;
  readonly door: 'open' | 'closed';
  readonly rental?: UnitRental;
}

/** The state of the log, without its entries. `acknowledgedSeq` and `recordedSeq` never exceed `lastSeq`. */
export interface UnitLog {
  /** UUIDv7, made when the store was created or wiped. */
  readonly epoch: string;
  /** 0 before the first entry. */
  readonly lastSeq: number;
  /** The last entry that JetStream has acknowledged. The next push begins behind it. */
  readonly acknowledgedSeq: number;
  /** The last entry that the platform has named recorded. The unit deletes entries up to here. */
  readonly recordedSeq: number;
  /** The last entry that the unit deleted because the log was full (`log-bound.ts`); 0 when it never was. */
  readonly droppedSeq: number;
  /** The newest state report at which the log can begin when it is full; 0 before the first. */
  readonly checkpointSeq: number;
}

/** The seq of the oldest entry that the unit still has; one behind `lastSeq` when it has none. */
export function firstAvailableSeq({ recordedSeq, droppedSeq }: UnitLog): number {
  return Math.max(recordedSeq, droppedSeq) + 1;
}

/** The answer to a command. A repeated command gets the same answer and has no effect. */
export interface AnsweredCommand {
  readonly answer: CommandAnswer;
  /** When the unit may forget the command, on its own clock: no copy of the signature is valid by then. */
  readonly forgetAtMs: number;
}

/** The keypad at the screen, with times of the unit's clock in ms. */
export interface Keypad {
  /** When wrong access codes were typed, the oldest first. */
  readonly wrongAtMs: readonly number[];
  /** When it was locked; absent while it takes codes. */
  readonly lockedAtMs?: number;
}

export const UNUSED_KEYPAD: Keypad = { wrongAtMs: [] };

/** What the newest page about a locker says. */
export interface SyncedLocker extends PageOrder {
  readonly reservations: readonly SyncedReservation[];
  /** The page has every reservation that begins before this time; absent when it has all. */
  readonly completeUntil?: string;
  readonly closed: readonly Omit<ClosedPeriod, 'locker'>[];
}

/** What the platform has told the unit by lists of reservations. */
export interface SyncedKnowledge {
  /** The time zone of the opening hours; absent before the first list. */
  readonly timeZone?: string;
  readonly lockers: Readonly<Record<string, SyncedLocker>>;
}

export const NOTHING_SYNCED: SyncedKnowledge = { lockers: {} };

export interface UnitModel {
  readonly name: string;
  /** 16 hex letters, new at every boot. */
  readonly bootId: string;
  readonly bootedAtMs: number;
  readonly lockers: readonly UnitLocker[];
  readonly synced: SyncedKnowledge;
  /** Reservations whose locker was given back, each with the end of its period in ms: their QR codes are refused. */
  readonly usedReservations: Readonly<Record<string, number>>;
  readonly keypad: Keypad;
  readonly configuration: VersionedConfiguration;
  readonly answeredCommands: Readonly<Record<string, AnsweredCommand>>;
  readonly log: UnitLog;
}

/** The inputs of a decision besides the state of the unit. */
export interface DecisionContext {
  /** The unit's own clock, which may be wrong. */
  readonly nowMs: number;
  /** A new UUIDv7 at every call. */
  readonly newId: () => string;
  /** Whether the unit has no connection to the platform. */
  readonly isOffline: boolean;
  /** Lockers whose door does not open. */
  readonly jammedLockers: ReadonlySet<string>;
  readonly doesTerminalDecline: boolean;
  /** The fault with which the unit applies a configuration. */
  readonly configurationFault: Faults['applying'];
}

export interface Decision<A> {
  /** The next state. The same object as before when nothing changed. */
  readonly unit: UnitModel;
  readonly entries: readonly BatchEvent[];
  readonly answer: A;
}

/** Why a unit refuses what a customer does at it. */
export type RefusalReason =
  | 'no-locker-free'
  | 'unknown-locker'
  | 'occupied'
  | 'reserved'
  | 'not-rented'
  | 'door-open'
  | 'door-closed'
  | 'period'
  | 'closed'
  | 'out-of-service'
  | 'not-for-rent'
  | 'declined'
  | 'jammed'
  | 'spent'
  | 'malformed-code'
  | 'wrong-code'
  | 'ambiguous-code'
  | 'keypad-locked'
  | 'locker-exists'
  | 'too-many-lockers'
  | 'revoked';

export type Outcome<T> =
  | ({ readonly done: true } & T)
  | { readonly done: false; readonly reason: RefusalReason; readonly detail: string };

type UnitEventType = keyof typeof deviceEvents | 'PaymentStarted' | 'PaymentSucceeded' | 'PaymentFailed';

/** An event before it has its `seq` and its `time`. */
export type EntryDraft = {
  [T in UnitEventType]: {
    readonly type: T;
    readonly locker?: string;
    readonly causationId?: string;
    readonly data: EventOf<T>;
  };
}[UnitEventType];

/** Appends the drafts to the log of `unit`: each gets the next `seq` and the time of the decision. */
export function decisionWith<A>(
  unit: UnitModel,
  { nowMs, isOffline }: Pick<DecisionContext, 'nowMs' | 'isOffline'>,
  drafts: readonly EntryDraft[],
  answer: A,
): Decision<A> {
  const time = toInstant(nowMs);
  const entries = drafts.map(({ type, locker, causationId, data }, index) => ({
    seq: unit.log.lastSeq + index + 1,
    v: versionOf(type),
    type,
    time,
    ...(locker === undefined ? {} : { locker }),
    ...(isOffline ? { offline: true } : {}),
    ...(causationId === undefined ? {} : { causationId }),
    data,
  }));
  if (entries.length === 0) return { unit, entries, answer };
  return { unit: { ...unit, log: { ...unit.log, lastSeq: unit.log.lastSeq + entries.length } }, entries, answer };
}

export function refusal(
  unit: UnitModel,
  reason: RefusalReason,
  detail: string,
): Decision<{ done: false; reason: RefusalReason; detail: string }> {
  return { unit, entries: [], answer: { done: false, reason, detail } };
}

export function findLocker(unit: UnitModel, id: string): UnitLocker | undefined {
  return unit.lockers.find((locker) => locker.id === id);
}

/** What the newest page about a locker says; `undefined` before the first page about it. */
export function syncedLocker({ synced }: UnitModel, id: string): SyncedLocker | undefined {
  return Object.hasOwn(synced.lockers, id) ? synced.lockers[id] : undefined;
}

/** A reservation as the newest page has it: while it moves, an older page may still have it in its former locker. */
export function findSyncedReservation({ synced }: UnitModel, reservationId: string): SyncedReservation | undefined {
  let newest: { readonly page: SyncedLocker; readonly found: SyncedReservation } | undefined;
  for (const page of Object.values(synced.lockers)) {
    const found = page.reservations.find((reservation) => reservation.reservationId === reservationId);
    if (found !== undefined && (newest === undefined || isOlderPage(newest.page, page))) newest = { page, found };
  }
  return newest?.found;
}

/** Replaces one locker of the unit. */
export function withLocker(unit: UnitModel, changed: UnitLocker): UnitModel {
  return { ...unit, lockers: unit.lockers.map((locker) => (locker.id === changed.id ? changed : locker)) };
}

/** The locker after its rental has ended. */
export function withoutRental({ id, size, door }: UnitLocker): UnitLocker {
  return { id, size, door };
}

/** The fields by which an event refers to a rental. */
export function rentalReference({ rentalId, reservationId }: UnitRental): { rentalId: string; reservationId?: string } {
  return { rentalId, ...(reservationId === undefined ? {} : { reservationId }) };
}

/**
 * What a unit knows, as a value that is never changed. Its decisions (`screen.ts`, `commands.ts`, `lifecycle.ts`) take it
 * and give the next one, with the entries that its log gains. Nothing here waits, reads a clock or draws a number.
 */

import type { VersionedConfiguration } from '../../domain/configuration-values.ts';
import { type EventOf, versionOf } from '../../domain/events/catalogue.ts';
import type { deviceEvents } from '../../domain/events/device.ts';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import type { CommandAnswer, SyncedReservation } from '../../domain/unit-protocol/commands.ts';
import { type LockerSize, toInstant } from '../../domain/vocabulary.ts';
import type { Faults } from '../faults/faults.ts';

export interface UnitRental {
  readonly rentalId: string;
  readonly reservationId?: string;
  readonly startedAt: string;
  readonly until: string;
  /** The platform gave the reservation up while the door stood open: the rental ends when it closes. */
  readonly releaseOnClose?: true;
  /** Taken by a customer of the running scenario, who comes back to it even after the simulator was killed. */
  readonly byScenario?: true;
}

export interface UnitLocker {
  readonly id: string;
  readonly size: LockerSize;
  readonly door: 'open' | 'closed';
  readonly rental?: UnitRental;
}

/** How far the log has come, and how far others have it. */
export interface UnitLog {
  /** UUIDv7, made when the store was created or wiped. */
  readonly epoch: string;
  /** 0 before the first entry. */
  readonly lastSeq: number;
  /** Durable in JetStream, not yet recorded: decides what is pushed next, never what is deleted. */
  readonly acknowledgedSeq: number;
  /** Named recorded by the platform: entries up to here are deleted. */
  readonly recordedSeq: number;
  /** Deleted, recorded or not, because the log was full (`log-bound.ts`): the entries up to here. 0: none ever was. */
  readonly droppedSeq: number;
  /** The newest state report at which the log can begin when it is full. 0: none was needed yet. */
  readonly checkpointSeq: number;
}

/** The oldest entry that the unit still has, or will have when it writes the next one. */
export function firstAvailableSeq({ recordedSeq, droppedSeq }: UnitLog): number {
  return Math.max(recordedSeq, droppedSeq) + 1;
}

/** A signed command that was answered: it is answered the same way again, and carried out never again. */
export interface AnsweredCommand {
  readonly answer: CommandAnswer;
  /** When no copy of the command can be valid any more, on the unit's clock. */
  readonly forgetAtMs: number;
}

export interface UnitModel {
  readonly name: string;
  /** 16 hex letters, new at every boot. */
  readonly bootId: string;
  readonly bootedAtMs: number;
  readonly lockers: readonly UnitLocker[];
  /** The newest list that the platform sent; version 0 before the first. */
  readonly syncedList: { readonly version: number; readonly reservations: readonly SyncedReservation[] };
  /** Reservations whose locker was given back, with the end of their period (ms): their QR code opens nothing more. */
  readonly usedReservations: Readonly<Record<string, number>>;
  readonly configuration: VersionedConfiguration;
  readonly answeredCommands: Readonly<Record<string, AnsweredCommand>>;
  readonly log: UnitLog;
}

/** What a decision may look at besides the unit itself. */
export interface DecisionContext {
  /** The unit's own clock, right or wrong. */
  readonly nowMs: number;
  /** A new UUIDv7 at every call. */
  readonly newId: () => string;
  /** The unit knows that it is cut off from the platform. */
  readonly isOffline: boolean;
  /** Lockers whose door does not move. */
  readonly jammedLockers: ReadonlySet<string>;
  readonly doesTerminalDecline: boolean;
  /** What becomes of a configuration that is sent to it. */
  readonly configurationFault: Faults['applying'];
}

export interface Decision<A> {
  readonly unit: UnitModel;
  readonly entries: readonly BatchEvent[];
  readonly answer: A;
}

/** Why a unit does not do what somebody at its screen wants. */
export type RefusalReason =
  | 'no-locker-free'
  | 'unknown-locker'
  | 'occupied'
  | 'reserved'
  | 'not-rented'
  | 'door-open'
  | 'door-closed'
  | 'period'
  | 'not-for-rent'
  | 'declined'
  | 'jammed'
  | 'spent';

export type Outcome<T> =
  | ({ readonly done: true } & T)
  | { readonly done: false; readonly reason: RefusalReason; readonly detail: string };

type UnitEventType = keyof typeof deviceEvents | 'PaymentStarted' | 'PaymentSucceeded' | 'PaymentFailed';

/** An event before it has its place and its time in the log. */
export type EntryDraft = {
  [T in UnitEventType]: {
    readonly type: T;
    readonly locker?: string;
    readonly causationId?: string;
    readonly data: EventOf<T>;
  };
}[UnitEventType];

/** Ends a decision: gives the drafts their places in the log of `unit`. */
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

export function lockerOf(unit: UnitModel, id: string): UnitLocker | undefined {
  return unit.lockers.find((locker) => locker.id === id);
}

/** The unit with one locker replaced. */
export function withLocker(unit: UnitModel, changed: UnitLocker): UnitModel {
  return { ...unit, lockers: unit.lockers.map((locker) => (locker.id === changed.id ? changed : locker)) };
}

/** A locker whose rental is over. */
export function withoutRental({ id, size, door }: UnitLocker): UnitLocker {
  return { id, size, door };
}

/** What names a rental in an event. */
export function rentalReference({ rentalId, reservationId }: UnitRental): { rentalId: string; reservationId?: string } {
  return { rentalId, ...(reservationId === undefined ? {} : { reservationId }) };
}

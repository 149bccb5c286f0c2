/**
 * The facts of events that count for a daily summary. Each fact has the moment at which it occurred, and a tie-breaker among
 * the facts of that moment. The tie-breaker follows from the order in the unit's own log, so the facts of a unit have one order
 * however late the platform records them.
 */

import { correctedInstant, occurredAtMs } from '../../domain/device/unit-clock.ts';
import { type KnownEvent, upcast } from '../../domain/events/catalogue.ts';
import { type CloudEvent, lockerOfSubject } from '../../domain/events/cloud-event.ts';
import { toMs } from '../../domain/vocabulary.ts';
import type { Commit } from '../engine/projection.ts';

/** A fact that was recorded later than this after it occurred has a wrong clock: it counts as exactly so old. */
export const MAX_LATE_MS = 400 * 24 * 60 * 60_000;

export type Fact =
  | { readonly is: 'started'; readonly locker: string; readonly rentalId: string }
  | { readonly is: 'ended'; readonly locker: string; readonly rentalId: string }
  /** A state report of the unit: the running rental of each locker. A rental that the report does not name has ended. */
  | { readonly is: 'reported'; readonly rentals: Readonly<Record<string, string>> }
  | { readonly is: 'paid'; readonly currency: string; readonly amount: number }
  | { readonly is: 'hardware-error' | 'open-failure' | 'conflict' | 'online' | 'offline' | 'retired' }
  | { readonly is: 'in-service'; readonly locker: string }
  /** `untilMs`: when the locker returns by itself; without it, an operator returns it. */
  | { readonly is: 'out-of-service'; readonly locker: string; readonly untilMs?: number }
  | { readonly is: 'maintenance'; readonly id: string; readonly fromMs: number; readonly untilMs: number }
  | { readonly is: 'maintenance-cancelled'; readonly id: string }
  /** The name of a retired unit was registered anew. */
  | { readonly is: 'registered'; readonly zone: string; readonly lockers: readonly string[] }
  | { readonly is: 'moved'; readonly zone: string };

/** A fact with its place in the order of a unit. */
export interface DatedFact {
  /** When it occurred, milliseconds since 1970. */
  readonly atMs: number;
  /** Orders the facts of one moment; unique in a unit. */
  readonly tie: string;
  readonly fact: Fact;
  /** Present when the fact is a payment: identifies payments that app and terminal both report. */
  readonly payment?: { readonly reference: string; readonly reservationId?: string };
}

/** The registration of a unit, with which its days begin. */
export interface Registration {
  readonly atMs: number;
  readonly timeZone: string;
  readonly lockers: readonly string[];
  /** Its place among the facts of its moment, when the unit was registered before. */
  readonly tie: string;
}

export interface CommitFacts {
  readonly registrations: readonly Registration[];
  readonly facts: readonly DatedFact[];
}

export function factsOfCommit({ aggregate, sequence, recordedAtMs, events }: Commit): CommitFacts {
  const registrations: Registration[] = [];
  const facts: DatedFact[] = [];
  events.forEach((event, index) => {
    const counted = aggregate === 'log' ? recoveredEvent(event) : event;
    const known = counted === undefined ? undefined : upcast(counted);
    if (known === undefined) return;
    const plausible = (ms: number) => plausibleMoment(ms, recordedAtMs);
    const place = logPlaceOf(known, aggregate === 'log' ? 'device' : aggregate, sequence, index);
    if (known.type === 'UnitRegistered') {
      const { timeZone, lockers } = known.data;
      const ids = lockers.map(({ id }) => id);
      registrations.push({ atMs: plausible(toMs(known.time)), timeZone, lockers: ids, tie: `${place}/0` });
      return;
    }
    for (const [n, { atMs = occurredAtMs(known), fact, payment }] of factsOf(known).entries()) {
      facts.push({ atMs: plausible(atMs), tie: `${place}/${n}`, fact, ...(payment === undefined ? {} : { payment }) });
    }
  });
  return { registrations, facts };
}

/** A registration of a unit that was registered before, as a fact. */
export function registeredAgain({ atMs, tie, timeZone, lockers }: Registration): DatedFact {
  return { atMs, tie, fact: { is: 'registered', zone: timeZone, lockers } };
}

/** Limits a moment to the `MAX_LATE_MS` before the recording. A time that does not exist counts as the recording. */
function plausibleMoment(ms: number, recordedAtMs: number): number {
  if (Number.isNaN(ms)) return recordedAtMs;
  return Math.min(recordedAtMs, Math.max(ms, recordedAtMs - MAX_LATE_MS));
}

/** Restores the unit's event from `UnitEventRecovered`: ingest rejected the event, and an operator accepted it later. */
function recoveredEvent(event: CloudEvent): CloudEvent | undefined {
  const known = upcast(event);
  if (known?.type !== 'UnitEventRecovered') return undefined;
  const { epoch, seq, type, v, time, data, clockOffsetMs } = known.data;
  return {
    ...event,
    type,
    time,
    data,
    dataschema: `${type}/${v}`,
    unitepoch: epoch,
    unitseq: seq,
    ...(clockOffsetMs === undefined ? {} : { clockoffsetms: clockOffsetMs }),
  };
}

/** The order in the unit's log (epoch and seq) where the event has one, else the order in the event store. */
function logPlaceOf(event: KnownEvent, aggregate: string, sequence: number, index: number): string {
  const stored = `${padded(sequence)}.${padded(index)}`;
  if (event.unitepoch === undefined || event.unitseq === undefined) return `${aggregate}/${stored}`;
  return `${aggregate}/${event.unitepoch}/${padded(event.unitseq)}/${stored}`;
}

function padded(number: number): string {
  return String(number).padStart(16, '0');
}

/** A fact of an event. */
interface EventFact {
  /** @default when the event occurred */
  readonly atMs?: number;
  readonly fact: Fact;
  readonly payment?: DatedFact['payment'];
}

function factsOf(event: KnownEvent): EventFact[] {
  const locker = lockerOfSubject(event.subject);
  switch (event.type) {
    case 'RentalStarted':
    case 'RentalEnded': {
      if (locker === undefined) return [];
      const is = event.type === 'RentalStarted' ? 'started' : 'ended';
      return [{ fact: { is, locker, rentalId: event.data.rentalId } }];
    }
    case 'UnitStateReported':
      return factsOfReport(event);
    case 'PaymentSucceeded': {
      const { currency, amount, reference, reservationId } = event.data;
      const payment = { reference, ...(reservationId === undefined ? {} : { reservationId }) };
      return [{ fact: { is: 'paid', currency, amount }, payment }];
    }
    case 'HardwareErrorRaised':
      return [{ fact: { is: 'hardware-error' } }];
    case 'LockerOpenFailed':
      return [{ fact: { is: 'open-failure' } }];
    case 'ReservationConflictDetected':
      return [{ fact: { is: 'conflict' } }];
    case 'UnitWentOnline':
      return [{ fact: { is: 'online' } }];
    case 'UnitWentOffline':
      return [{ fact: { is: 'offline' } }];
    case 'LockerAdded':
    case 'LockerReturnedToService':
      return [{ fact: { is: 'in-service', locker: event.data.id } }];
    case 'LockerTakenOutOfService': {
      const { id, until } = event.data;
      return [{ fact: { is: 'out-of-service', locker: id, ...(until === undefined ? {} : { untilMs: toMs(until) }) } }];
    }
    case 'LockerRemoved':
      return [{ fact: { is: 'out-of-service', locker: event.data.id } }];
    case 'UnitMaintenancePlanned': {
      const { id, from, until } = event.data;
      return [{ fact: { is: 'maintenance', id, fromMs: toMs(from), untilMs: toMs(until) } }];
    }
    case 'UnitMaintenanceCancelled':
      return [{ fact: { is: 'maintenance-cancelled', id: event.data.id } }];
    case 'UnitUpdated':
      return event.data.timeZone === undefined ? [] : [{ fact: { is: 'moved', zone: event.data.timeZone } }];
    case 'UnitRetired':
      return [{ fact: { is: 'retired' } }];
    default:
      return [];
  }
}

/** A state report names running rentals and their starts, so it also counts rentals whose own event was lost. */
function factsOfReport(event: Extract<KnownEvent, { readonly type: 'UnitStateReported' }>): EventFact[] {
  const running = event.data.lockers.flatMap(({ id, rental }) =>
    rental === undefined ? [] : [{ locker: id, rental }],
  );
  const rentals = Object.fromEntries(running.map(({ locker, rental }) => [locker, rental.rentalId]));
  return [
    { fact: { is: 'reported', rentals } },
    ...running.map(({ locker, rental }): EventFact => {
      const atMs = Math.min(toMs(correctedInstant(rental.startedAt, event)), occurredAtMs(event));
      return { atMs, fact: { is: 'started', locker, rentalId: rental.rentalId } };
    }),
  ];
}

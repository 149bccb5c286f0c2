/**
 * What of an event counts for a day: marks. A mark has its moment, and a place among those of the same moment that follows from
 * the unit's own order, so that marks have one order however late they come.
 */

import { correctedInstant, occurredAtMs } from '../../domain/device/unit-clock.ts';
import { type KnownEvent, upcast } from '../../domain/events/catalogue.ts';
import { type CloudEvent, lockerOfSubject } from '../../domain/events/envelope.ts';
import { toMs } from '../../domain/vocabulary.ts';
import type { Commit } from '../engine/projection.ts';

/** What claims to be older than this when it is recorded comes from a clock, and counts as so old. */
export const MAX_LATE_MS = 400 * 24 * 60 * 60_000;

export type Fact =
  | { readonly is: 'started'; readonly locker: string; readonly rentalId: string }
  | { readonly is: 'ended'; readonly locker: string; readonly rentalId: string }
  /** A report of the unit: by locker, the rentals that run. What it does not name is over. */
  | { readonly is: 'reported'; readonly rentals: Readonly<Record<string, string>> }
  | { readonly is: 'paid'; readonly currency: string; readonly amount: number }
  | { readonly is: 'hardware-error' | 'open-failure' | 'conflict' | 'online' | 'offline' | 'retired' }
  | { readonly is: 'in-service' | 'out-of-service'; readonly locker: string }
  | { readonly is: 'moved'; readonly zone: string };

export interface DatedFact {
  readonly atMs: number;
  /** Orders marks of the same moment; unique in a unit. */
  readonly tie: string;
  readonly fact: Fact;
  /** Of a payment. */
  readonly payment?: { readonly reference: string; readonly reservationId?: string };
}

/** How a unit begins. */
export interface Registration {
  readonly atMs: number;
  readonly timeZone: string;
  readonly lockers: readonly string[];
}

export interface CommitFacts {
  readonly beginning?: Registration;
  readonly marks: readonly DatedFact[];
}

export function factsOfCommit({ aggregate, sequence, recordedAtMs, events }: Commit): CommitFacts {
  let beginning: Registration | undefined;
  const marks: DatedFact[] = [];
  events.forEach((event, index) => {
    const told = aggregate === 'log' ? recovered(event) : event;
    const known = told === undefined ? undefined : upcast(told);
    if (known === undefined) return;
    const when = (ms: number) => clamp(ms, recordedAtMs);
    if (known.type === 'UnitRegistered') {
      const { timeZone, lockers } = known.data;
      beginning = { atMs: when(toMs(known.time)), timeZone, lockers: lockers.map(({ id }) => id) };
      return;
    }
    const place = placeOf(known, aggregate === 'log' ? 'device' : aggregate, sequence, index);
    for (const [n, { atMs = occurredAtMs(known), fact, payment }] of factsOf(known).entries()) {
      marks.push({ atMs: when(atMs), tie: `${place}/${n}`, fact, ...(payment === undefined ? {} : { payment }) });
    }
  });
  return { ...(beginning === undefined ? {} : { beginning }), marks };
}

/** Nothing happens after it was recorded, or at no time at all. */
function clamp(ms: number, recordedAtMs: number): number {
  if (Number.isNaN(ms)) return recordedAtMs;
  return Math.min(recordedAtMs, Math.max(ms, recordedAtMs - MAX_LATE_MS));
}

/** An event that was rejected and accepted later, as if it had come in its place. */
function recovered(event: CloudEvent): CloudEvent | undefined {
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

function placeOf(event: KnownEvent, aggregate: string, sequence: number, index: number): string {
  const stored = `${padded(sequence)}.${padded(index)}`;
  if (event.unitepoch === undefined || event.unitseq === undefined) return `${aggregate}/${stored}`;
  return `${aggregate}/${event.unitepoch}/${padded(event.unitseq)}/${stored}`;
}

function padded(number: number): string {
  return String(number).padStart(16, '0');
}

interface Told {
  /** @default when the event occurred */
  readonly atMs?: number;
  readonly fact: Fact;
  readonly payment?: DatedFact['payment'];
}

function factsOf(event: KnownEvent): Told[] {
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
    case 'LockerTakenOutOfService':
      return [{ fact: { is: 'out-of-service', locker: event.data.id } }];
    case 'UnitUpdated':
      return event.data.timeZone === undefined ? [] : [{ fact: { is: 'moved', zone: event.data.timeZone } }];
    case 'UnitRetired':
      return [{ fact: { is: 'retired' } }];
    default:
      return [];
  }
}

/** A report tells that rentals run, and since when: the event of their start may be lost. */
function factsOfReport(event: Extract<KnownEvent, { readonly type: 'UnitStateReported' }>): Told[] {
  const running = event.data.lockers.flatMap(({ id, rental }) =>
    rental === undefined ? [] : [{ locker: id, rental }],
  );
  const rentals = Object.fromEntries(running.map(({ locker, rental }) => [locker, rental.rentalId]));
  return [
    { fact: { is: 'reported', rentals } },
    ...running.map(({ locker, rental }): Told => {
      const atMs = Math.min(toMs(correctedInstant(rental.startedAt, event)), occurredAtMs(event));
      return { atMs, fact: { is: 'started', locker, rentalId: rental.rentalId } };
    }),
  ];
}

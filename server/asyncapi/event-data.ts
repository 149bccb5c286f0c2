/** An example of the `data` of each event type. A type without one does not compile. */

import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { EventOf, EventType } from '../../domain/events/catalogue.ts';

/** The unit, the locker and the ids of the examples: those of docs/unit-protocol.md. */
export const EXAMPLE = {
  unit: 'PL-1000',
  locker: 'B',
  otherLocker: 'C',
  epoch: '0197c5ed-3a00-7b1e-8f00-0a1b2c3d4e5f',
  seq: 42,
  bootId: '8f0011223344556a',
  holdTtlS: 600,
  customer: '0197c5ea-0000-7000-8000-000000000009',
  reservationId: 'PL-1000.0197c5ec-0000-7000-8000-000000000001',
  commandId: '0197c5ed-4000-7000-8000-000000000002',
  rentalId: '0197c5ed-44e2-7000-8000-000000000003',
  before: '2026-07-01T11:59:50.000Z',
  time: '2026-07-01T12:00:00.000Z',
  soon: '2026-07-01T12:00:10.000Z',
  until: '2026-07-01T14:00:00.000Z',
} as const;

const { locker, otherLocker, epoch, seq, reservationId, commandId, rentalId, before, time, soon, until } = EXAMPLE;
const configuration = defaultConfiguration(EXAMPLE.holdTtlS);
const { version, hash } = configuration;
const price = { amount: 600, currency: 'EUR' };
const payment = { reference: 'pay_1', ...price };
const gap = { epoch, fromSeq: seq, toSeq: seq + 2 };
const credentials = { natsUser: 'UCX7R3ZQ2EXAMPLEPUBLICKEYOFTHEUNITASANATSUSERAAAAAAAAAAA' };

/** The locker in the subject of an event of this type. */
export function lockerOf(type: EventType): string | undefined {
  return /^(Locker|Rental|ReservationRedeemed|HardwareError)/.test(type) ? locker : undefined;
}

export const EVENT_DATA: { readonly [T in EventType]: EventOf<T> } = {
  UnitRegistered: {
    name: EXAMPLE.unit,
    displayName: 'Campsite at the lake',
    address: '10.20.0.7:8080',
    probe: 'udp',
    delivery: 'push',
    commandChannel: 'nats',
    location: { lat: 52.43, lon: 13.17 },
    timeZone: 'Europe/Berlin',
    tags: ['campsite'],
    lockers: [
      { id: locker, size: 'M' },
      { id: otherLocker, size: 'M' },
    ],
    configuration,
    keyVersion: 1,
    ...credentials,
  },
  UnitUpdated: { displayName: 'Campsite, north gate' },
  UnitCredentialsRotated: { keyVersion: 2, ...credentials },
  UnitCredentialsRevoked: { reason: 'the unit was stolen' },
  LockerAdded: { id: 'D', size: 'XL' },
  LockerRemoved: { id: 'D' },
  LockerTakenOutOfService: { id: locker, reason: 'the hinge is broken', when: 'now', until },
  LockerReturnedToService: { id: locker },
  UnitMaintenancePlanned: { id: commandId, from: soon, until, reason: 'the floor is painted' },
  UnitMaintenanceCancelled: { id: commandId },
  ServiceOpenRequested: { locker, commandId, reason: 'a customer forgot a bag', expiresAt: soon },
  ServiceOpenAnswered: { locker, commandId, result: 'failed', reason: 'jammed' },
  UnitRetired: { reason: 'the festival is over', forced: true },
  ConfigurationChanged: { ...configuration, mode: 'live' },
  ConfigurationPushFailed: { version, attempt: 1, reason: 'the unit did not answer', nextAttemptAt: soon },
  ConfigurationApplied: { version, hash, evidence: 'answer' },
  ConfigurationDrifted: { version, hash, reportedHash: 'e3b0c44298fc1c14' },
  ConfigurationRejected: { version, hash, reason: 'minimum-above-maximum' },
  UnitWentOnline: { evidence: 'ping', awayMs: 5_000 },
  UnitWentOffline: { lastProofAt: before, missedPings: 3 },
  ReservationHeld: {
    reservationId,
    customer: EXAMPLE.customer,
    locker,
    size: 'M',
    from: time,
    until,
    holdExpiresAt: '2026-07-01T12:10:00.000Z',
    price,
    configurationVersion: version,
  },
  ReservationConfirmed: { reservationId, paymentReference: payment.reference, accessCodeDraw: 1 },
  ReservationCancelled: { reservationId },
  ReservationExpired: { reservationId, reason: 'hold' },
  ReservationAccepted: { reservationId },
  ReservationRefusedByUnit: { reservationId, locker, reason: 'unknown-locker' },
  ReservationRejected: { reservationId, reason: 'no other locker of the size is free' },
  ReservationMoved: { reservationId, fromLocker: locker, toLocker: otherLocker, size: 'M', reason: 'occupied' },
  ReservationStarted: { reservationId, locker, startedAt: time },
  ReservationCompleted: { reservationId, endedAt: until, endedBy: 'customer' },
  ReservationConflictDetected: { reservationId, locker, rentalId, resolution: 'moved' },
  LockerOpenRequested: { reservationId, locker, commandId, expiresAt: soon },
  LockerOpenAnswered: { reservationId, locker, commandId, result: 'failed', reason: 'jammed' },
  PaymentStarted: { ...payment, reservationId },
  PaymentSucceeded: { ...payment, reservationId },
  PaymentFailed: { ...payment, reservationId, reason: 'declined' },
  LockerOpened: { cause: 'command', commandId },
  LockerClosed: {},
  LockerOpenFailed: { reason: 'jammed', commandId },
  RentalStarted: { rentalId, reservationId, until },
  RentalEnded: { rentalId, reservationId, reason: 'given-back' },
  ReservationRedeemed: { reservationId },
  HardwareErrorRaised: { code: 'lock-motor', message: 'The motor draws too much current.' },
  HardwareErrorCleared: { code: 'lock-motor' },
  UnitRestarted: { bootId: EXAMPLE.bootId },
  UnitStateReported: {
    reason: 'new-epoch',
    configurationHash: hash,
    lockers: [
      { id: locker, door: 'closed', rental: { rentalId, startedAt: time, until } },
      { id: otherLocker, door: 'closed' },
    ],
  },
  UnitEventRejected: { reason: '/data/until: is missing', rejectedType: 'RentalStarted' },
  UnitLogGapDetected: gap,
  UnitLogGapClosed: { ...gap, lost: false },
  UnitBatchRejected: { reason: 'it is not JSON', bytes: 12 },
  UnitEventRecovered: {
    epoch,
    seq,
    type: 'RentalStarted',
    v: 1,
    time,
    data: { rentalId, reservationId, until },
  },
};

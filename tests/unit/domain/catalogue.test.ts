import { describe, expect, test } from 'bun:test';
import { Kind, type TSchema } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { defaultConfiguration } from '../../../domain/configuration/default-configuration.ts';
import {
  definitionOf,
  EVENT_CATALOGUE,
  type EventOf,
  type EventType,
  isEventType,
  upcast,
  versionOf,
} from '../../../domain/events/catalogue.ts';
import { AGGREGATES, type CloudEvent } from '../../../domain/events/cloud-event.ts';
import { at, LOCKERS, R1, registration } from '../../support/scene.ts';

const payment = { reference: 'pay-1', amount: 200, currency: 'EUR' };
const door = { reservationId: R1, locker: 'A', commandId: 'c-1' };
const gap = { epoch: '018f0000-0000-7000-8000-000000000001', fromSeq: 3, toSeq: 5 };
const { version, hash, values } = defaultConfiguration(600);

const EXAMPLES: { [T in EventType]: EventOf<T> } = {
  UnitRegistered: registration(LOCKERS),
  UnitUpdated: { displayName: 'New', probe: 'udp' },
  UnitCredentialsRotated: { keyVersion: 2, natsUser: 'U2' },
  UnitCredentialsRevoked: { reason: 'stolen' },
  LockerAdded: { id: 'D', size: 'XL' },
  LockerRemoved: { id: 'D' },
  LockerTakenOutOfService: { id: 'A', reason: 'jammed', when: 'when-free', until: at(60) },
  LockerReturnedToService: { id: 'A' },
  UnitMaintenancePlanned: { id: 'c-1', from: at(0), until: at(60), reason: 'paint' },
  UnitMaintenanceCancelled: { id: 'c-1' },
  ServiceOpenRequested: { locker: 'A', commandId: 'c-1', reason: 'forgotten bag', expiresAt: at(1) },
  ServiceOpenAnswered: { locker: 'A', commandId: 'c-1', result: 'opened' },
  UnitRetired: { reason: 'sold', forced: true },
  ConfigurationChanged: { version, hash, values, mode: 'queued' },
  ConfigurationPushFailed: { version, attempt: 1, reason: 'no answer', nextAttemptAt: at(1) },
  ConfigurationApplied: { version, hash, evidence: 'report' },
  ConfigurationDrifted: { version, hash, reportedHash: 'c' },
  ConfigurationRejected: { version, hash, reason: 'too many texts' },
  UnitWentOnline: { evidence: 'ping', awayMs: 5_000 },
  UnitWentOffline: { lastProofAt: at(-1), missedPings: 3 },
  ReservationHeld: {
    reservationId: R1,
    customer: 'c',
    locker: 'A',
    size: 'S',
    from: at(0),
    until: at(60),
    holdExpiresAt: at(10),
    price: { amount: 200, currency: 'EUR' },
    configurationVersion: 1,
  },
  ReservationConfirmed: { reservationId: R1, paymentReference: 'pay-1' },
  ReservationCancelled: { reservationId: R1 },
  ReservationExpired: { reservationId: R1, reason: 'no-show' },
  ReservationAccepted: { reservationId: R1 },
  ReservationRefusedByUnit: { reservationId: R1, locker: 'A', reason: 'unknown-locker' },
  ReservationRejected: { reservationId: R1, reason: 'taken' },
  ReservationMoved: { reservationId: R1, fromLocker: 'A', toLocker: 'B', size: 'S', reason: 'taken' },
  ReservationStarted: { reservationId: R1, locker: 'A', startedAt: at(0) },
  ReservationCompleted: { reservationId: R1, endedAt: at(60), endedBy: 'unit' },
  ReservationConflictDetected: { reservationId: R1, locker: 'A', rentalId: 'r', resolution: 'moved' },
  LockerOpenRequested: { ...door, expiresAt: at(1) },
  LockerOpenAnswered: { ...door, result: 'failed', reason: 'jammed' },
  PaymentStarted: payment,
  PaymentSucceeded: { ...payment, reservationId: R1 },
  PaymentFailed: { ...payment, reason: 'declined' },
  LockerOpened: { cause: 'command', commandId: 'c-1' },
  LockerClosed: {},
  LockerOpenFailed: { reason: 'jammed', commandId: 'c-1' },
  RentalStarted: { rentalId: 'r', reservationId: R1, until: at(60), price: { amount: 1, currency: 'EUR' } },
  RentalEnded: { rentalId: 'r', reason: 'given-back' },
  ReservationRedeemed: { reservationId: R1 },
  HardwareErrorRaised: { code: 'E1', message: 'hot' },
  HardwareErrorCleared: { code: 'E1' },
  UnitRestarted: { bootId: 'b' },
  UnitStateReported: {
    reason: 'gap',
    configurationHash: hash,
    lockers: [{ id: 'A', door: 'closed', rental: { rentalId: 'r', startedAt: at(0), until: at(60) } }],
  },
  UnitEventRejected: { reason: 'unknown locker', rejectedType: 'RentalStarted' },
  UnitLogGapDetected: gap,
  UnitLogGapClosed: { ...gap, lost: true },
  UnitBatchRejected: { reason: 'not JSON', bytes: 12 },
  UnitEventRecovered: {
    epoch: gap.epoch,
    seq: 4,
    type: 'LockerClosed',
    v: 1,
    time: '2026-07-01T12:00:00.000Z',
    data: {},
    clockOffsetMs: -7_200_000,
  },
};

const TYPES = Object.keys(EVENT_CATALOGUE) as EventType[];
/** Of no kind that a field has, unless it takes any object. */
const NONSENSE = { nonsense: { nonsense: true } };

describe.each(TYPES)('%s', (type) => {
  const { schema, summary, aggregates } = definitionOf(type);
  const example: Record<string, unknown> = EXAMPLES[type];
  const without = (field: string) => Object.fromEntries(Object.entries(example).filter(([name]) => name !== field));

  test('accepts its example, and what JSON makes of it', () => {
    expect([...Value.Errors(schema, example)]).toEqual([]);
    expect(Value.Check(schema, JSON.parse(JSON.stringify(example)))).toBe(true);
  });

  test('has a summary, a version and aggregates that exist', () => {
    expect(summary).toMatch(/^[A-Z].+\.$/);
    expect(versionOf(type)).toBeGreaterThanOrEqual(1);
    expect(aggregates.length).toBeGreaterThan(0);
    for (const aggregate of aggregates) expect(AGGREGATES).toContain(aggregate);
  });

  test('refuses data that is not an object', () => {
    for (const broken of [null, undefined, 'text', 1]) expect(Value.Check(schema, broken)).toBe(false);
  });

  test('refuses data without a required field', () => {
    for (const field of schema.required ?? [])
      expect({ field, ok: Value.Check(schema, without(field)) }).toEqual({ field, ok: false });
  });

  test('refuses each field with a value of another type', () => {
    for (const [field, part] of Object.entries<TSchema>(schema.properties)) {
      const broken = part[Kind] === 'Record' || part[Kind] === 'Object' ? 'text' : NONSENSE;
      expect({ field, ok: Value.Check(schema, { ...example, [field]: broken }) }).toEqual({ field, ok: false });
    }
  });
});

describe('upcasting', () => {
  const event: CloudEvent = {
    specversion: '1.0',
    id: 'e',
    source: '/lockfleet/tests',
    type: 'LockerClosed',
    subject: 'PL-1000/A',
    time: at(0),
    dataschema: 'LockerClosed/1',
    data: {},
  };

  test('leaves data of the present version unchanged', () => {
    expect(upcast(event)).toMatchObject({ type: 'LockerClosed' });
  });

  test.each([
    ['a type', { type: 'CoffeeBrewed', dataschema: 'CoffeeBrewed/1' }],
    ['a version', { dataschema: 'LockerClosed/2' }],
    ['a schema of another type', { dataschema: 'LockerOpened/1' }],
    ['an inherited name', { type: 'constructor', dataschema: 'constructor/1' }],
  ])('passes over %s that it does not know', (_, changes) => {
    expect(upcast({ ...event, ...changes })).toBeUndefined();
  });

  test('isEventType accepts the types of the catalogue and no other string', () => {
    expect(TYPES.every(isEventType)).toBe(true);
    for (const name of ['', 'toString', '__proto__', 'lockerclosed']) expect(isEventType(name)).toBe(false);
  });
});

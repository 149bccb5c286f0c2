/** Whatever ingest records, every read model can store: a unit is never parked for what it said. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import fc from 'fast-check';
import { recoverEvent } from '../../domain/device/unit-log.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { parseBatch } from '../../platform/unit-log/batch.ts';
import { EPOCH, UNIT } from '../support/given.ts';
import { LetterProcess, NOW_MS } from '../support/letter-process.ts';
import { fillToTheEnd, freshPostgres } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';
import { appendRegistration } from '../support/registration.ts';
import { LOCKERS } from '../support/scene.ts';

const RANDOM_EVENTS = 150;
/** The longest text that leaves room for the rest of an event. */
const LONG = 'ü'.repeat(30_000);
/** Text that Postgres, or UTF-8, does not have. */
const ODD = 'a\u0000b\ud800c\udfff\u007f\u2028"\\{},NULL\t\n';
const { seed } = seededRandom();

let postgres: Postgres;

beforeAll(async () => {
  postgres = await freshPostgres();
});

afterAll(() => postgres.close());

function rental(until: string, changes: object = {}): object {
  return { type: 'RentalStarted', locker: 'A', data: { rentalId: 'r', until, ...changes } };
}

function report(changes: object, rentalChanges: object = {}): object {
  const running = { rentalId: 'r', startedAt: '2026-07-01T10:00:00Z', until: '2026-07-01T12:00:00Z', ...rentalChanges };
  const lockers = [
    { id: 'A', door: 'open', rental: running },
    { id: 'constructor', door: 'closed', rental: running },
  ];
  return { type: 'UnitStateReported', data: { reason: 'gap', configurationHash: 'x', lockers, ...changes } };
}

const TIMES = [
  '0000-01-01T00:00:00Z',
  '0001-01-01T00:00:00Z',
  '0099-12-31T23:59:59.999999999Z',
  '2026-02-30T12:00:00Z',
  '9999-12-31T23:59:59.999999999Z',
];

/** Events that some column could choke on; some of them are rejected, and that must be storable too. */
const NASTY: readonly object[] = [
  ...TIMES.flatMap((time) => [
    { time },
    { ...rental(time), time },
    report({}, { startedAt: time }),
    report({}, { until: time }),
    { type: 'RentalEnded', locker: 'A', time, data: { rentalId: 'r', reason: 'given-back' } },
  ]),
  ...[ODD, LONG, '__proto__', 'constructor', ''].flatMap((text) => [
    { causationId: text },
    { type: text },
    { locker: text },
    { data: { [text]: text } },
    { [text]: text },
    rental('2026-07-01T13:00:00Z', { rentalId: text, reservationId: text }),
    { type: 'RentalEnded', locker: 'A', data: { rentalId: text, reservationId: text, reason: 'given-back' } },
    report({ configurationHash: text }, { reservationId: text }),
    { type: 'HardwareErrorRaised', data: { code: text, message: 'm' } },
    { type: 'UnitRestarted', data: { bootId: text } },
  ]),
  { v: 1e300 },
  { data: { n: [1e308, -0, 5e-324, 12345678901234567890n.toString(), Number.MAX_SAFE_INTEGER] } },
  { type: 'PaymentSucceeded', data: { reference: ODD, amount: 1e300, currency: 'EUR' } },
  { data: 7 },
  { data: null },
];

test('every read model can store every event that ingest records', async () => {
  const store = new MemoryEventStore(() => NOW_MS);
  const { decider, recorder } = new LetterProcess(postgres.sql, store, {}, new Map([[UNIT, 7_000]]));
  await appendRegistration(decider, UNIT, { lockers: [...LOCKERS, { id: 'constructor', size: 'S' }] });
  const chance = fc.sample(
    fc.record(
      {
        type: fc.constantFrom('LockerClosed', 'LockerSang', 'RentalStarted', 'UnitStateReported'),
        locker: fc.constantFrom('A', 'B', 'toString'),
        data: fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()),
      },
      { requiredKeys: ['type', 'data'] },
    ),
    { seed, numRuns: RANDOM_EVENTS },
  );
  const events = [...NASTY, ...chance].map((changes, index) => {
    return {
      v: 1,
      type: 'LockerClosed',
      time: '2026-07-01T11:00:00Z',
      locker: 'A',
      data: {},
      ...changes,
      seq: index + 1,
    };
  });
  for (const event of events) {
    const text = JSON.stringify({ unit: UNIT, epoch: EPOCH, events: [event] });
    const { waitingFrom } = await recorder.recordBatch(parseBatch(UNIT, new TextEncoder().encode(text)), NOW_MS);
    expect(waitingFrom).toBeUndefined();
  }
  const meta = { commandId: 'unreadable', actor: 'platform:test', source: '/test' };
  await decider.decide(UNIT, 'log', meta, () => [{ type: 'UnitBatchRejected', data: { reason: ODD, bytes: 1 } }]);

  for (const [index, odd] of [ODD, LONG, '__proto__'].entries()) {
    const use = { rentalId: odd, reservationId: odd, until: '2026-07-01T12:00:00Z', [odd]: odd };
    const event = {
      epoch: EPOCH,
      seq: index + 1,
      type: 'RentalStarted',
      v: 1,
      time: '2026-07-01T11:00:00Z',
      data: use,
    };
    await decider.decide(UNIT, 'log', { ...meta, commandId: `recover-${index}` }, ({ log }) =>
      recoverEvent(log, event, 'A'),
    );
  }

  await fillToTheEnd(postgres, store);
  const { sql } = postgres;
  expect([
    ...(await sql`select projection, p.reason from platform.projection_parked p
    join platform.projection_runs r on r.id = p.run_id`),
  ]).toEqual([]);
  const [run] = await sql<{ schema_name: string }[]>`
    select schema_name from platform.projection_runs where projection = 'event_log' and status = 'serving'`;
  const stored = await sql<{ type: string; event: string }[]>`
    select type, event from ${sql(`${run?.schema_name}.event`)} where event like '%"unitseq"%' order by sequence`;
  expect(stored.map(({ event }) => JSON.parse(event).unitseq)).toEqual(events.map(({ seq }) => seq));
  const rejected = stored.filter(({ type }) => type === 'UnitEventRejected').length;
  const [letters] = await sql<{ kept: number }[]>`select count(*)::bigint as kept from platform.dead_letters`;
  expect(letters?.kept).toBe(rejected);
  expect(rejected).toBeGreaterThan(0);
  expect(rejected).toBeLessThan(stored.length);
});

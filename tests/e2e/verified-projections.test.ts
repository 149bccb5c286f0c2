/** Projections over REST, and the proof that their rows are those that a rebuild from the events gives. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { Client, items, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import type { Platform } from '../support/platform.ts';
import { verifyProjection } from '../support/verify.ts';
import { fleet, newCustomer, operator, stopFleet } from './fleet.ts';

const NAMES = ['bookings', 'configuration', 'daily_summary', 'event_log', 'reservations', 'units'];
const SLOW = { timeoutMs: 60_000 };

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  platform = await fleet();
  ops = await operator();
}, 120_000);

afterAll(stopFleet);

async function projection(name: string) {
  return items(await ops.get('/v1/projections')).find((item) => item.name === name);
}

test('operators list and rebuild projections and cancel rebuilds; customers may not', async () => {
  const customer = await newCustomer();
  expect((await customer.get('/v1/projections')).status).toBe(403);
  expect((await customer.post('/v1/projections/units/rebuild')).status).toBe(403);

  const listed = items(await ops.get('/v1/projections'));
  expect(listed.map(({ name }) => name)).toEqual(expect.arrayContaining(NAMES));
  for (const item of listed) expect(item).toMatchObject({ servingSince: expect.any(String), parkedUnits: 0 });

  const before = await projection('units');
  const asked = await ops.post('/v1/projections/units/rebuild', undefined, { 'idempotency-key': 'rebuild-units' });
  expect(asked.status).toBe(202);
  expect(asked.body).toMatchObject({ name: 'units' });
  await eventually(async () => {
    const now = await projection('units');
    return now?.rebuild === null && now.servingSince !== before?.servingSince;
  }, SLOW);
  expect((await ops.get('/v1/units?limit=1')).status).toBe(200);

  expect(await ops.send('DELETE', '/v1/projections/units/rebuild')).toMatchObject({
    status: 404,
    body: { type: '/problems/not-found' },
  });
  expect((await ops.post('/v1/projections/nothing/rebuild')).status).toBe(404);
  expect((await ops.post('/v1/projections/No%20Name/rebuild')).status).toBe(422);

  platform.projections.pause();
  try {
    const waiting = await ops.post('/v1/projections/bookings/rebuild');
    expect(waiting.body.rebuild).toMatchObject({ reason: 'request', status: 'requested', requestedBy: 'ops:operator' });
    expect(await ops.send('DELETE', '/v1/projections/bookings/rebuild')).toMatchObject({
      status: 200,
      body: { rebuild: null, lastEnded: { status: 'cancelled', because: 'by ops:operator' } },
    });
  } finally {
    platform.projections.resume();
  }
}, 120_000);

test('parked units are listed, and a retry of a unit that is not parked answers 404', async () => {
  expect(await ops.get('/v1/projections/units/parked?count=true')).toMatchObject({
    status: 200,
    body: { items: [], nextCursor: null, total: 0 },
  });
  expect((await ops.get('/v1/projections/nothing/parked')).status).toBe(404);
  expect((await ops.post('/v1/projections/units/parked/PL-1000/retry')).status).toBe(404);
});

/** A rental by phone, one at the screen, a cancelled reservation and a changed configuration. */
async function makeHistory(): Promise<void> {
  const [customer, sim] = [await newCustomer(), new Client(platform.sim)];
  const rental = { unit: 'PL-1000', locker: 'A', ...period(0, 60) };
  const id = text(await customer.post('/v1/reservations', rental), 'id');
  expect((await customer.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_1' })).status).toBe(200);
  expect((await customer.post(`/v1/reservations/${id}/open`)).status).toBe(200);
  expect((await sim.post('/units/PL-1000/lockers/A/close')).status).toBe(200);
  await eventually(async () => (await customer.post(`/v1/reservations/${id}/end`)).status === 200, SLOW);
  const later = { unit: 'PL-1001', locker: 'A', ...period(600, 60) };
  const cancelled = text(await customer.post('/v1/reservations', later), 'id');
  expect((await customer.post(`/v1/reservations/${cancelled}/cancel`)).status).toBe(200);
  const rented = await sim.post('/units/PL-1001/walk-up', { minutes: 30 });
  expect(rented.status).toBe(200);
  expect((await sim.post(`/units/PL-1001/lockers/${rented.body.locker}/close`)).status).toBe(200);
  expect((await sim.post(`/units/PL-1001/lockers/${rented.body.locker}/give-back`)).status).toBe(200);
  const { values } = (await ops.get('/v1/units/PL-1002/config')).body.desired as { values: object };
  const changed = { mode: 'live', values: { ...values, minimumMinutes: 30 } };
  expect((await ops.send('PUT', '/v1/units/PL-1002/config', { body: changed })).status).toBe(200);
  await eventually(async () => items(await ops.get('/v1/events?type=RentalEnded')).length === 2, SLOW);
}

describe('after a history of every kind', () => {
  beforeAll(makeHistory, 150_000);

  test.each(NAMES)(
    '%s holds the rows that a rebuild gives',
    async (name) => {
      const { output, exitCode } = await verifyProjection(platform, name);
      expect(output).toContain(`${name}: every row of`);
      expect(exitCode).toBe(0);
    },
    120_000,
  );
});

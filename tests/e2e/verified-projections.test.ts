/** Projections over REST, and, as the last of these files, the proof that what they show is what all the tests left behind. */

import { beforeAll, expect, test } from 'bun:test';
import { type Client, items } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import type { Platform } from '../support/platform.ts';
import { verifyProjection } from '../support/verify.ts';
import { fleet, newCustomer, operator } from './fleet.ts';

const NAMES = ['bookings', 'event_log', 'reservations', 'units'];
const PATIENCE = { timeoutMs: 30_000 };

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  platform = await fleet();
  ops = await operator();
}, 60_000);

async function projection(name: string) {
  return items(await ops.get('/v1/projections')).find((item) => item.name === name);
}

test('projections are listed, rebuilt and called off by operators, and by nobody else', async () => {
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
  }, PATIENCE);
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
}, 60_000);

test('parked units are listed; one that is not parked cannot be tried again', async () => {
  expect(await ops.get('/v1/projections/units/parked?count=true')).toMatchObject({
    status: 200,
    body: { items: [], nextCursor: null, total: 0 },
  });
  expect((await ops.get('/v1/projections/nothing/parked')).status).toBe(404);
  expect((await ops.post('/v1/projections/units/parked/PL-1000/retry')).status).toBe(404);
});

test.each(NAMES)(
  '%s is what the events of all these tests say',
  async (name) => {
    const { said, exitCode } = await verifyProjection(platform, name);
    expect(said).toContain(`${name} is what`);
    expect(exitCode).toBe(0);
  },
  60_000,
);

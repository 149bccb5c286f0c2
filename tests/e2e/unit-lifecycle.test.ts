/** What operators do with units and lockers over REST, with simulated units and customers, and what follows for the bookings. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type Answer, Client, fields, items, period, text } from '../support/client.ts';
import { startTestFleet, type TestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { registrationBody } from '../support/registration.ts';
import { fleet, newCustomer, operator, stopFleet } from './fleet.ts';

/** The most lockers of a unit. */
const MAX_LOCKERS = 1_000;

let ops: Client;

beforeAll(async () => {
  await fleet();
  ops = await operator();
}, 120_000);

afterAll(stopFleet);

const lockers = (...ids: readonly string[]) => ids.map((id) => ({ id, size: 'M' as const }));

/** Registers a unit that nobody simulates: its bookings are decided all the same. */
async function register(name: string, ...ids: readonly string[]): Promise<Answer> {
  const body = registrationBody(name, { lockers: lockers(...ids), probe: 'nats', commandChannel: 'nats' });
  const answer = await ops.post('/v1/units', body);
  expect(answer.status).toBe(201);
  return answer;
}

const patch = (name: string, body: unknown, headers: Readonly<Record<string, string>> = {}) =>
  ops.send('PATCH', `/v1/units/${name}`, { body, headers });
const positionOf = ({ headers }: Answer) => headers.get('lockfleet-position') ?? '';
const getUnit = (name: string, after: Answer) => ops.getOnceShown(`/v1/units/${name}?minPosition=${positionOf(after)}`);

async function reserve(client: Client, unit: string, locker: string, when = period(60, 60)): Promise<string> {
  const held = await client.post('/v1/reservations', { unit, locker, ...when });
  expect(held.status).toBe(201);
  const id = text(held, 'id');
  const confirmed = await client.post(`/v1/reservations/${id}/confirm`, { paymentReference: `pay-${id}` });
  expect(confirmed.status).toBe(200);
  return id;
}

async function freeLockers(client: Client, unit: string, after: Answer, when = period(60, 60)): Promise<unknown[]> {
  const query = new URLSearchParams({ unit, ...when, minPosition: positionOf(after) });
  return items(await client.getOnceShown(`/v1/availability?${query}`)).map(({ locker }) => locker);
}

async function reservationAfter(client: Client, id: string, after: Answer) {
  return (await client.getOnceShown(`/v1/reservations/${id}?minPosition=${positionOf(after)}`)).body;
}

async function eventsOf(unit: string, type: string): Promise<Record<string, unknown>[]> {
  return items(await ops.get(`/v1/events?${new URLSearchParams({ unit, type, limit: '100' })}`));
}

describe('changing a unit', () => {
  test('changes the named properties, and the unit shows them with the next revision as its ETag', async () => {
    const registered = await register('LC-CHANGE', 'A');
    const before = await getUnit('LC-CHANGE', registered);
    expect(before.headers.get('etag')).toBe('"1"');
    const changed = await patch('LC-CHANGE', { displayName: 'North gate', tags: ['x'] }, { 'if-match': '"1"' });
    expect(changed).toMatchObject({ status: 200, body: { displayName: 'North gate', tags: ['x'], revision: 2 } });
    expect(changed.headers.get('etag')).toBe('"2"');
    const shown = await getUnit('LC-CHANGE', changed);
    expect(shown.body).toMatchObject({ displayName: 'North gate', tags: ['x'], timeZone: before.body.timeZone });
    expect(shown.headers.get('etag')).toBe('"2"');
  });

  test('a change of an older revision is refused and changes nothing', async () => {
    await register('LC-STALE', 'A');
    const both = await Promise.all(
      ['one', 'two'].map((displayName) => patch('LC-STALE', { displayName }, { 'if-match': '"1"' })),
    );
    expect(both.map(({ status }) => status).toSorted()).toEqual([200, 412]);
    const last = both.find(({ status }) => status === 200);
    const stale = both.find(({ status }) => status === 412);
    expect(stale?.body).toMatchObject({ type: '/problems/precondition-failed' });
    if (last === undefined) throw new Error('no change was accepted');
    expect((await getUnit('LC-STALE', last)).body.displayName).toBe(last.body.displayName);
  });

  test('two requests with one Idempotency-Key make one change', async () => {
    await register('LC-TWICE', 'A');
    const once = () => patch('LC-TWICE', { displayName: 'Twice' }, { 'idempotency-key': 'change-twice' });
    const answers = await Promise.all([once(), once()]);
    // The second one is told that the first runs, or gets its answer.
    for (const { status } of answers) expect([200, 409]).toContain(status);
    const repeated = await eventually(async () => {
      const answer = await once();
      return answer.status === 200 && answer;
    });
    expect(repeated.body).toMatchObject({ displayName: 'Twice', revision: 2 });
  });

  test.each([
    ['a denied address', { address: '169.254.169.254:80' }, ['/address']],
    ['an address without a port', { address: 'nowhere' }, ['/address']],
    ['a time zone that does not exist', { timeZone: 'Mars/Base' }, ['/timeZone']],
    ['a probe that does not exist', { probe: 'smoke' }, ['/probe']],
    ['an empty display name', { displayName: '' }, ['/displayName']],
    ['a location off the earth', { location: { lat: 91, lon: 0 } }, ['/location/lat']],
    ['a field that units do not have', { colour: 'red' }, ['/colour']],
    ['lockers', { lockers: [] }, ['/lockers']],
    ['nothing', {}, ['/']],
  ])('%s is refused with its field', async (_, body, paths) => {
    expect((await ops.post('/v1/units', registrationBody('LC-REFUSE'))).status).toBeOneOf([201, 422]);
    const answer = await patch('LC-REFUSE', body);
    expect({ status: answer.status, fields: fields(answer) }).toEqual({ status: 422, fields: paths });
  });

  test('a unit that does not exist is not found', async () => {
    expect((await patch('LC-NOBODY', { displayName: 'x' })).status).toBe(404);
    expect((await ops.send('DELETE', '/v1/units/LC-NOBODY')).status).toBe(404);
    expect((await ops.post('/v1/units/LC-NOBODY/lockers', { id: 'A', size: 'M' })).status).toBe(404);
  });

  test('a customer may not', async () => {
    const customer = await newCustomer();
    for (const [method, path] of [
      ['PATCH', '/v1/units/PL-1000'],
      ['DELETE', '/v1/units/PL-1000'],
      ['POST', '/v1/units/PL-1000/lockers/A/open'],
      ['POST', '/v1/reservations/PL-1000.0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55/force-end'],
    ] as const)
      expect((await customer.send(method, path, { body: {} })).status).toBe(403);
  });
});

describe('lockers', () => {
  test('are added once, and one of two concurrent requests with the same id is refused', async () => {
    await register('LC-GROW', 'A');
    const add = () => ops.post('/v1/units/LC-GROW/lockers', { id: 'B', size: 'L' });
    const answers = await Promise.all([add(), add()]);
    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 422]);
    const added = answers.find(({ status }) => status === 201);
    if (added === undefined) throw new Error('no locker was added');
    expect(added.body).toMatchObject({ unit: 'LC-GROW', id: 'B', size: 'L', inService: true, outOfService: null });
    expect(await freeLockers(await newCustomer(), 'LC-GROW', added)).toEqual(['A', 'B']);
  });

  test('are at most 1,000, and the last of them is closed and opened like the first', async () => {
    const ids = Array.from({ length: MAX_LOCKERS }, (_, index) => String(index + 1));
    await register('LC-FULL', ...ids);
    expect((await ops.post('/v1/units/LC-FULL/lockers', { id: 'X', size: 'M' })).status).toBe(422);
    const closed = await ops.post('/v1/units/LC-FULL/lockers/1000/out-of-service', { reason: 'bent', when: 'now' });
    expect(closed).toMatchObject({ status: 200, body: { id: '1000', inService: false } });
    expect((await ops.send('DELETE', '/v1/units/LC-FULL/lockers/999')).status).toBe(200);
    expect((await ops.post('/v1/units/LC-FULL/lockers', { id: 'X', size: 'M' })).status).toBe(201);
  });

  test('that are booked are removed by force only, and the booking moves', async () => {
    await register('LC-SHRINK', 'A', 'B');
    const alice = await newCustomer();
    const id = await reserve(alice, 'LC-SHRINK', 'A');
    const refused = await ops.send('DELETE', '/v1/units/LC-SHRINK/lockers/A');
    expect(refused).toMatchObject({
      status: 409,
      body: { type: '/problems/unit-in-use', inUse: { bookings: 1, reservations: [id], rentals: [], backlog: 0 } },
    });
    const removed = await ops.send('DELETE', '/v1/units/LC-SHRINK/lockers/A?force=true');
    expect(removed.status).toBe(200);
    expect(await reservationAfter(alice, id, removed)).toMatchObject({ status: 'confirmed', locker: 'B' });
    expect(await freeLockers(alice, 'LC-SHRINK', removed, period(300, 60))).toEqual(['B']);
    expect((await ops.send('DELETE', '/v1/units/LC-SHRINK/lockers/A')).status).toBe(404);
  });
});

describe('a locker out of service', () => {
  test('now: its booking moves, it is not offered and not held, and it returns', async () => {
    await register('LC-BROKEN', 'A', 'B');
    const alice = await newCustomer();
    const id = await reserve(alice, 'LC-BROKEN', 'A');
    const closed = await ops.post('/v1/units/LC-BROKEN/lockers/A/out-of-service', { reason: 'hinge', when: 'now' });
    expect(closed.body).toMatchObject({ inService: false, outOfService: { reason: 'hinge', when: 'now' } });
    expect(await reservationAfter(alice, id, closed)).toMatchObject({ status: 'confirmed', locker: 'B' });
    expect(await freeLockers(alice, 'LC-BROKEN', closed, period(300, 60))).toEqual(['B']);
    const held = await alice.post('/v1/reservations', { unit: 'LC-BROKEN', locker: 'A', ...period(300, 60) });
    expect(held).toMatchObject({ status: 409, body: { type: '/problems/no-locker-free' } });
    const shown = await getUnit('LC-BROKEN', closed);
    expect(shown.body.lockerDetails).toMatchObject([
      { id: 'A', inService: false, outOfService: { reason: 'hinge' } },
      { id: 'B', inService: true, outOfService: null },
    ]);
    const back = await ops.post('/v1/units/LC-BROKEN/lockers/A/return-to-service');
    expect(back.body).toMatchObject({ inService: true, outOfService: null });
    expect(await freeLockers(alice, 'LC-BROKEN', back, period(300, 60))).toEqual(['A', 'B']);
  });

  test('now, and no other is free: the paid customer is told that the booking is rejected', async () => {
    await register('LC-ONLY', 'A');
    const alice = await newCustomer();
    const id = await reserve(alice, 'LC-ONLY', 'A');
    const closed = await ops.post('/v1/units/LC-ONLY/lockers/A/out-of-service', { reason: 'hinge', when: 'now' });
    expect(await reservationAfter(alice, id, closed)).toMatchObject({ status: 'rejected' });
    const [rejected] = await eventually(async () => {
      const found = await eventsOf('LC-ONLY', 'ReservationRejected');
      return found.length > 0 && found;
    });
    expect(rejected?.data).toMatchObject({ reservationId: id, reason: 'Locker A is out of service.' });
  });

  test('when free: its booking stays, and it is not offered for any other period', async () => {
    await register('LC-LATER', 'A', 'B');
    const alice = await newCustomer();
    const id = await reserve(alice, 'LC-LATER', 'A');
    const closed = await ops.post('/v1/units/LC-LATER/lockers/A/out-of-service', { reason: 'x', when: 'when-free' });
    expect(await reservationAfter(alice, id, closed)).toMatchObject({ status: 'confirmed', locker: 'A' });
    expect(await freeLockers(alice, 'LC-LATER', closed, period(300, 60))).toEqual(['B']);
  });

  test('until a time: it is offered from then on', async () => {
    await register('LC-UNTIL', 'A');
    const { until } = period(0, 240);
    const body = { reason: 'paint', when: 'now', until };
    const closed = await ops.post('/v1/units/LC-UNTIL/lockers/A/out-of-service', body);
    const alice = await newCustomer();
    expect(await freeLockers(alice, 'LC-UNTIL', closed, period(60, 60))).toEqual([]);
    expect(await freeLockers(alice, 'LC-UNTIL', closed, period(241, 60))).toEqual(['A']);
  });

  test.each([
    ['a time that has passed', { reason: 'x', when: 'now', until: '2020-01-01T00:00:00Z' }, ['/until']],
    ['an empty reason', { reason: '', when: 'now' }, ['/reason']],
    ['a reason of 501 characters', { reason: 'x'.repeat(501), when: 'now' }, ['/reason']],
    ['no reason', { when: 'now' }, ['/reason']],
    ['another time', { reason: 'x', when: 'tomorrow' }, ['/when']],
  ])('%s is refused with its field', async (_, body, paths) => {
    expect((await ops.post('/v1/units', registrationBody('LC-ODD'))).status).toBeOneOf([201, 422]);
    const answer = await ops.post('/v1/units/LC-ODD/lockers/A/out-of-service', body);
    expect({ status: answer.status, fields: fields(answer) }).toEqual({ status: 422, fields: paths });
  });

  test('odd reasons are kept as they are', async () => {
    await register('LC-REASON', 'A');
    const reason = '🚪 "hinge"\n\\ \'; drop table unit; -- <b>Schloß</b> \u202e';
    const closed = await ops.post('/v1/units/LC-REASON/lockers/A/out-of-service', { reason, when: 'now' });
    expect(closed.body).toMatchObject({ outOfService: { reason } });
    expect((await getUnit('LC-REASON', closed)).body.lockerDetails).toMatchObject([{ outOfService: { reason } }]);
    const unknown = await ops.post('/v1/units/LC-REASON/lockers/Z/out-of-service', { reason, when: 'now' });
    expect(unknown.status).toBe(404);
  });
});

test('a locker that is installed in a unit and added at the platform is sold and opens, until it is removed from both', async () => {
  const sim = new Client((await fleet()).sim);
  const [unit, locker] = ['PL-1003', 'X9'];
  const shown = async () =>
    ((await sim.get(`/units/${unit}`)).body.lockers as { id: string }[]).find(({ id }) => id === locker);
  expect((await sim.post(`/units/${unit}/lockers`, { id: locker, size: 'XL' })).status).toBe(200);
  const added = await ops.post(`/v1/units/${unit}/lockers`, { id: locker, size: 'XL' });
  expect(added).toMatchObject({ status: 201, body: { unit, id: locker, size: 'XL', inService: true } });
  const alice = await newCustomer();
  expect(await freeLockers(alice, unit, added, period(0, 60))).toContain(locker);
  const id = await reserve(alice, unit, locker, period(0, 60));
  const opened = await alice.post(`/v1/reservations/${id}/open`);
  expect(opened).toMatchObject({ status: 200, body: { result: 'opened' } });
  expect(await shown()).toMatchObject({ door: 'open', occupiedBy: id });

  expect((await ops.send('DELETE', `/v1/units/${unit}/lockers/${locker}`)).status).toBe(409);
  expect((await sim.send('DELETE', `/units/${unit}/lockers/${locker}`)).status).toBe(409);
  for (const action of ['close', 'give-back']) {
    expect((await sim.post(`/units/${unit}/lockers/${locker}/${action}`)).status).toBe(200);
  }
  await eventually(async () => (await alice.get(`/v1/reservations/${id}`)).body.status === 'completed', {
    timeoutMs: 60_000,
  });
  const removed = await ops.send('DELETE', `/v1/units/${unit}/lockers/${locker}`);
  expect(removed).toMatchObject({ status: 200, body: { id: locker } });
  expect((await sim.send('DELETE', `/units/${unit}/lockers/${locker}`)).status).toBe(200);
  expect(await shown()).toBeUndefined();
  expect(await freeLockers(alice, unit, removed)).not.toContain(locker);
});

test('a simulated fleet that has lost its store gets its unit back, with the lockers that the platform has', async () => {
  const { api, token } = await fleet();
  const opsToken = async () => (await token('ops', 'field')).slice('Bearer '.length);
  const startUnit = (lockers: number) =>
    startTestFleet({ url: api }, { seed: 80, units: 1, lockers, platform: { url: api, opsToken } });
  const isReady = (started: TestFleet) => eventually(() => started.readiness().ready, { timeoutMs: 60_000 });
  const first = await startUnit(2);
  const [name = ''] = first.units.keys();
  await isReady(first);
  await first.stop();
  const added = await ops.post(`/v1/units/${name}/lockers`, { id: 'X9', size: 'XL' });
  expect(added.status).toBe(201);
  await getUnit(name, added);

  const second = await startUnit(4);
  try {
    await isReady(second);
    const unit = second.units.get(name);
    expect(unit?.model.lockers.map(({ id }) => id)).toEqual(['A', 'B', 'X9']);
    expect((await ops.get(`/v1/units/${name}`)).body).toMatchObject({ address: unit?.address });
  } finally {
    await second.stop();
  }
});

test('maintenance gives up the bookings that overlap it, closes the unit for its time, and can be cancelled', async () => {
  await register('LC-MAINT', 'A', 'B');
  const alice = await newCustomer();
  const [during, after] = [period(60, 60), period(400, 60)];
  const overlapping = await reserve(alice, 'LC-MAINT', 'A', during);
  const later = await reserve(alice, 'LC-MAINT', 'B', after);
  const plan = { ...period(90, 120), reason: 'the floor is painted' };
  const planned = await ops.post('/v1/units/LC-MAINT/maintenance', plan);
  expect(planned).toMatchObject({ status: 201, body: { unit: 'LC-MAINT', ...plan } });
  expect(await reservationAfter(alice, overlapping, planned)).toMatchObject({ status: 'rejected' });
  expect(await reservationAfter(alice, later, planned)).toMatchObject({ status: 'confirmed', locker: 'B' });
  expect(await freeLockers(alice, 'LC-MAINT', planned, during)).toEqual([]);
  expect(await freeLockers(alice, 'LC-MAINT', planned, after)).toEqual(['A']);
  expect((await getUnit('LC-MAINT', planned)).body.maintenance).toMatchObject([plan]);
  const cancelled = await ops.send('DELETE', `/v1/units/LC-MAINT/maintenance/${text(planned, 'id')}`);
  expect(cancelled.status).toBe(200);
  expect(await freeLockers(alice, 'LC-MAINT', cancelled, during)).toEqual(['A', 'B']);
  expect((await ops.send('DELETE', '/v1/units/LC-MAINT/maintenance/nothing')).status).toBe(404);
  const backwards = { from: plan.until, until: plan.from, reason: 'x' };
  expect(fields(await ops.post('/v1/units/LC-MAINT/maintenance', backwards))).toEqual(['/until']);
});

test('a unit whose credentials are revoked is not offered and takes no holds', async () => {
  await register('LC-STOLEN', 'A');
  const revoked = await ops.post('/v1/units/LC-STOLEN/credentials/revoke', { reason: 'stolen' });
  const alice = await newCustomer();
  expect(await freeLockers(alice, 'LC-STOLEN', revoked)).toEqual([]);
  const held = await alice.post('/v1/reservations', { unit: 'LC-STOLEN', locker: 'A', ...period(60, 60) });
  expect(held).toMatchObject({ status: 409, body: { type: '/problems/closed' } });
  const opened = await ops.post('/v1/units/LC-STOLEN/lockers/A/open', { reason: 'look inside' });
  expect(opened).toMatchObject({ status: 409, body: { type: '/problems/closed' } });
});

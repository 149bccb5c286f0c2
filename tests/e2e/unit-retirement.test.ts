/** Operators open doors, end stuck reservations and retire units, over REST and at simulated units. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type Answer, Client, fields, items, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import type { Platform } from '../support/platform.ts';
import { RawNats } from '../support/raw-nats.ts';
import { registrationBody } from '../support/registration.ts';
import { fleet, newCustomer, operator, stopFleet } from './fleet.ts';

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  platform = await fleet();
  ops = await operator();
}, 120_000);

afterAll(stopFleet);

interface Credentials {
  readonly unitKey: string;
  readonly natsCreds: string;
}

async function register(name: string, ...ids: readonly string[]): Promise<Answer> {
  const lockers = ids.map((id) => ({ id, size: 'M' as const }));
  const body = registrationBody(name, { lockers, probe: 'nats', commandChannel: 'nats' });
  const answer = await ops.post('/v1/units', body);
  expect(answer.status).toBe(201);
  return answer;
}

const sim = (path: string, body?: unknown) => new Client(platform.sim).post(path, body);
const positionOf = ({ headers }: Answer) => headers.get('lockfleet-position') ?? '';
const retire = (name: string, query = '') => ops.send('DELETE', `/v1/units/${name}${query}`);
const getUnit = (name: string, after: Answer) => ops.getOnceShown(`/v1/units/${name}?minPosition=${positionOf(after)}`);

async function reserve(client: Client, unit: string, wanted: object, when = period(60, 60)): Promise<string> {
  const held = await client.post('/v1/reservations', { unit, ...wanted, ...when });
  expect(held.status).toBe(201);
  const id = text(held, 'id');
  const confirmed = await client.post(`/v1/reservations/${id}/confirm`, { paymentReference: `pay-${id}` });
  expect(confirmed.status).toBe(200);
  return id;
}

async function reservationAfter(client: Client, id: string, after: Answer) {
  return (await client.getOnceShown(`/v1/reservations/${id}?minPosition=${positionOf(after)}`)).body;
}

async function eventsOf(unit: string, type: string): Promise<Record<string, unknown>[]> {
  return items(await ops.get(`/v1/events?${new URLSearchParams({ unit, type, limit: '100' })}`));
}

function dataOf(event: Record<string, unknown>): Record<string, unknown> {
  return event.data as Record<string, unknown>;
}

interface SimulatedLocker {
  readonly id: string;
  readonly door: string;
  readonly occupiedBy: unknown;
}

async function simulatedLocker(unit: string, id: string): Promise<SimulatedLocker | undefined> {
  const { body } = await new Client(platform.sim).get(`/units/${unit}`);
  return (body.lockers as SimulatedLocker[]).find((locker) => locker.id === id);
}

describe('opening a door for service', () => {
  test('opens a rented locker; who did it and why stands in the log, and the rental goes on', async () => {
    const rented = await sim('/units/PL-1000/walk-up', { minutes: 60 });
    const locker = text(rented, 'locker');
    expect((await sim(`/units/PL-1000/lockers/${locker}/close`)).status).toBeLessThan(300);
    const opened = await ops.post(`/v1/units/PL-1000/lockers/${locker}/open`, { reason: 'a forgotten bag' });
    expect(opened).toMatchObject({ status: 200, body: { result: 'opened', locker } });
    expect(await simulatedLocker('PL-1000', locker)).toMatchObject({ door: 'open', occupiedBy: expect.anything() });
    const [requested] = await eventually(async () => {
      const found = await eventsOf('PL-1000', 'ServiceOpenRequested');
      return found.length > 0 && found;
    });
    expect(requested).toMatchObject({ actor: 'ops:operator', data: { locker, reason: 'a forgotten bag' } });
    const { commandId } = dataOf(requested ?? {});
    await eventually(async () =>
      (await eventsOf('PL-1000', 'ServiceOpenAnswered')).some(
        (event) => dataOf(event).commandId === commandId && dataOf(event).result === 'opened',
      ),
    );
    await eventually(async () =>
      (await eventsOf('PL-1000', 'LockerOpened')).some(
        (event) => dataOf(event).cause === 'service' && dataOf(event).commandId === commandId,
      ),
    );
    expect((await sim(`/units/PL-1000/lockers/${locker}/close`)).status).toBeLessThan(300);
    expect((await sim(`/units/PL-1000/lockers/${locker}/give-back`)).status).toBeLessThan(300);
  });

  test('a repeat with the same key opens nothing again', async () => {
    const open = () =>
      ops.post('/v1/units/PL-1001/lockers/A/open', { reason: 'twice' }, { 'idempotency-key': 'open-for-service' });
    expect((await open()).status).toBe(200);
    expect((await sim('/units/PL-1001/lockers/A/close')).status).toBeLessThan(300);
    expect((await open()).status).toBe(200);
    expect(await simulatedLocker('PL-1001', 'A')).toMatchObject({ door: 'closed' });
  });

  test('fails at a unit that is cut off, is recorded, and opens nothing when the unit is back', async () => {
    await sim('/units/PL-1002/faults', { offline: true });
    const answer = await ops.post('/v1/units/PL-1002/lockers/A/open', { reason: 'too late' });
    expect(answer).toMatchObject({ status: 503, body: { type: '/problems/unit-offline' } });
    await sim('/units/PL-1002/faults', { offline: false });
    await eventually(async () =>
      (await eventsOf('PL-1002', 'ServiceOpenAnswered')).some((event) => dataOf(event).result === 'unreachable'),
    );
    expect(await simulatedLocker('PL-1002', 'A')).toMatchObject({ door: 'closed' });
  });

  test('a jammed door, an unknown locker and no reason are refused', async () => {
    await sim('/units/PL-1002/faults', { jammed: ['B'] });
    const jammed = await eventually(async () => {
      const answer = await ops.post('/v1/units/PL-1002/lockers/B/open', { reason: 'try' });
      return answer.status !== 503 && answer;
    });
    expect(jammed).toMatchObject({ status: 409, body: { type: '/problems/unit-rejected' } });
    await sim('/units/PL-1002/faults', { jammed: [] });
    expect((await ops.post('/v1/units/PL-1002/lockers/ZZ/open', { reason: 'try' })).status).toBe(404);
    expect((await ops.post('/v1/units/PL-1002/lockers/B/open', {})).status).toBe(422);
  });
});

describe('ending a reservation by force', () => {
  test('completes one in use, the unit releases the rental, and later reports do not revive it', async () => {
    const alice = await newCustomer();
    const id = await reserve(alice, 'PL-1001', { size: 'M' }, period(0, 60));
    const opened = await alice.post(`/v1/reservations/${id}/open`);
    expect(opened.status).toBe(200);
    const locker = text(opened, 'locker');
    expect((await sim(`/units/PL-1001/lockers/${locker}/close`)).status).toBeLessThan(300);
    const ended = await ops.post(`/v1/reservations/${id}/force-end`, { reason: 'the customer called' });
    expect(ended).toMatchObject({ status: 200, body: { id, status: 'completed' } });
    expect(ended.body.accessCode).toBeUndefined();
    const completed = await eventually(async () => {
      const found = await eventsOf('PL-1001', 'ReservationCompleted');
      return found.find((event) => dataOf(event).reservationId === id) ?? false;
    });
    expect(dataOf(completed)).toMatchObject({ endedBy: 'operator', reason: 'the customer called' });
    await eventually(async () => (await simulatedLocker('PL-1001', locker))?.occupiedBy === null);
    await eventually(async () => (await eventsOf('PL-1001', 'RentalEnded')).length > 0);
    expect(await reservationAfter(alice, id, ended)).toMatchObject({ status: 'completed' });
    const again = await ops.post(`/v1/reservations/${id}/force-end`, { reason: 'again' });
    expect(again).toMatchObject({ status: 409, body: { type: '/problems/reservation-state' } });
  });

  test('rejects one that has not begun, with its reason', async () => {
    await register('RT-FORCE', 'A');
    const alice = await newCustomer();
    const id = await reserve(alice, 'RT-FORCE', { locker: 'A' });
    const ended = await ops.post(`/v1/reservations/${id}/force-end`, { reason: 'the site is flooded' });
    expect(ended).toMatchObject({ status: 200, body: { status: 'rejected' } });
    expect(await reservationAfter(alice, id, ended)).toMatchObject({ status: 'rejected' });
    const unknown = id.replace(/.$/, (digit) => (digit === '0' ? '1' : '0'));
    expect((await ops.post(`/v1/reservations/${unknown}/force-end`, { reason: 'x' })).status).toBe(404);
  });
});

describe('the list of reservations', () => {
  test('has those of all customers for operators, filtered, and without what opens a locker', async () => {
    await register('RT-LIST', 'A', 'B');
    const [alice, bob] = [await newCustomer(), await newCustomer()];
    const first = await reserve(alice, 'RT-LIST', { locker: 'A' }, period(60, 60));
    const second = await reserve(bob, 'RT-LIST', { locker: 'B' }, period(600, 60));
    const ended = await ops.post(`/v1/reservations/${first}/force-end`, { reason: 'x' });
    const list = async (client: Client, query: Record<string, string>) => {
      const asked = new URLSearchParams({ ...query, minPosition: positionOf(ended) });
      return client.getOnceShown(`/v1/reservations?${asked}`);
    };
    const idsOf = (answer: Answer) => items(answer).map(({ id }) => id);
    const all = await list(ops, { unit: 'RT-LIST', count: 'true' });
    expect(idsOf(all)).toEqual([second, first]);
    expect(all.body.total).toBe(2);
    for (const item of items(all)) {
      expect(item.customer).toEqual(expect.any(String));
      expect(Object.keys(item)).not.toContain('accessCode');
      expect(Object.keys(item)).not.toContain('offlineToken');
    }
    expect(idsOf(await list(ops, { unit: 'RT-LIST', status: 'rejected' }))).toEqual([first]);
    expect(idsOf(await list(ops, { unit: 'RT-LIST', from: period(300, 1).from }))).toEqual([second]);
    const customer = String(items(all)[0]?.customer);
    expect(idsOf(await list(ops, { customer }))).toEqual([second]);
    const page = await list(ops, { unit: 'RT-LIST', limit: '1' });
    const cursor = text(page, 'nextCursor');
    expect(idsOf(await list(ops, { unit: 'RT-LIST', limit: '1', cursor }))).toEqual([first]);
    expect(idsOf(await list(alice, { unit: 'RT-LIST' }))).toEqual([first]);
    expect(idsOf(await list(alice, { status: 'confirmed' }))).toEqual([]);
    expect(fields(await list(alice, { customer }))).toEqual(['/query/customer']);
  });
});

describe('retiring a unit', () => {
  test('is refused with what stands in the way: bookings and running rentals', async () => {
    const alice = await newCustomer();
    const id = await reserve(alice, 'PL-1003', { size: 'M' }, period(120, 60));
    const walkUp = await sim('/units/PL-1003/walk-up', { minutes: 60 });
    const locker = text(walkUp, 'locker');
    const refused = await eventually(async () => {
      const answer = await retire('PL-1003');
      const { inUse } = answer.body as { inUse?: { rentals: readonly unknown[]; backlog: number } };
      return inUse !== undefined && inUse.rentals.length > 0 && inUse.backlog === 0 && answer;
    });
    expect(refused).toMatchObject({
      status: 409,
      body: {
        type: '/problems/unit-in-use',
        inUse: { bookings: 1, reservations: [id], rentals: [{ locker }], backlog: 0 },
      },
    });
    expect((await ops.get('/v1/units/PL-1003')).body).toMatchObject({ status: 'registered' });
  });

  test('by force ends the rental that runs, and a new unit of its name has no backlog and no rental', async () => {
    const retired = await retire('PL-1003', '?force=true&reason=stolen');
    expect(retired).toMatchObject({ status: 200, body: { status: 'retired' } });
    const [reservation] = await eventually(async () => {
      const found = await eventsOf('PL-1003', 'ReservationRejected');
      return found.length > 0 && found;
    });
    expect(dataOf(reservation ?? {})).toMatchObject({ reason: 'The unit has left the platform.' });
    const again = await register('PL-1003', 'A');
    expect((await getUnit('PL-1003', again)).body).toMatchObject({
      state: 'never-seen',
      backlog: 0,
      log: null,
      lockerDetails: [{ id: 'A', door: 'unknown', rental: null }],
    });
    expect((await retire('PL-1003')).status).toBe(200);
  });

  test('by force gives up every booking, ends the credentials, and leaves the lists and the availability', async () => {
    const registered = await register('RT-FORCED', 'A', 'B');
    const { natsCreds } = registered.body.credentials as Credentials;
    const unit = await RawNats.connect(platform.nats.url, natsCreds);
    const alice = await newCustomer();
    const ids = await Promise.all(['A', 'B'].map((locker) => reserve(alice, 'RT-FORCED', { locker })));
    expect((await retire('RT-FORCED')).status).toBe(409);
    const [retired, twice] = await Promise.all([
      retire('RT-FORCED', '?force=true'),
      retire('RT-FORCED', '?force=true'),
    ]);
    expect([retired.status, twice.status]).toEqual([200, 200]);
    expect(retired.body).toMatchObject({ name: 'RT-FORCED', status: 'retired' });
    for (const id of ids) expect(await reservationAfter(alice, id, retired)).toMatchObject({ status: 'rejected' });
    await eventually(() => unit.closed);
    await expect(RawNats.connect(platform.nats.url, natsCreds)).rejects.toThrow('Authorization Violation');
    expect((await getUnit('RT-FORCED', retired)).body).toMatchObject({ status: 'retired' });
    expect(items(await ops.get('/v1/units?q=RT-FORCED'))).toEqual([]);
    const query = new URLSearchParams({ unit: 'RT-FORCED', ...period(60, 60), minPosition: positionOf(retired) });
    expect(items(await alice.getOnceShown(`/v1/availability?${query}`))).toEqual([]);
    const held = await alice.post('/v1/reservations', { unit: 'RT-FORCED', locker: 'A', ...period(60, 60) });
    expect(held.status).toBe(404);
    const rejected = await eventually(async () => {
      const found = await eventsOf('RT-FORCED', 'ReservationRejected');
      return found.length === ids.length && found;
    });
    for (const event of rejected) expect(dataOf(event)).toMatchObject({ reason: 'The unit has left the platform.' });
    expect(await eventsOf('RT-FORCED', 'UnitRetired')).toHaveLength(1);
    expect((await ops.send('PATCH', '/v1/units/RT-FORCED', { body: { displayName: 'x' } })).status).toBe(404);
  });

  test('leaves its name to a new unit, which has new credentials and no history of its own', async () => {
    const first = await register('RT-AGAIN', 'A', 'B');
    const old = first.body.credentials as Credentials;
    const changed = await ops.send('PATCH', '/v1/units/RT-AGAIN', { body: { displayName: 'The first life' } });
    const closed = await ops.post('/v1/units/RT-AGAIN/lockers/A/out-of-service', { reason: 'bent', when: 'now' });
    expect([changed.status, closed.status]).toEqual([200, 200]);
    const retired = await retire('RT-AGAIN', '?reason=moved');
    expect(retired.status).toBe(200);
    const second = await register('RT-AGAIN', 'A', 'C');
    const fresh = second.body.credentials as Credentials;
    expect(fresh.unitKey).not.toBe(old.unitKey);
    await expect(RawNats.connect(platform.nats.url, old.natsCreds)).rejects.toThrow('Authorization Violation');
    (await RawNats.connect(platform.nats.url, fresh.natsCreds)).close();
    const now = await getUnit('RT-AGAIN', second);
    expect(now.body).toMatchObject({
      status: 'registered',
      displayName: 'RT-AGAIN',
      state: 'never-seen',
      configuration: { version: 2 },
      lockerDetails: [
        { id: 'A', inService: true },
        { id: 'C', inService: true },
      ],
    });
    const alice = await newCustomer();
    const query = new URLSearchParams({ unit: 'RT-AGAIN', ...period(60, 60), minPosition: positionOf(second) });
    const free = items(await alice.getOnceShown(`/v1/availability?${query}`)).map(({ locker }) => locker);
    expect(free).toEqual(['A', 'C']);
    const past = await ops.getOnceShown(`/v1/units/RT-AGAIN/state?atPosition=${positionOf(closed)}`);
    expect(past.body).toMatchObject({
      status: 'registered',
      displayName: 'The first life',
      lockers: [
        { id: 'A', inService: false },
        { id: 'B', inService: true },
      ],
    });
    expect(await eventsOf('RT-AGAIN', 'UnitRegistered')).toHaveLength(2);
  });
});

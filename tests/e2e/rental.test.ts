/** Rentals by phone, end to end: reservations, doors, races, idempotency, and the events that record them. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { LOCKER_SIZES } from '../../domain/vocabulary.ts';
import { Client, items, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { type Free, fleet, freeAt, newCustomer, operator, stopFleet } from './fleet.ts';

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  platform = await fleet();
  ops = await operator();
}, 120_000);

afterAll(stopFleet);

function sim(path: string, body?: unknown) {
  return new Client(platform.sim).post(path, body);
}

async function holdOne(client: Client, unit: string, when = period(0, 60)) {
  // The availability comes from a read model, which may still list a locker that the previous test has reserved.
  for (const { locker } of await freeAt(client, unit, when)) {
    const answer = await client.post('/v1/reservations', { unit, locker, ...when });
    if (answer.status === 409) continue;
    expect(answer.status).toBe(201);
    return { id: text(answer, 'id'), locker, position: answer.headers.get('lockfleet-position') ?? '', answer };
  }
  throw new Error(`no locker is free at ${unit}`);
}

async function eventsOf(unit: string, type?: string): Promise<Record<string, unknown>[]> {
  const query = new URLSearchParams({ unit, limit: '200', ...(type === undefined ? {} : { type }) });
  return items(await ops.get(`/v1/events?${query}`));
}

describe('a rental from the phone', () => {
  test('is held, confirmed, opened, closed and ended, and each step appears in the read models and in the log', async () => {
    const alice = await newCustomer();
    const unit = 'PL-1000';
    const { id, locker, position, answer } = await holdOne(alice, unit);
    expect(answer.body).toMatchObject({ unit, locker, status: 'held', unitAck: 'pending' });

    const held = await alice.getOnceShown(`/v1/reservations/${id}?minPosition=${position}`);
    expect(held).toMatchObject({ status: 200, body: { id, status: 'held' } });

    const confirmed = await alice.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_1' });
    expect(confirmed).toMatchObject({ status: 200, body: { status: 'confirmed' } });
    expect(text(confirmed, 'accessCode')).toMatch(/^\d{6}$/);
    expect(text(confirmed, 'offlineToken').split('.')).toHaveLength(3);

    const opened = await alice.post(`/v1/reservations/${id}/open`);
    expect(opened).toMatchObject({ status: 200, body: { result: 'opened' } });
    const door = await new Client(platform.sim).get(`/units/${unit}`);
    expect((door.body.lockers as { id: string; door: string }[]).find((one) => one.id === locker)?.door).toBe('open');

    // The door event comes from the unit, and its cause is the command in the log.
    const [requested] = await eventually(async () => {
      const found = await eventsOf(unit, 'LockerOpenRequested');
      return found.length > 0 && found;
    });
    const { commandId } = (requested?.data ?? {}) as { commandId?: string };
    await eventually(async () =>
      (await eventsOf(unit, 'LockerOpened')).some(
        ({ subject, causationid, unitseq }) =>
          subject === `${unit}/${locker}` && causationid === commandId && unitseq !== undefined,
      ),
    );

    // The locker cannot be given back while its door is open.
    await eventually(async () => (await alice.post(`/v1/reservations/${id}/end`)).status === 409);
    expect((await sim(`/units/${unit}/lockers/${locker}/close`)).status).toBeLessThan(300);
    const ended = await eventually(async () => {
      const end = await alice.post(`/v1/reservations/${id}/end`);
      return end.status === 200 && end;
    });
    expect(ended.body).toMatchObject({ status: 'completed' });

    const types = await eventually(async () => {
      const found = (await eventsOf(unit)).map(({ type }) => type);
      return found.includes('ReservationCompleted') && found.includes('RentalEnded') && found;
    });
    const inOrder = [
      'ReservationHeld',
      'PaymentSucceeded',
      'ReservationConfirmed',
      'LockerOpenRequested',
      'LockerOpenAnswered',
      'ReservationStarted',
    ];
    for (const type of [...inOrder, 'ReservationCompleted', 'RentalStarted', 'LockerClosed'])
      expect(types).toContain(type);
    const own = items(await alice.get('/v1/reservations'));
    expect(own).toHaveLength(1);
    expect(own[0]).toMatchObject({ id, status: 'completed' });
  });

  test('a customer with the token redeems at the screen, and the reservation becomes active', async () => {
    const bob = await newCustomer();
    const { id } = await holdOne(bob, 'PL-1001');
    const confirmed = await bob.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_2' });
    const redeemed = await sim('/units/PL-1001/redeem', { token: text(confirmed, 'offlineToken') });
    expect(redeemed.status).toBeLessThan(300);
    await eventually(async () => (await bob.get(`/v1/reservations/${id}`)).body.status === 'active');
  });

  test('a customer types the access code at the screen, and the reservation becomes active', async () => {
    const [bob, unit] = [await newCustomer(), 'PL-1002'];
    const { id, locker } = await holdOne(bob, unit);
    const confirmed = await bob.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_4' });
    await eventually(async () => (await bob.get(`/v1/reservations/${id}`)).body.unitAck === 'accepted');
    const typed = await sim(`/units/${unit}/type-code`, { code: text(confirmed, 'accessCode') });
    expect(typed).toMatchObject({ status: 200, body: { locker, reservationId: id } });
    await eventually(async () => (await bob.get(`/v1/reservations/${id}`)).body.status === 'active');
  });

  test('the platform sends a confirmed reservation to the unit, and the unit accepts it', async () => {
    const carol = await newCustomer();
    const { id } = await holdOne(carol, 'PL-1001', period(600, 60));
    await carol.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_3' });
    await eventually(async () => (await carol.get(`/v1/reservations/${id}`)).body.unitAck === 'accepted');
  });

  test('a locker that is rented at the screen is no longer available', async () => {
    const dave = await newCustomer();
    const rented = await sim('/units/PL-1002/walk-up', { minutes: 60 });
    const locker = text(rented, 'locker');
    await eventually(async () =>
      (await freeAt(dave, 'PL-1002', period(0, 30))).every((free) => free.locker !== locker),
    );
    const refused = await dave.post('/v1/reservations', { unit: 'PL-1002', locker, ...period(0, 30) });
    expect(refused).toMatchObject({ status: 409, body: { type: '/problems/no-locker-free' } });
  });

  test('a walk-up rental of a reserved locker moves the reservation to another locker', async () => {
    const erin = await newCustomer();
    const when = period(30, 60);
    // The smallest free locker, because the reservation can move from it to any other free locker.
    const free = await freeAt(erin, 'PL-1003', when);
    const [smallest, ...others] = free.toSorted((a, b) => LOCKER_SIZES.indexOf(a.size) - LOCKER_SIZES.indexOf(b.size));
    if (smallest === undefined || others.length === 0) throw new Error('too little is free at PL-1003');
    const { locker } = smallest;
    const id = text(await erin.post('/v1/reservations', { unit: 'PL-1003', locker, ...when }), 'id');
    const rented = await sim('/units/PL-1003/walk-up', { locker, minutes: 60 });
    expect(rented.status).toBeLessThan(300);
    const moved = await eventually(async () => {
      const now = await erin.get(`/v1/reservations/${id}`);
      return now.status === 200 && now.body.locker !== locker && now;
    });
    expect(moved.body).toMatchObject({ status: 'held' });
    const conflicts = await eventually(async () => {
      const found = await eventsOf('PL-1003', 'ReservationConflictDetected');
      return found.length > 0 && found;
    });
    expect(conflicts[0]?.data).toMatchObject({ reservationId: id, locker, resolution: 'moved' });
  });

  test('opening a locker of an offline unit answers 503 unit-offline, and the door stays closed', async () => {
    const frank = await newCustomer();
    const { id, locker } = await holdOne(frank, 'PL-1002');
    await frank.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_4' });
    const cancelled = await holdOne(frank, 'PL-1002');
    await frank.post(`/v1/reservations/${cancelled.id}/confirm`, { paymentReference: 'pay_4a' });
    const openCancelled = () =>
      frank.post(`/v1/reservations/${cancelled.id}/open`, undefined, { 'idempotency-key': cancelled.id });
    await sim('/units/PL-1002/faults', { offline: true });
    expect((await openCancelled()).status).toBe(503);
    expect((await frank.post(`/v1/reservations/${cancelled.id}/cancel`)).status).toBe(200);
    const refused = await frank.post(`/v1/reservations/${id}/open`);
    expect(refused).toMatchObject({ status: 503, body: { type: '/problems/unit-offline' } });
    expect(refused.headers.get('retry-after')).not.toBeNull();
    const doorOf = async (id: string) => {
      const unit = await new Client(platform.sim).get('/units/PL-1002');
      return (unit.body.lockers as { id: string; door: string }[]).find((one) => one.id === id)?.door;
    };
    expect(await doorOf(locker)).toBe('closed');
    await eventually(async () => (await ops.get('/v1/units/PL-1002')).body.state === 'offline', { timeoutMs: 60_000 });
    await sim('/units/PL-1002/faults', { offline: false });
    await eventually(async () => (await ops.get('/v1/units/PL-1002')).body.state === 'online', { timeoutMs: 60_000 });
    expect((await frank.post(`/v1/reservations/${id}/open`)).status).toBe(200);
    // A repeat with the key of the open that failed is decided anew: the reservation was cancelled meanwhile.
    expect(await openCancelled()).toMatchObject({ status: 409, body: { type: '/problems/reservation-state' } });
    expect(await doorOf(cancelled.locker)).toBe('closed');
  });

  test('a jammed door moves the reservation to a locker that opens; when all are jammed, opening answers 409', async () => {
    const unit = 'PL-1001';
    const gina = await newCustomer();
    const { id, locker } = await holdOne(gina, unit);
    await gina.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_5' });
    await sim(`/units/${unit}/faults`, { jammed: [locker] });
    const opened = await gina.post(`/v1/reservations/${id}/open`);
    expect(opened).toMatchObject({ status: 200, body: { result: 'opened', movedFrom: locker } });
    expect(opened.body.locker).not.toBe(locker);

    const shown = await new Client(platform.sim).get(`/units/${unit}`);
    const lockers = (shown.body.lockers as { id: string }[]).map((each) => each.id);
    const next = await holdOne(gina, unit);
    await gina.post(`/v1/reservations/${next.id}/confirm`, { paymentReference: 'pay_5b' });
    await sim(`/units/${unit}/faults`, { jammed: lockers });
    expect(await gina.post(`/v1/reservations/${next.id}/open`)).toMatchObject({
      status: 409,
      body: { type: '/problems/unit-rejected' },
    });
    await sim(`/units/${unit}/faults`, { jammed: [] });
  });

  test('a customer who is late makes the next one move within two seconds, who then opens the other locker', async () => {
    const unit = 'PL-1003';
    const current = await ops.get(`/v1/units/${unit}/config`);
    const { values } = current.body.desired as { values: Record<string, unknown> };
    const applied = await ops.send('PUT', `/v1/units/${unit}/config`, {
      body: { mode: 'live', values: { ...values, minimumMinutes: 1 } },
    });
    expect(applied.status).toBe(200);

    const late = await newCustomer();
    const startMs = Date.now() - 55_000;
    const endMs = startMs + 60_000;
    const minute = { from: new Date(startMs).toISOString(), until: new Date(endMs).toISOString() };
    await eventually(async () => (await freeAt(late, unit, minute)).length > 1);
    const first = await holdOne(late, unit, minute);
    await late.post(`/v1/reservations/${first.id}/confirm`, { paymentReference: 'pay_7' });
    expect((await late.post(`/v1/reservations/${first.id}/open`)).status).toBe(200);

    const next = await newCustomer();
    const when = { from: new Date(endMs).toISOString(), until: new Date(endMs + 3_600_000).toISOString() };
    const held = await next.post('/v1/reservations', { unit, locker: first.locker, ...when });
    expect(held.status).toBe(201);
    const id = text(held, 'id');
    await next.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_8' });

    const move = await eventually(
      async () =>
        (await eventsOf(unit, 'ReservationMoved')).find(
          ({ data }) => (data as { reservationId: string }).reservationId === id,
        ) ?? false,
      { timeoutMs: 30_000 },
    );
    expect(Date.parse(String(move.time))).toBeGreaterThanOrEqual(endMs);
    const opened = await next.post(`/v1/reservations/${id}/open`);
    expect(opened).toMatchObject({ status: 200, body: { result: 'opened', movedFrom: null } });
    expect(opened.body.locker).not.toBe(first.locker);
  });
});

describe('an action that the state of the reservation does not allow', () => {
  test('a second confirm, an open before the period, a cancel after the end: 409 with the reason', async () => {
    const hugo = await newCustomer();
    const { id } = await holdOne(hugo, 'PL-1000', period(120, 60));
    const confirm = () => hugo.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_6' });
    expect((await confirm()).status).toBe(200);
    expect(await confirm()).toMatchObject({ status: 409, body: { type: '/problems/reservation-state' } });
    expect(await hugo.post(`/v1/reservations/${id}/open`)).toMatchObject({
      status: 409,
      body: { type: '/problems/not-yet' },
    });
    expect((await hugo.post(`/v1/reservations/${id}/cancel`)).status).toBe(200);
    const again = await hugo.post(`/v1/reservations/${id}/cancel`);
    expect(again).toMatchObject({ status: 409, body: { type: '/problems/reservation-state' } });
    expect(text(again, 'detail')).toContain('cancelled');
    expect((await hugo.post(`/v1/reservations/${id}/end`)).status).toBe(409);
  });

  test('a customer gets 404 for the reservation of another customer', async () => {
    const [ivy, jack] = [await newCustomer(), await newCustomer()];
    const { id, position } = await holdOne(ivy, 'PL-1000', period(300, 60));
    expect((await jack.getOnceShown(`/v1/reservations/${id}?minPosition=${position}`)).status).toBe(404);
    for (const action of ['cancel', 'open', 'end']) {
      expect((await jack.post(`/v1/reservations/${id}/${action}`)).status).toBe(404);
    }
    expect((await jack.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'x' })).status).toBe(404);
  });
});

describe('concurrent reservations', () => {
  test('of 200 customers who reserve one locker at once, exactly one gets it', async () => {
    const clients = await Promise.all(Array.from({ length: 200 }, newCustomer));
    const when = period(24 * 60, 60);
    const [free] = await freeAt(clients[0] ?? ops, 'PL-1002', when);
    const wish = { unit: 'PL-1002', locker: free?.locker, ...when };
    const answers = await Promise.all(clients.map((client) => client.post('/v1/reservations', wish)));
    const won = answers.filter(({ status }) => status === 201);
    expect(won).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(199);
    const position = won[0]?.headers.get('lockfleet-position');
    const log = items(await ops.getOnceShown(`/v1/events?unit=PL-1002&type=ReservationHeld&minPosition=${position}`));
    const sameTime = log.filter(({ data }) => (data as { from: string; locker: string }).from === when.from);
    expect(sameTime).toHaveLength(1);
  });
});

describe('idempotency', () => {
  test('the same key and body get the same answer; another body is refused', async () => {
    const kim = await newCustomer();
    const when = period(48 * 60, 60);
    const wish = { unit: 'PL-1003', size: (await freeAt(kim, 'PL-1003', when))[0]?.size, ...when };
    const key = { 'idempotency-key': `key-${crypto.randomUUID()}` };
    const first = await kim.post('/v1/reservations', wish, key);
    const again = await kim.post('/v1/reservations', wish, key);
    expect(first.status).toBe(201);
    expect(again).toMatchObject({ status: 201, body: first.body });
    expect(again.headers.get('lockfleet-position')).toBe(first.headers.get('lockfleet-position'));
    const other = await kim.post('/v1/reservations', { ...wish, ...period(72 * 60, 60) }, key);
    expect(other).toMatchObject({ status: 422, body: { type: '/problems/idempotency-key-reused' } });
    const leo = await newCustomer();
    expect((await leo.post('/v1/reservations', wish, key)).body.id).not.toBe(first.body.id);
  });

  test('a repeat of a refused request with the same key gets the same refusal', async () => {
    const mia = await newCustomer();
    const { id } = await holdOne(mia, 'PL-1003', period(96 * 60, 60));
    const key = { 'idempotency-key': 'open-too-early' };
    const first = await mia.post(`/v1/reservations/${id}/end`, undefined, key);
    const again = await mia.post(`/v1/reservations/${id}/end`, undefined, key);
    expect(first.status).toBe(409);
    expect(again).toMatchObject({ status: 409, body: first.body });
    expect(again.headers.get('content-type')).toContain('application/problem+json');
  });
});

describe('a hold', () => {
  let short: Platform;

  beforeAll(async () => {
    short = await startPlatform({ purpose: 'holds', units: 1, env: { HOLD_TTL_S: '10' } });
  }, 120_000);

  afterAll(() => short.stop());

  test('that is not confirmed expires, and its locker is free again', async () => {
    const nina = new Client(short.api, await short.token('customer', 'nina'));
    const operator = new Client(short.api, await short.token('ops', 'operator'));
    const when = period(60, 60);
    const query = new URLSearchParams({ unit: 'PL-1000', ...when });
    const free = items(await nina.get(`/v1/availability?${query}`)) as unknown as Free[];
    const held = await nina.post('/v1/reservations', { unit: 'PL-1000', locker: free[0]?.locker, ...when });
    expect(held.status).toBe(201);
    const id = text(held, 'id');

    // The server is down when the hold runs out. No process has its time in memory, so the next server finds it in the read model.
    await short.server.kill();
    const expiresInMs = Date.parse(text(held, 'holdExpiresAt')) - Date.now();
    await Bun.sleep(expiresInMs + 500);
    short.server.start();
    await eventually(async () => (await nina.get(`/v1/reservations/${id}`)).body.status === 'expired', {
      timeoutMs: 90_000,
    });
    const [expired] = items(await operator.get('/v1/events?type=ReservationExpired'));
    expect(expired?.data).toMatchObject({ reservationId: id, reason: 'hold' });
    const late = await nina.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'late' });
    expect(late).toMatchObject({ status: 409, body: { type: '/problems/reservation-state' } });
  }, 120_000);
});

/** The main job, end to end: a phone rents a locker, and everything that happened stands in the log. */

import { beforeAll, describe, expect, test } from 'bun:test';
import { Client, fields, items, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { type Platform, startPlatform } from '../support/platform.ts';

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  platform = await startPlatform({
    purpose: 'rental',
    units: 4,
    env: { PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '500' },
  });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
}, 60_000);

let customers = 0;
async function customer(): Promise<Client> {
  customers += 1;
  return new Client(platform.api, await platform.token('customer', `customer-${customers}`));
}

function sim(path: string, body?: unknown) {
  return new Client(platform.sim).post(path, body);
}

interface Free {
  readonly locker: string;
  readonly size: string;
}

async function freeAt(client: Client, unit: string, when: { from: string; until: string }): Promise<Free[]> {
  const query = new URLSearchParams({ unit, ...when });
  return items(await client.get(`/v1/availability?${query}`)) as unknown as Free[];
}

async function holdOne(client: Client, unit: string, when = period(0, 60)) {
  const [free] = await freeAt(client, unit, when);
  if (free === undefined) throw new Error(`nothing is free at ${unit}`);
  const answer = await client.post('/v1/reservations', { unit, locker: free.locker, ...when });
  expect(answer.status).toBe(201);
  return {
    id: text(answer, 'id'),
    locker: free.locker,
    position: answer.headers.get('lockfleet-position') ?? '',
    answer,
  };
}

async function eventsOf(unit: string, type?: string): Promise<Record<string, unknown>[]> {
  const query = new URLSearchParams({ unit, limit: '200', ...(type === undefined ? {} : { type }) });
  return items(await ops.get(`/v1/events?${query}`));
}

describe('a rental from the phone', () => {
  test('hold, confirm, open, close, end: each shows in the read models and in the log', async () => {
    const alice = await customer();
    const unit = 'PL-1000';
    const { id, locker, position, answer } = await holdOne(alice, unit);
    expect(answer.body).toMatchObject({ unit, locker, status: 'held', unitAck: 'pending' });

    const held = await alice.get(`/v1/reservations/${id}?minPosition=${position}`);
    expect(held).toMatchObject({ status: 200, body: { id, status: 'held' } });

    const confirmed = await alice.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_1' });
    expect(confirmed).toMatchObject({ status: 200, body: { status: 'confirmed' } });
    expect(text(confirmed, 'accessCode')).toMatch(/^\d{6}$/);
    expect(text(confirmed, 'offlineToken').split('.')).toHaveLength(3);

    const opened = await alice.post(`/v1/reservations/${id}/open`);
    expect(opened).toMatchObject({ status: 200, body: { result: 'opened' } });
    const door = await new Client(platform.sim).get(`/units/${unit}`);
    expect((door.body.lockers as { id: string; door: string }[]).find((one) => one.id === locker)?.door).toBe('open');

    // The door event comes from the unit, caused by the command that stands in the log.
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

    // While the door stands open the locker cannot be given back.
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
      'ReservationStarted',
    ];
    for (const type of [...inOrder, 'ReservationCompleted', 'RentalStarted', 'LockerClosed'])
      expect(types).toContain(type);
    const own = items(await alice.get('/v1/reservations'));
    expect(own).toHaveLength(1);
    expect(own[0]).toMatchObject({ id, status: 'completed' });
  });

  test('a customer with the token redeems at the screen, and the reservation becomes active', async () => {
    const bob = await customer();
    const { id } = await holdOne(bob, 'PL-1001');
    const confirmed = await bob.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_2' });
    const redeemed = await sim('/units/PL-1001/redeem', { token: text(confirmed, 'offlineToken') });
    expect(redeemed.status).toBeLessThan(300);
    await eventually(async () => (await bob.get(`/v1/reservations/${id}`)).body.status === 'active');
  });

  test('the unit hears of a confirmed reservation and accepts it', async () => {
    const carol = await customer();
    const { id } = await holdOne(carol, 'PL-1001', period(600, 60));
    await carol.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_3' });
    await eventually(async () => (await carol.get(`/v1/reservations/${id}`)).body.unitAck === 'accepted');
  });

  test('a walk-up rental takes its locker from what is free', async () => {
    const dave = await customer();
    const rented = await sim('/units/PL-1002/walk-up', { minutes: 60 });
    const locker = text(rented, 'locker');
    await eventually(async () =>
      (await freeAt(dave, 'PL-1002', period(0, 30))).every((free) => free.locker !== locker),
    );
    const refused = await dave.post('/v1/reservations', { unit: 'PL-1002', locker, ...period(0, 30) });
    expect(refused).toMatchObject({ status: 409, body: { type: '/problems/no-locker-free' } });
  });

  test('a walk-up rental that takes a reserved locker moves the reservation: the unit is right', async () => {
    const erin = await customer();
    const { id, locker } = await holdOne(erin, 'PL-1003', period(30, 60));
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

  test('a unit that is cut off answers 503 unit-offline, and the door stays closed', async () => {
    const frank = await customer();
    const { id, locker } = await holdOne(frank, 'PL-1002');
    await frank.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_4' });
    await sim('/units/PL-1002/faults', { offline: true });
    const refused = await frank.post(`/v1/reservations/${id}/open`);
    expect(refused).toMatchObject({ status: 503, body: { type: '/problems/unit-offline' } });
    expect(refused.headers.get('retry-after')).not.toBeNull();
    const unit = await new Client(platform.sim).get('/units/PL-1002');
    expect((unit.body.lockers as { id: string; door: string }[]).find((one) => one.id === locker)?.door).toBe('closed');
    await eventually(async () => (await ops.get('/v1/units/PL-1002')).body.state === 'offline', { timeoutMs: 15_000 });
    await sim('/units/PL-1002/faults', { offline: false });
    await eventually(async () => (await ops.get('/v1/units/PL-1002')).body.state === 'online', { timeoutMs: 15_000 });
    expect((await frank.post(`/v1/reservations/${id}/open`)).status).toBe(200);
  });

  test('a jammed door is the unit’s no', async () => {
    const gina = await customer();
    const { id, locker } = await holdOne(gina, 'PL-1001');
    await gina.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_5' });
    await sim('/units/PL-1001/faults', { jammed: [locker] });
    expect(await gina.post(`/v1/reservations/${id}/open`)).toMatchObject({
      status: 409,
      body: { type: '/problems/unit-rejected' },
    });
    await sim('/units/PL-1001/faults', { jammed: [] });
  });
});

describe('states that do not allow it', () => {
  test('a second confirm, an open before the period, a cancel after the end: 409 with the reason', async () => {
    const hugo = await customer();
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

  test('others’ reservations do not exist', async () => {
    const [ivy, jack] = [await customer(), await customer()];
    const { id, position } = await holdOne(ivy, 'PL-1000', period(300, 60));
    expect((await jack.get(`/v1/reservations/${id}?minPosition=${position}`)).status).toBe(404);
    for (const action of ['cancel', 'open', 'end']) {
      expect((await jack.post(`/v1/reservations/${id}/${action}`)).status).toBe(404);
    }
    expect((await jack.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'x' })).status).toBe(404);
  });
});

describe('races', () => {
  test('of 200 customers who want one locker, one has it', async () => {
    const clients = await Promise.all(Array.from({ length: 200 }, customer));
    const when = period(24 * 60, 60);
    const [free] = await freeAt(clients[0] ?? ops, 'PL-1002', when);
    const wish = { unit: 'PL-1002', locker: free?.locker, ...when };
    const answers = await Promise.all(clients.map((client) => client.post('/v1/reservations', wish)));
    const won = answers.filter(({ status }) => status === 201);
    expect(won).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(199);
    const position = won[0]?.headers.get('lockfleet-position');
    const log = items(await ops.get(`/v1/events?unit=PL-1002&type=ReservationHeld&minPosition=${position}`));
    const sameTime = log.filter(({ data }) => (data as { from: string; locker: string }).from === when.from);
    expect(sameTime).toHaveLength(1);
  });
});

describe('idempotency', () => {
  test('the same key and body get the same answer; another body is refused', async () => {
    const kim = await customer();
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
    const leo = await customer();
    expect((await leo.post('/v1/reservations', wish, key)).body.id).not.toBe(first.body.id);
  });

  test('a refusal is answered again, too', async () => {
    const mia = await customer();
    const { id } = await holdOne(mia, 'PL-1003', period(96 * 60, 60));
    const key = { 'idempotency-key': 'open-too-early' };
    const first = await mia.post(`/v1/reservations/${id}/end`, undefined, key);
    const again = await mia.post(`/v1/reservations/${id}/end`, undefined, key);
    expect(first.status).toBe(409);
    expect(again).toMatchObject({ status: 409, body: first.body });
    expect(again.headers.get('content-type')).toContain('application/problem+json');
  });
});

describe('holds end', () => {
  test('a hold that is not confirmed expires by itself, and its locker is free again', async () => {
    const short = await startPlatform({ purpose: 'holds', units: 1, env: { HOLD_TTL_S: '10' } });
    const nina = new Client(short.api, await short.token('customer', 'nina'));
    const operator = new Client(short.api, await short.token('ops', 'operator'));
    const when = period(60, 60);
    const query = new URLSearchParams({ unit: 'PL-1000', ...when });
    const free = items(await nina.get(`/v1/availability?${query}`)) as unknown as Free[];
    const held = await nina.post('/v1/reservations', { unit: 'PL-1000', locker: free[0]?.locker, ...when });
    expect(held.status).toBe(201);
    const id = text(held, 'id');

    // The reactor is away when the hold runs out: the expiry is recorded when it is back.
    await short.server.kill();
    const expiresInMs = Date.parse(text(held, 'holdExpiresAt')) - Date.now();
    await Bun.sleep(expiresInMs + 500);
    short.server.start();
    await eventually(async () => (await nina.get(`/v1/reservations/${id}`)).body.status === 'expired', {
      timeoutMs: 20_000,
    });
    const [expired] = items(await operator.get('/v1/events?type=ReservationExpired'));
    expect(expired?.data).toMatchObject({ reservationId: id, reason: 'hold' });
    const late = await nina.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'late' });
    expect(late).toMatchObject({ status: 409, body: { type: '/problems/reservation-state' } });
  }, 90_000);
});

describe('bad input is named and nothing is recorded', () => {
  const valid = { unit: 'PL-1000', size: 'M', ...period(10_000, 60) };
  const cases: [string, unknown, number, string][] = [
    ['an unknown field', { ...valid, colour: 'red' }, 422, '/colour'],
    ['a wrong type', { ...valid, size: 7 }, 422, '/size'],
    ['an unknown size', { ...valid, size: 'XXL' }, 422, '/size'],
    ['a missing field', { size: 'M', ...period(10_000, 60) }, 422, '/unit'],
    ['a period that ends before it starts', { ...valid, until: valid.from }, 422, '/until'],
    ['a period in the past', { ...valid, ...period(-120, 60) }, 422, '/from'],
    ['a period that is too short', { ...valid, ...period(10_000, 1) }, 422, '/until'],
    ['a time that is none', { ...valid, from: 'tomorrow' }, 422, '/from'],
    ['an unknown locker', { unit: 'PL-1000', locker: 'ZZ', ...period(10_000, 60) }, 422, '/locker'],
    ['size and locker at once', { ...valid, locker: 'A' }, 422, '/locker'],
    ['neither size nor locker', { unit: 'PL-1000', ...period(10_000, 60) }, 422, '/size'],
  ];

  test.each(cases)('%s', async (_name, body, status, field) => {
    const before = (await ops.get('/v1/events?limit=1&type=ReservationHeld&count=true')).body.total;
    const answer = await (await customer()).post('/v1/reservations', body);
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    expect(answer.body.type).toBe('/problems/validation');
    expect(fields(answer)).toContain(field);
    expect((await ops.get('/v1/events?limit=1&type=ReservationHeld&count=true')).body.total).toBe(before);
  });

  test('an unknown unit is not found', async () => {
    const answer = await (await customer()).post('/v1/reservations', { ...valid, unit: 'NO-SUCH' });
    expect(answer).toMatchObject({ status: 404, body: { type: '/problems/not-found' } });
  });

  test('an oversized body, invalid UTF-8, broken JSON and another content type', async () => {
    const client = await customer();
    const send = (body: string | Uint8Array, contentType = 'application/json') =>
      client.send('POST', '/v1/reservations', { raw: { body, contentType } });
    expect(await send(`"${'x'.repeat(300_000)}"`)).toMatchObject({
      status: 413,
      body: { type: '/problems/validation' },
    });
    expect(await send(new Uint8Array([123, 34, 0xff, 0xfe, 34, 125]))).toMatchObject({ status: 400 });
    expect(await send('{"unit":')).toMatchObject({ status: 400, body: { type: '/problems/validation' } });
    expect(await send(JSON.stringify(valid), 'text/plain')).toMatchObject({ status: 415 });
  });

  test('a token that is missing, unsigned, foreign, expired or of the other role', async () => {
    const { signToken } = await import('../../platform/auth/tokens.ts');
    const secret = 'a secret that is not the platform’s own one at all';
    const foreign = await signToken({ secret, sub: 'eve', role: 'customer', ttlS: 60, nowMs: Date.now() });
    const expired = await platform.expiredToken('customer', 'eve');
    const unsigned = `${btoa('{"alg":"none"}')}.${btoa('{"sub":"eve","role":"ops","exp":9999999999}')}.`;
    for (const token of [
      undefined,
      'Bearer',
      'Basic abc',
      `Bearer ${foreign}`,
      expired,
      `Bearer ${unsigned}`,
      'Bearer x.y.z',
    ]) {
      const answer = await new Client(platform.api, token).post('/v1/reservations', valid);
      expect(answer).toMatchObject({ status: 401, body: { type: '/problems/unauthenticated' } });
      expect(answer.headers.get('www-authenticate')).toBe('Bearer');
    }
    expect(await (await customer()).get('/v1/events')).toMatchObject({
      status: 403,
      body: { type: '/problems/forbidden' },
    });
    expect(await ops.get('/v1/reservations')).toMatchObject({ status: 403 });
  });

  test('lists: a foreign cursor, a limit out of bounds, an unknown filter', async () => {
    expect(fields(await ops.get('/v1/events?cursor=nonsense'))).toEqual(['/query/cursor']);
    expect(fields(await ops.get('/v1/units?limit=100000'))).toEqual(['/query/limit']);
    expect(fields(await ops.get('/v1/units?colour=red'))).toEqual(['/query/colour']);
    expect(await ops.get('/v1/nothing')).toMatchObject({ status: 404, body: { type: '/problems/not-found' } });
    expect(await ops.get('/v1/units/NO-SUCH')).toMatchObject({ status: 404 });
  });

  test('a position that is not reached yet is 503 with Retry-After', async () => {
    const answer = await ops.get('/v1/events?minPosition=999999999');
    expect(answer).toMatchObject({ status: 503, body: { type: '/problems/unavailable' } });
    expect(answer.headers.get('retry-after')).not.toBeNull();
  });
});

describe('operators', () => {
  test('register, import and list units; names are for ever', async () => {
    const unit = (name: string) => ({
      name,
      address: '127.0.0.1:9',
      probe: 'http',
      delivery: 'push',
      commandChannel: 'http',
      location: { lat: 52.5, lon: 13.4 },
      timeZone: 'Europe/Berlin',
      lockers: [{ id: 'A', size: 'M' }],
    });
    const registered = await ops.post('/v1/units', unit('OPS-1'), { 'idempotency-key': 'register-ops-1' });
    expect(registered.status).toBe(201);
    expect(registered.body.credentials).toMatchObject({
      natsInboxPrefix: expect.any(String),
      unitKey: expect.any(String),
    });
    const repeated = await ops.post('/v1/units', unit('OPS-1'), { 'idempotency-key': 'register-ops-1' });
    expect(repeated).toMatchObject({ status: 201, body: { name: 'OPS-1' } });
    expect(repeated.body.credentials).toBeUndefined();
    expect(fields(await ops.post('/v1/units', unit('OPS-1')))).toEqual(['/name']);
    expect(fields(await ops.post('/v1/units', { ...unit('OPS-2'), timeZone: 'Mars/Base' }))).toEqual(['/timeZone']);
    expect(fields(await ops.post('/v1/units', { ...unit('OPS-2'), address: 'nowhere' }))).toEqual(['/address']);

    const lines = [
      JSON.stringify(unit('OPS-3')),
      '{"broken',
      JSON.stringify({ ...unit('OPS-4'), probe: 'smoke' }),
      JSON.stringify(unit('OPS-5')),
    ];
    const imported = await fetch(`${platform.api}/v1/units/import`, {
      method: 'POST',
      keepalive: false,
      headers: { authorization: await platform.token('ops', 'operator'), 'content-type': 'application/x-ndjson' },
      body: lines.join('\n'),
    });
    const answers = (await imported.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(answers).toHaveLength(4);
    expect(answers[0]).toMatchObject({ name: 'OPS-3', credentials: {} });
    expect(answers[1]).toMatchObject({ name: null, problem: { status: 400 } });
    expect(answers[2]).toMatchObject({ name: 'OPS-4', problem: { errors: [{ path: '/probe' }] } });
    expect(answers[3]).toMatchObject({ name: 'OPS-5', credentials: {} });

    const seen = await eventually(async () => {
      const list = await ops.get('/v1/units?q=ops-&count=true');
      return list.body.total === 3 && list;
    });
    expect(items(seen).map(({ name }) => name)).toEqual(['OPS-1', 'OPS-3', 'OPS-5']);
    expect(items(seen)[0]).toMatchObject({ lockers: 1, state: 'never-seen', backlog: 0 });
  });

  test('pages of every list join without loss or repeat', async () => {
    for (const sort of ['name', 'state', 'lastOnlineAt', 'lastResponseTimeMs']) {
      const whole = items(await ops.get(`/v1/units?limit=100&sort=${sort}`)).map(({ name }) => name);
      const paged: unknown[] = [];
      for (let cursor = ''; ; ) {
        const page = await ops.get(`/v1/units?limit=2&sort=${sort}${cursor === '' ? '' : `&cursor=${cursor}`}`);
        paged.push(...items(page).map(({ name }) => name));
        if (page.body.nextCursor === null) break;
        cursor = String(page.body.nextCursor);
      }
      expect(paged.toSorted()).toEqual(whole.toSorted());
      expect(new Set(paged).size).toBe(paged.length);
    }
  });

  test('an API key works until it is revoked', async () => {
    const made = await ops.post('/v1/api-keys', { name: 'export' });
    expect(made.status).toBe(201);
    const robot = new Client(platform.api, `Bearer ${text(made, 'key')}`);
    expect((await robot.get('/v1/units')).status).toBe(200);
    expect((await ops.send('DELETE', `/v1/api-keys/${text(made, 'id')}`)).status).toBe(204);
    expect((await robot.get('/v1/units')).status).toBe(401);
  });
});

describe('documentation', () => {
  test('every route has a summary, its answers and its errors; the page needs nothing from elsewhere', async () => {
    const document = (await new Client(platform.api).get('/swagger/json')).body as {
      paths: Record<
        string,
        Record<string, { summary?: string; responses?: Record<string, { content?: object }>; security?: unknown }>
      >;
    };
    const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, route]) => ({ name: `${method} ${path}`, route })),
    );
    expect(routes.length).toBeGreaterThan(15);
    for (const { name, route } of routes) {
      expect([name, route.summary === undefined]).toEqual([name, false]);
      const statuses = Object.keys(route.responses ?? {});
      expect([name, statuses.some((status) => status.startsWith('2'))]).toEqual([name, true]);
      if (route.security !== undefined)
        expect([name, statuses]).toEqual([name, expect.arrayContaining(['401', '403', '503'])]);
    }
    const page = await (await fetch(`${platform.api}/swagger`, { keepalive: false })).text();
    expect(page).not.toMatch(/(src|href)="https?:/);
    const script = await fetch(`${platform.api}/swagger/scalar.js`, { keepalive: false });
    expect(script.headers.get('content-type')).toContain('javascript');
    expect((await script.text()).length).toBeGreaterThan(100_000);
  });
});

/** A name that was retired and registered anew: the histories of the former and of the present unit stay apart. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { type Answer, type Client, items, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import type { RegistrationOverrides } from '../support/registration.ts';
import { registrationBody } from '../support/registration.ts';
import { ScriptableUnit } from '../support/scriptable-unit.ts';
import { fleet, newCustomer, operator, stopFleet } from './fleet.ts';

let ops: Client;

beforeAll(async () => {
  await fleet();
  ops = await operator();
}, 120_000);

afterAll(stopFleet);

const positionOf = ({ headers }: Answer) => headers.get('lockfleet-position') ?? '';
const retire = (name: string, query = '') => ops.send('DELETE', `/v1/units/${name}${query}`);

async function register(name: string, overrides: RegistrationOverrides = {}): Promise<Answer> {
  const lockers = [{ id: 'A', size: 'M' as const }];
  const body = registrationBody(name, { lockers, probe: 'nats', commandChannel: 'nats', ...overrides });
  const answer = await ops.post('/v1/units', body);
  expect(answer.status).toBe(201);
  return answer;
}

async function readAfter(client: Client, path: string, query: Record<string, string>, after: Answer): Promise<Answer> {
  return client.getOnceShown(`${path}?${new URLSearchParams({ ...query, minPosition: positionOf(after) })}`);
}

async function configure(name: string, minimumMinutes: number): Promise<Answer> {
  const { body } = await ops.get(`/v1/units/${name}/config`);
  const { values } = body.desired as { readonly values: object };
  const queued = { mode: 'queued', values: { ...values, minimumMinutes } };
  const changed = await ops.send('PUT', `/v1/units/${name}/config`, { body: queued });
  expect(changed.status).toBe(202);
  return changed;
}

describe('the configuration', () => {
  test('versions of the former unit are neither listed nor rolled back to, and stay in its past state', async () => {
    const path = '/v1/units/FU-CONFIG/config';
    const first = await register('FU-CONFIG');
    await readAfter(ops, '/v1/units/FU-CONFIG', {}, first);
    const changed = await configure('FU-CONFIG', 20);
    expect((await retire('FU-CONFIG')).status).toBe(200);
    const again = await register('FU-CONFIG');
    const versions = await readAfter(ops, `${path}/versions`, { count: 'true' }, again);
    expect(items(versions).map(({ version, changes }) => ({ version, changes }))).toEqual([
      { version: 3, changes: [] },
    ]);
    expect(versions.body.total).toBe(1);
    for (const version of [1, 2]) {
      expect((await ops.get(`${path}/versions/${version}`)).status).toBe(404);
      const back = await ops.post(`${path}/rollback`, { mode: 'queued', version });
      expect(back).toMatchObject({ status: 404, body: { type: '/problems/not-found' } });
    }
    const own = await configure('FU-CONFIG', 25);
    const both = await readAfter(ops, `${path}/versions`, { limit: '1' }, own);
    expect(items(both)).toMatchObject([{ version: 4, changes: [{ path: '/minimumMinutes' }] }]);
    const cursor = text(both, 'nextCursor');
    const rest = await ops.get(`${path}/versions?${new URLSearchParams({ cursor })}`);
    expect([items(rest).map(({ version }) => version), rest.body.nextCursor]).toEqual([[3], null]);
    const back = await ops.post(`${path}/rollback`, { mode: 'queued', version: 3 });
    expect(back).toMatchObject({ status: 202, body: { desired: { version: 5 } } });
    const former = await ops.getOnceShown(`/v1/units/FU-CONFIG/state?atPosition=${positionOf(changed)}`);
    expect(former.body).toMatchObject({ configuration: { desired: { version: 2, values: { minimumMinutes: 20 } } } });
  });

  test('attempts to deliver to the former unit are not listed', async () => {
    const unit = await ScriptableUnit.register(ops, 'FU-ATTEMPTS', { probe: 'http', commandChannel: 'http' });
    try {
      const attempts = () => ops.get('/v1/units/FU-ATTEMPTS/config/attempts');
      await eventually(async () => (await ops.get('/v1/units/FU-ATTEMPTS')).body.state === 'online');
      await configure('FU-ATTEMPTS', 20);
      // The unit answers 404 to a configuration.
      await eventually(async () => items(await attempts()).length > 0);
    } finally {
      await unit.stop();
    }
    expect((await retire('FU-ATTEMPTS', '?force=true')).status).toBe(200);
    const again = await register('FU-ATTEMPTS');
    expect(items(await readAfter(ops, '/v1/units/FU-ATTEMPTS/config/attempts', {}, again))).toEqual([]);
  });
});

test('reservations at the former unit are listed to their customers, and not as reservations of the present unit', async () => {
  const alice = await newCustomer();
  const hold = async (from: number) => {
    const held = await alice.post('/v1/reservations', { unit: 'FU-BOOKED', locker: 'A', ...period(from, 60) });
    expect(held.status).toBe(201);
    return text(held, 'id');
  };
  await register('FU-BOOKED');
  const former = await hold(60);
  expect((await retire('FU-BOOKED', '?force=true')).status).toBe(200);
  const again = await register('FU-BOOKED');
  const list = async (client: Client, query: Record<string, string>) =>
    readAfter(client, '/v1/reservations', query, again);
  const none = await list(ops, { unit: 'FU-BOOKED', count: 'true' });
  expect([items(none), none.body.total]).toEqual([[], 0]);
  const present = await hold(60);
  const idsOf = (answer: Answer) => items(answer).map(({ id }) => id);
  const listed = await eventually(async () => {
    const answer = await list(ops, { unit: 'FU-BOOKED' });
    return items(answer).length > 0 && answer;
  });
  expect(idsOf(listed)).toEqual([present]);
  const customer = String(items(listed)[0]?.customer);
  expect(idsOf(await list(ops, { unit: 'FU-BOOKED', customer }))).toEqual([present, former]);
  expect(idsOf(await list(alice, { unit: 'FU-BOOKED' }))).toEqual([present, former]);
  expect((await alice.get(`/v1/reservations/${former}`)).body).toMatchObject({ id: former, status: 'rejected' });
  const cancelled = await alice.post(`/v1/reservations/${former}/cancel`, {});
  expect(cancelled).toMatchObject({ status: 409, body: { type: '/problems/reservation-state' } });
});

test('the response times and the clock of the former unit are not shown of one that was never seen', async () => {
  const unit = await ScriptableUnit.register(ops, 'FU-TIMES', { probe: 'http' });
  try {
    await eventually(async () => typeof (await ops.get('/v1/units/FU-TIMES')).body.clockOffsetMs === 'number');
  } finally {
    await unit.stop();
  }
  expect((await retire('FU-TIMES', '?force=true')).status).toBe(200);
  const again = await register('FU-TIMES');
  expect((await readAfter(ops, '/v1/units/FU-TIMES', {}, again)).body).toMatchObject({
    state: 'never-seen',
    lastOnlineAt: null,
    lastResponseTimeMs: null,
    clockOffsetMs: null,
  });
});

test('a unit whose log is longer than pings have reported is retired only when its log is recorded', async () => {
  // Pings go over NATS, where this unit does not answer: only the unit itself knows that its log has grown.
  const unit = await ScriptableUnit.register(ops, 'FU-LOG', { probe: 'nats', commandChannel: 'http' });
  try {
    unit.events = [1, 2, 3].map((seq) => ({
      ...{ seq, v: 1, type: 'LockerOpened', locker: 'A', time: new Date().toISOString() },
      data: { cause: 'service' },
    }));
    const refused = await retire('FU-LOG');
    expect(refused).toMatchObject({
      status: 409,
      body: { type: '/problems/unit-in-use', inUse: { bookings: 0, rentals: [], backlog: 3 } },
    });
    await unit.pushRange(1, 2);
    const partly = await eventually(async () => {
      const answer = await retire('FU-LOG');
      return (answer.body.inUse as { readonly backlog: number } | undefined)?.backlog === 1 && answer;
    });
    expect(partly.status).toBe(409);
    await unit.pushRange(3, 3);
    await eventually(async () => (await retire('FU-LOG')).status === 200);
  } finally {
    await unit.stop();
  }
});

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { type Faults, NO_FAULTS } from '../../device-sim/faults/faults.ts';
import { findLocker } from '../../device-sim/unit/model.ts';
import type { UnitBatch } from '../../domain/unit-protocol/batch.ts';
import { call, type FieldPlatform, startFieldPlatform, startTestFleet, type TestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';

const SEED = 20;
const NAME = 'QE-1000';
const OTHER = 'QE-1001';

let platform: FieldPlatform;
let fleet: TestFleet;
let unit: EmulatedUnit;

beforeAll(async () => {
  platform = await startFieldPlatform();
  fleet = await startTestFleet(platform, { seed: SEED });
  unit = unitOf(NAME);
  await eventually(() => fleet.readiness().connected === 2);
});
afterAll(async () => {
  await fleet.stop();
  await platform.stop();
});

function unitOf(name: string): EmulatedUnit {
  const found = fleet.units.get(name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
}

async function ask(
  path: string,
  init: RequestInit = {},
): Promise<{ status: number; type: string | null; body: never }> {
  const response = await fetch(`${fleet.controlUrl}${path}`, init);
  return {
    status: response.status,
    type: response.headers.get('content-type'),
    body: (await response.json()) as never,
  };
}

function post(path: string, body?: object | string) {
  const text = typeof body === 'object' ? JSON.stringify(body) : body;
  return ask(path, { method: 'POST', ...(text === undefined ? {} : { body: text }) });
}

const faults = (change: object, name = NAME) => post(`/units/${name}/faults`, change);

describe('the control API', () => {
  test('lists the units, and shows the state of one', async () => {
    const { body } = await ask('/units');
    expect(body).toMatchObject([{ name: NAME }, { name: OTHER }]);
    const one = await ask(`/units/${NAME}`);
    const { epoch, lastSeq } = unit.model.log;
    expect(one.body).toEqual({
      name: NAME,
      address: unit.address,
      offline: false,
      faults: NO_FAULTS,
      configuration: unit.model.configuration,
      lockers: unit.model.lockers.map(({ id, size }) => ({ id, size, door: 'closed', occupiedBy: null })),
      log: { epoch, lastSeq, acknowledgedSeq: expect.any(Number), recordedSeq: 0 },
    } as never);
  });

  test('rents a locker at the screen, closes and opens it, and gives it back', async () => {
    const rented = await post(`/units/${NAME}/walk-up`, { minutes: 30 });
    expect(rented).toMatchObject({ status: 200, body: { locker: 'A', price: { currency: 'EUR' } } });
    expect(await post(`/units/${NAME}/walk-up`, { locker: 'A', minutes: 30 })).toMatchObject({
      status: 409,
      type: 'application/problem+json',
      body: { type: '/problems/unit-rejected', status: 409, reason: 'occupied' },
    });
    expect(await post(`/units/${NAME}/lockers/A/give-back`)).toMatchObject({
      status: 409,
      body: { reason: 'door-open' },
    });
    expect((await post(`/units/${NAME}/lockers/A/close`)).body).toEqual({ locker: 'A' } as never);
    expect((await post(`/units/${NAME}/lockers/A/open`, {})).status).toBe(200);
    expect((await post(`/units/${NAME}/lockers/A/close`)).status).toBe(200);
    expect((await post(`/units/${NAME}/lockers/A/give-back`)).status).toBe(200);
    expect((await ask(`/units/${NAME}`)).body).toMatchObject({
      lockers: [{ id: 'A', door: 'closed', occupiedBy: null }, {}, {}],
    });
  });

  test('opens the locker of a QR code, and refuses one of another unit or without a valid signature', async () => {
    const claims = {
      aud: NAME,
      sub: `${NAME}.r1`,
      locker: 'B',
      from: '2026-01-01T00:00:00Z',
      until: '2099-01-01T00:00:00Z',
      asOf: 1,
    };
    const token = await platform.signer.offlineToken(claims);
    expect(await post(`/units/${NAME}/redeem`, { token })).toMatchObject({ status: 200, body: { locker: 'B' } });
    expect((await ask(`/units/${NAME}`)).body).toMatchObject({
      lockers: [{}, { id: 'B', occupiedBy: `${NAME}.r1` }, {}],
    });
    expect(await post(`/units/${OTHER}/redeem`, { token })).toMatchObject({
      status: 409,
      body: { reason: 'signature' },
    });
    expect(await post(`/units/${NAME}/redeem`, { token: 'nonsense' })).toMatchObject({
      status: 409,
      body: { reason: 'signature' },
    });
  });

  test('reboots and wipes', async () => {
    const { epoch, lastSeq } = unitOf(OTHER).model.log;
    expect((await post(`/units/${OTHER}/reboot`)).status).toBe(200);
    expect(unitOf(OTHER).model.log).toMatchObject({ epoch, lastSeq: lastSeq + 1 });
    const wiped = await post(`/units/${OTHER}/wipe`);
    expect(wiped.status).toBe(200);
    expect(unitOf(OTHER).model.log).toMatchObject({ lastSeq: 1 });
    expect(unitOf(OTHER).model.log.epoch).not.toBe(epoch);
  });

  const missing = [
    ['GET', '/nowhere'],
    ['GET', '/units/XX-1'],
    ['POST', '/units'],
    ['POST', `/units/${NAME}/explode`],
    ['GET', `/units/${NAME}/wipe`],
    ['POST', `/units/${NAME}/lockers/Z/open`],
    ['POST', `/units/${NAME}/lockers/A/burn`],
    ['POST', `/units/${NAME}/lockers/A/open/wide`],
    ['GET', '/units/%ff'],
  ] as const;
  for (const [method, path] of missing) {
    test(`knows no ${method} ${path}`, async () => {
      expect(await ask(path, { method })).toMatchObject({ status: 404, body: { type: '/problems/not-found' } });
    });
  }

  const invalid: { path: string; body: object | string; field: string }[] = [
    { path: 'walk-up', body: {}, field: '/minutes' },
    { path: 'walk-up', body: { minutes: 'long' }, field: '/minutes' },
    { path: 'walk-up', body: { minutes: 30, size: 'S' }, field: '/size' },
    { path: 'redeem', body: {}, field: '/token' },
    { path: 'faults', body: { offlin: true }, field: '/offlin' },
    { path: 'faults', body: { offline: 'yes' }, field: '/offline' },
    { path: 'faults', body: { lossRate: 2 }, field: '/lossRate' },
    { path: 'faults', body: { loseNextAnswers: -1 }, field: '/loseNextAnswers' },
    { path: 'faults', body: { loseNextAnswers: 1_001 }, field: '/loseNextAnswers' },
    { path: 'faults', body: { jammed: ['A', 'Z'] }, field: '/jammed/1' },
    { path: 'wipe', body: { really: true }, field: '/really' },
    { path: 'lockers/A/open', body: { force: true }, field: '/force' },
  ];
  for (const { path, body, field } of invalid) {
    test(`refuses ${JSON.stringify(body)} for ${path} and names "${field}"`, async () => {
      const before = unit.model;
      const answer = await post(`/units/${NAME}/${path}`, body);
      expect(answer).toMatchObject({ status: 422, type: 'application/problem+json' });
      const { errors } = answer.body as { errors: { path: string }[] };
      expect(errors.map((error) => error.path)).toContain(field);
      expect(unit.model.lockers).toBe(before.lockers);
    });
  }
});

describe('faults', () => {
  const inbox = async (): Promise<UnitBatch[]> => {
    const { epoch } = unit.model.log;
    return (await platform.inbox(NAME)).filter((batch) => batch.epoch === epoch);
  };
  const pushed = () => eventually(() => unit.model.log.acknowledgedSeq === unit.model.log.lastSeq);

  test('a change sets the named faults and leaves the others', async () => {
    expect((await faults({ latencyMs: 5, jammed: ['C'] })).body).toMatchObject({
      latencyMs: 5,
      jammed: ['C'],
      offline: false,
    });
    expect((await faults({ jammed: [] })).body).toMatchObject({ latencyMs: 5, jammed: [] });
    await faults({ latencyMs: 0 });
  });

  test('an offline unit answers no ping, still rents lockers, and pushes the events later, marked as offline', async () => {
    await pushed();
    await faults({ offline: true });
    await eventually(() => fleet.readiness().connected === 1);
    expect((await ask(`/units/${NAME}`)).body).toMatchObject({ offline: true });
    await expect(platform.ping(unit)).rejects.toThrow();
    const { acknowledgedSeq } = unit.model.log;
    expect((await post(`/units/${NAME}/walk-up`, { locker: 'C', minutes: 30 })).status).toBe(200);
    expect((await post(`/units/${NAME}/lockers/C/close`)).status).toBe(200);
    expect(unit.model.log.acknowledgedSeq).toBe(acknowledgedSeq);
    await faults({ offline: false });
    await pushed();
    const events = (await inbox()).flatMap((batch) => batch.events).filter(({ seq }) => seq > acknowledgedSeq);
    expect(events.map(({ type }) => type)).toEqual([
      'PaymentStarted',
      'PaymentSucceeded',
      'RentalStarted',
      'LockerOpened',
      'LockerClosed',
    ]);
    expect(events.every(({ offline }) => offline === true)).toBe(true);
    expect((await platform.ping(unit))?.unit).toBe(NAME);
    expect((await post(`/units/${NAME}/lockers/C/open`)).status).toBe(200);
    await pushed();
    expect((await inbox()).at(-1)?.events.at(-1)?.offline).toBeUndefined();
  });

  test('latency delays answers', async () => {
    await faults({ latencyMs: 200 });
    const startedMs = performance.now();
    await platform.ping(unit);
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(195);
    await faults({ latencyMs: 0 });
  });

  test('loss closes connections without an answer, and pushes succeed when it ends', async () => {
    await pushed();
    await faults({ lossRate: 1 });
    await expect(call(`http://${unit.address}/ping`)).rejects.toThrow();
    const failed = fleet.metrics.failedPushes;
    await post(`/units/${NAME}/reboot`);
    await eventually(() => fleet.metrics.failedPushes > failed);
    await faults({ lossRate: 0 });
    await pushed();
  });

  test('with duplicatePushes, the same batch is pushed twice', async () => {
    await pushed();
    const before = (await inbox()).length;
    await faults({ duplicatePushes: true });
    await post(`/units/${NAME}/reboot`);
    await pushed();
    const batches = (await inbox()).slice(before);
    expect(batches).toHaveLength(2);
    expect(batches[0]).toEqual(batches[1] as UnitBatch);
    await faults({ duplicatePushes: false });
  });

  test('with reorderPushes, batches arrive out of order with all events', async () => {
    await pushed();
    const { lastSeq } = unit.model.log;
    const before = (await inbox()).length;
    await faults({ reorderPushes: true });
    await Promise.all([post(`/units/${NAME}/reboot`), post(`/units/${NAME}/reboot`), post(`/units/${NAME}/reboot`)]);
    await pushed();
    const seqs = (await inbox()).slice(before).map((batch) => batch.events.map(({ seq }) => seq - lastSeq));
    expect(seqs).toEqual([[3], [1, 2]]);
    await faults({ reorderPushes: false });
  });

  test('a skewed clock shows in ping replies, and commands that have expired by it are refused', async () => {
    await faults({ clockSkewMs: 60_000 });
    const reply = await platform.ping(unit);
    expect(Math.abs(Date.parse(reply?.time ?? '') - Date.now() - 60_000)).toBeLessThan(2_000);
    const expiresAt = new Date(Date.now() + 10_000).toISOString();
    const command = { commandId: 'skewed', expiresAt, openLocker: { locker: 'A' } };
    expect(await platform.command(unit, command)).toMatchObject({ status: 'refused', reason: 'expired' });
    await faults({ clockSkewMs: 0 });
  });

  test('a declining terminal and a jammed door refuse rentals, and commands for a jammed door fail', async () => {
    await faults({ declinePayments: true });
    expect(await post(`/units/${NAME}/walk-up`, { locker: 'A', minutes: 30 })).toMatchObject({
      status: 409,
      body: { reason: 'declined' },
    });
    await faults({ declinePayments: false, jammed: ['A'] });
    expect(await post(`/units/${NAME}/walk-up`, { locker: 'A', minutes: 30 })).toMatchObject({
      status: 409,
      body: { reason: 'jammed' },
    });
    const command = {
      commandId: 'jam',
      expiresAt: new Date(Date.now() + 10_000).toISOString(),
      openLocker: { locker: 'A' },
    };
    expect(await platform.command(unit, command)).toEqual({ commandId: 'jam', status: 'failed', reason: 'jammed' });
    await faults({ jammed: [] });
  });

  describe('loseNextAnswers', () => {
    const open = (commandId: string) =>
      platform.command(unit, {
        commandId,
        expiresAt: new Date(Date.now() + 60_000).toISOString(),
        openLocker: { locker: 'A' },
      });
    const openings = async (commandId: string) => {
      await pushed();
      const events = (await inbox()).flatMap((batch) => batch.events);
      return events.filter(({ type, causationId }) => type === 'LockerOpened' && causationId === commandId).length;
    };
    const left = async () => ((await ask(`/units/${NAME}`)).body as { faults: Faults }).faults.loseNextAnswers;

    test('executes a command, loses its answer and that to a repeat, and opens the door once', async () => {
      await faults({ loseNextAnswers: 2 });
      expect(await left()).toBe(2);
      await expect(open('lost')).rejects.toThrow();
      expect(findLocker(unit.model, 'A')?.door).toBe('open');
      expect(await left()).toBe(1);
      await expect(open('lost')).rejects.toThrow();
      expect(await open('lost')).toEqual({ commandId: 'lost', status: 'done' });
      expect(await openings('lost')).toBe(1);
      expect(await left()).toBe(0);
      expect((await post(`/units/${NAME}/lockers/A/close`)).status).toBe(200);
    });

    test('loses as many of concurrent answers as it says, and counts only commands that the platform has signed', async () => {
      await faults({ loseNextAnswers: 3 });
      const unsigned = await call(`http://${unit.address}/commands`, { method: 'POST', body: '{"jws":"a.b.c"}' });
      expect(JSON.parse(unsigned.text)).toMatchObject({ status: 'refused', reason: 'signature' });
      expect(await left()).toBe(3);
      const ids = ['one', 'two', 'three', 'four', 'five'];
      const answers = await Promise.allSettled(ids.map((id) => open(id)));
      expect(answers.filter(({ status }) => status === 'rejected')).toHaveLength(3);
      expect(await left()).toBe(0);
      for (const id of ids) expect(await open(id)).toMatchObject({ commandId: id });
      expect((await post(`/units/${NAME}/lockers/A/close`)).status).toBe(200);
    });
  });
});

/** Rollouts of one configuration change to many units: rate, pause, abort and their results. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import { type Answer, Client, fields, items } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { type Platform, startPlatform } from '../support/platform.ts';

const UNITS = 10;
const ALL = Array.from({ length: UNITS }, (_, index) => `PL-${1000 + index}`);
const SLOW = { timeoutMs: 60_000 };
const FACTORY = defaultConfiguration(600).values;
const AT_ONCE = { rate: { unitsPerMinute: 60_000 } };

let platform: Platform;
let ops: Client;
let sim: Client;
let minutes = 15;

beforeAll(async () => {
  platform = await startPlatform({
    purpose: 'e2e-rollouts',
    units: UNITS,
    env: { PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '500', CONFIG_RETRY_SCHEDULE_S: '1' },
  });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
  sim = new Client(platform.sim);
  await eventually(async () => items(await ops.get('/v1/units?state=online')).length === UNITS, SLOW);
}, 120_000);

afterAll(() => platform.stop());

afterEach(async () => {
  for (const unit of ALL) await sim.post(`/units/${unit}/faults`, { applying: 'well', offline: false });
});

/** A change that no unit has had. */
const nextMinutes = () => {
  minutes += 1;
  return minutes;
};
const fault = (unit: string, faults: object) => sim.post(`/units/${unit}/faults`, faults);
const minimumOf = async (unit: string) => {
  const { values } = (await sim.get(`/units/${unit}`)).body.configuration as { values: { minimumMinutes: number } };
  return values.minimumMinutes;
};
const idOf = (answer: Answer): string => String(answer.body.id);

async function begin(body: object): Promise<string> {
  const created = await ops.post('/v1/config-rollouts', body);
  expect(created).toMatchObject({ status: 201, body: { status: 'running', createdBy: 'ops:operator' } });
  return idOf(created);
}

function becomes(id: string, status: string): Promise<Answer> {
  return eventually(async () => {
    const answer = await ops.get(`/v1/config-rollouts/${id}`);
    return answer.body.status === status ? answer : Promise.reject(new Error(JSON.stringify(answer.body)));
  }, SLOW);
}

describe('a rollout', () => {
  test('changes the named values at every unit, keeps the others, and lists each unit', async () => {
    const own = { ...FACTORY, texts: { en: { title: 'Only here' } } };
    expect((await ops.send('PUT', '/v1/units/PL-1000/config', { body: { mode: 'live', values: own } })).status).toBe(
      200,
    );
    const minimumMinutes = nextMinutes();
    const id = await begin({ selection: { all: true }, changes: { minimumMinutes }, ...AT_ONCE });
    const done = await becomes(id, 'completed');
    expect(done.body.units).toEqual({ total: UNITS, applied: UNITS });
    for (const unit of ALL) expect(await minimumOf(unit)).toBe(minimumMinutes);
    expect((await sim.get('/units/PL-1000')).body).toMatchObject({ configuration: { values: { texts: own.texts } } });
    const listed = await ops.get(`/v1/config-rollouts/${id}/units?status=applied&limit=4`);
    const rest = await ops.get(`/v1/config-rollouts/${id}/units?limit=50&cursor=${listed.body.nextCursor}`);
    const units = [...items(listed), ...items(rest)];
    expect(units.map(({ unit }) => unit).sort()).toEqual([...ALL]);
    expect(units[0]).toMatchObject({ status: 'applied', startedAt: expect.any(String), appliedAt: expect.any(String) });
    const [version] = items(await ops.get('/v1/units/PL-1003/config/versions?limit=1'));
    expect(version).toMatchObject({ rolloutId: id, wantedBy: 'ops:operator', mode: 'queued' });
  });

  test('can be paused and resumed, and continues after the server was killed', async () => {
    const minimumMinutes = nextMinutes();
    const id = await begin({ selection: { names: ALL }, changes: { minimumMinutes }, rate: { unitsPerMinute: 60 } });
    await eventually(async () => (await minimumOf('PL-1001')) === minimumMinutes, SLOW);
    expect((await ops.post(`/v1/config-rollouts/${id}/pause`, { reason: 'lunch' })).body).toMatchObject({
      status: 'paused',
      statusReason: 'lunch',
    });
    const paused = (await ops.get(`/v1/config-rollouts/${id}`)).body.units as { waiting: number };
    expect(paused.waiting).toBeGreaterThan(0);
    await platform.server.killAndRestart();
    await eventually(async () => (await ops.get('/readyz')).status === 200, SLOW);
    const still = (await ops.get(`/v1/config-rollouts/${id}`)).body;
    expect(still).toMatchObject({ status: 'paused', units: { waiting: paused.waiting } });
    expect((await ops.post(`/v1/config-rollouts/${id}/resume`)).body.status).toBe('running');
    await platform.server.killAndRestart();
    await eventually(async () => (await ops.get('/readyz')).status === 200, SLOW);
    await becomes(id, 'completed');
    for (const unit of ALL) {
      expect(await minimumOf(unit)).toBe(minimumMinutes);
      // A server that was killed before it recorded its progress did not create a second version.
      const versions = items(await ops.get(`/v1/units/${unit}/config/versions`)).filter(
        ({ rolloutId }) => rolloutId === id,
      );
      expect(versions).toHaveLength(1);
    }
    expect((await ops.post(`/v1/config-rollouts/${id}/pause`)).status).toBe(412);
  }, 180_000);

  test('that units reject aborts itself, and withdraws the change from units that have not applied it', async () => {
    const before = await minimumOf('PL-1009');
    for (const unit of ['PL-1002', 'PL-1003']) await fault(unit, { applying: 'refuses' });
    await fault('PL-1001', { offline: true });
    await eventually(async () => (await ops.get('/v1/units/PL-1001')).body.state === 'offline', SLOW);
    const minimumMinutes = nextMinutes();
    const id = await begin({
      selection: { names: ALL },
      changes: { minimumMinutes },
      waves: [{ units: 4, waitS: 3_600 }],
      abortThreshold: { failedShare: 0.5, minimumFailed: 2 },
    });
    const { body } = await becomes(id, 'aborted');
    expect(body).toMatchObject({
      statusBy: 'platform:rollout',
      statusReason: '2 of 4 units rejected the configuration or failed to apply it',
    });
    expect(body.units).toMatchObject({ total: UNITS, waiting: 6, applied: 1, withdrawn: 3 });
    await fault('PL-1001', { offline: false });
    const configOf = (unit: string) => ops.get(`/v1/units/${unit}/config`);
    for (const unit of ['PL-1001', 'PL-1002', 'PL-1003']) {
      await fault(unit, { applying: 'well' });
      const settled = await eventually(async () => {
        const answer = await configOf(unit);
        return answer.body.status === 'applied' && answer;
      }, SLOW);
      expect(settled.body).toMatchObject({ desired: { values: { minimumMinutes: before } } });
      expect(await minimumOf(unit)).toBe(before);
    }
    // The unit that had applied the change keeps it, and the unit that the rollout had not reached has the old value.
    expect([await minimumOf('PL-1000'), await minimumOf('PL-1009')]).toEqual([minimumMinutes, before]);
  });

  test('skips units for which its changes are invalid, and gives the reason', async () => {
    const narrow = { ...FACTORY, minimumMinutes: 1, maximumMinutes: 10 };
    await ops.send('PUT', '/v1/units/PL-1004/config', { body: { mode: 'live', values: narrow } });
    const id = await begin({
      selection: { names: ['PL-1004', 'PL-1005'] },
      changes: { minimumMinutes: 60 },
      ...AT_ONCE,
    });
    expect((await becomes(id, 'completed')).body.units).toEqual({ total: 2, skipped: 1, applied: 1 });
    const [skipped] = items(await ops.get(`/v1/config-rollouts/${id}/units?status=skipped`));
    expect(skipped).toMatchObject({ unit: 'PL-1004', version: null });
    expect(String(skipped?.reason)).toContain('/values/minimumMinutes');
  });

  test('does not wait for a unit that is offline, and changes it once it is back', async () => {
    await fault('PL-1006', { offline: true });
    await eventually(async () => (await ops.get('/v1/units/PL-1006')).body.state === 'offline', SLOW);
    const minimumMinutes = nextMinutes();
    const id = await begin({ selection: { names: ['PL-1006', 'PL-1007'] }, changes: { minimumMinutes }, ...AT_ONCE });
    await eventually(async () => (await minimumOf('PL-1007')) === minimumMinutes, SLOW);
    const waiting = await eventually(async () => {
      const answer = await ops.get(`/v1/config-rollouts/${id}`);
      return (answer.body.units as { applied?: number }).applied === 1 && answer;
    }, SLOW);
    expect(waiting.body).toMatchObject({ status: 'running', units: { total: 2, applied: 1, queued: 1 } });
    await fault('PL-1006', { offline: false });
    await becomes(id, 'completed');
    expect(await minimumOf('PL-1006')).toBe(minimumMinutes);
  });

  test('starts once for two requests with the same idempotency key', async () => {
    const body = { selection: { names: ['PL-1008'] }, changes: { minimumMinutes: nextMinutes() }, ...AT_ONCE };
    const key = { 'idempotency-key': 'rollout-once' };
    const [first, second] = [
      await ops.post('/v1/config-rollouts', body, key),
      await ops.post('/v1/config-rollouts', body, key),
    ];
    expect(idOf(second)).toBe(idOf(first));
    await becomes(idOf(first), 'completed');
    expect(items(await ops.get('/v1/config-rollouts?limit=1'))).toMatchObject([{ id: idOf(first) }]);
  });
});

describe('an invalid rollout', () => {
  const good = { selection: { names: ['PL-1000'] }, changes: { minimumMinutes: 20 } };
  test.each([
    ['no selection', { ...good, selection: {} }, ['/selection']],
    ['an unknown unit', { ...good, selection: { names: ['PL-1000', 'NOBODY'] } }, ['/selection/names/1']],
    ['a selection without units', { ...good, selection: { tags: ['none has it'] } }, ['/selection']],
    ['no change', { ...good, changes: {} }, ['/changes']],
    ['an unknown key', { ...good, changes: { colour: 'red' } }, ['/changes/colour']],
    [
      'changes that are invalid for every unit',
      { ...good, changes: { minimumMinutes: 9, maximumMinutes: 8 } },
      ['/changes/minimumMinutes'],
    ],
    ['a rate beside waves', { ...good, ...AT_ONCE, waves: [{ units: 1, waitS: 1 }] }, ['/waves']],
    ['a rate of zero', { ...good, rate: { unitsPerMinute: 0 } }, ['/rate/unitsPerMinute']],
  ])('with %s is refused with the field', async (_, body, paths) => {
    const answer = await ops.post('/v1/config-rollouts', body);
    expect({ status: answer.status, fields: fields(answer) }).toEqual({ status: 422, fields: paths });
  });

  test('an unknown rollout answers 404', async () => {
    const id = '0197d5a8-5f3e-7c1a-9a57-2f1f0c9b1e55';
    expect((await ops.get(`/v1/config-rollouts/${id}`)).status).toBe(404);
    expect((await ops.get(`/v1/config-rollouts/${id}/units`)).status).toBe(404);
    expect((await ops.post(`/v1/config-rollouts/${id}/abort`)).status).toBe(404);
  });
});

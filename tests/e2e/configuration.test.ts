/** Configuration changes over REST, against simulated units with faults, with a short retry schedule. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { configurationHash } from '../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { ConfigurationValues } from '../../domain/configuration-values.ts';
import { type Answer, Client, fields, items, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { type Platform, startPlatform } from '../support/platform.ts';

const UNITS = 8;
const SLOW = { timeoutMs: 60_000 };
/** How late a silent unit answers: far later than the server stops waiting for it, even on a loaded machine. */
const SILENT_MS = 60_000;
const FACTORY = defaultConfiguration(600).values;

let platform: Platform;
let ops: Client;
let sim: Client;
let used = 0;

beforeAll(async () => {
  platform = await startPlatform({
    purpose: 'e2e-configuration',
    units: UNITS,
    env: { PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '500', CONFIG_RETRY_SCHEDULE_S: '1,2' },
  });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
  sim = new Client(platform.sim);
}, 120_000);

afterAll(() => platform.stop());

/** A unit that no other test has touched. */
async function newUnit(): Promise<string> {
  const name = `PL-${1000 + used}`;
  used += 1;
  await status(name, 'applied');
  return name;
}

afterEach(async () => {
  for (let index = 0; index < used; index += 1) {
    await sim.post(`/units/PL-${1000 + index}/faults`, { applying: 'well', offline: false, latencyMs: 0 });
  }
});

const path = (unit: string, rest = '') => `/v1/units/${unit}/config${rest}`;
const put = (unit: string, values: object, more: object = {}, headers: Record<string, string> = {}) =>
  ops.send('PUT', path(unit), { body: { mode: 'live', values: { ...FACTORY, ...values }, ...more }, headers });
const fault = (unit: string, faults: object) => sim.post(`/units/${unit}/faults`, faults);
const runs = async (unit: string) => (await sim.get(`/units/${unit}`)).body.configuration;
const desiredOf = (answer: Answer) =>
  answer.body.desired as { version: number; hash: string; values: ConfigurationValues };
/** What came of pushing to a unit, newest first, once it begins with what is expected: read models follow. */
const attempts = (unit: string, expected: readonly object[]) =>
  eventually(async () => {
    const shown = items(await ops.get(path(unit, '/attempts')));
    expect(shown.slice(0, expected.length)).toMatchObject([...expected]);
    return shown;
  }, SLOW);

/** Waits until a unit's configuration is in a state, after a write if one is named. */
function status(unit: string, wanted: string, write?: Answer): Promise<Answer> {
  const position = write?.headers.get('lockfleet-position');
  const query = position === undefined ? '' : `?minPosition=${position}`;
  return eventually(async () => {
    const answer = await ops.get(`${path(unit)}${query}`);
    return answer.body.status === wanted ? answer : Promise.reject(new Error(JSON.stringify(answer.body)));
  }, SLOW);
}

async function online(unit: string, state: string): Promise<void> {
  await eventually(async () => (await ops.get(`/v1/units/${unit}`)).body.state === state, SLOW);
}

describe('live', () => {
  test('is applied once the unit has proved it, survives a reboot of the unit, and sets the price', async () => {
    const unit = await newUnit();
    const values = { prices: FACTORY.prices.map((price) => ({ ...price, perHour: 6_000 })) };
    const answer = await put(unit, values);
    expect(answer).toMatchObject({ status: 200, body: { unit, status: 'applied', attempts: 0, nextAttemptAt: null } });
    const { version, hash } = desiredOf(answer);
    expect({ version, hash }).toEqual({ version: 2, hash: configurationHash({ ...FACTORY, ...values }) });
    expect(answer.body.reported).toMatchObject({ hash });
    expect(answer.headers.get('etag')).toBe('"2"');
    await sim.post(`/units/${unit}/reboot`);
    expect(await runs(unit)).toMatchObject({ version: 2, hash });

    const position = answer.headers.get('lockfleet-position');
    const seen = await ops.getOnceShown(`${path(unit)}?minPosition=${position}`);
    expect(seen).toMatchObject({ status: 200, body: { status: 'applied', desired: { version: 2 } } });
    const row = await ops.getOnceShown(`/v1/units/${unit}?minPosition=${position}`);
    expect(row.body).toMatchObject({ configStatus: 'applied', lastConfigPushedAt: expect.any(String) });

    const customer = new Client(platform.api, await platform.token('customer', 'payer'));
    const when = period(0, 60);
    const free = items(await customer.get(`/v1/availability?${new URLSearchParams({ unit, ...when })}`));
    expect(free[0]).toMatchObject({ price: { amount: 6_000, currency: 'EUR' } });
    const held = await customer.post('/v1/reservations', { unit, size: free[0]?.size, ...when });
    expect(held).toMatchObject({ status: 201, body: { price: { amount: 6_000, currency: 'EUR' } } });
    const { body } = await eventually(async () => {
      const events = await ops.get(`/v1/events?unit=${unit}&type=ReservationHeld`);
      return items(events).length === 1 && events;
    });
    expect(body).toMatchObject({ items: [{ data: { configurationVersion: 2 } }] });
  });

  test('answers 409 with the reason for which the unit rejected it, and sends nothing until the next change', async () => {
    const unit = await newUnit();
    await fault(unit, { applying: 'refuses' });
    const rejected = await put(unit, { minimumMinutes: 20 }, {}, { 'idempotency-key': 'rejected' });
    expect(rejected).toMatchObject({ status: 409, body: { type: '/problems/unit-rejected' } });
    expect(text(rejected, 'detail')).toContain('not-supported');
    expect((await put(unit, { minimumMinutes: 20 }, {}, { 'idempotency-key': 'rejected' })).body).toEqual(
      rejected.body,
    );
    await fault(unit, { applying: 'well' });
    expect((await status(unit, 'rejected')).body).toMatchObject({ nextAttemptAt: null, reason: 'not-supported' });
    // A unit that comes back is no change.
    await fault(unit, { offline: true });
    await online(unit, 'offline');
    await fault(unit, { offline: false });
    await online(unit, 'online');
    const all = await attempts(unit, [
      { outcome: 'rejected', version: 2 },
      { outcome: 'reported', version: 1 },
    ]);
    expect(all).toHaveLength(2);
    // The same once more is.
    expect(await put(unit, { minimumMinutes: 20 })).toMatchObject({ status: 200, body: { desired: { version: 3 } } });
  });

  test('is refused for a unit that is offline, and with ifOffline is queued until the unit is back', async () => {
    const unit = await newUnit();
    await fault(unit, { offline: true });
    await online(unit, 'offline');
    const refused = await put(unit, { minimumMinutes: 21 });
    expect(refused).toMatchObject({ status: 503, body: { type: '/problems/unit-offline' } });
    expect(refused.headers.get('retry-after')).toBe('5');
    expect(desiredOf(await ops.get(path(unit))).version).toBe(1);
    const queued = await put(unit, { minimumMinutes: 21 }, { ifOffline: 'queue' });
    expect(queued).toMatchObject({ status: 202, body: { status: 'queued', nextAttemptAt: null } });
    // Newer changes take the place of what was not sent.
    const newer = await put(unit, { minimumMinutes: 22 }, { mode: 'queued' });
    expect(newer.status).toBe(202);
    await fault(unit, { offline: false });
    await status(unit, 'applied', newer);
    expect(await runs(unit)).toMatchObject({ version: 3, values: { minimumMinutes: 22 } });
    const all = await attempts(unit, [
      { version: 3, outcome: 'applied' },
      { version: 1, outcome: 'reported' },
    ]);
    expect(all).toHaveLength(2);
    const [, replaced] = items(await ops.get(path(unit, '/versions')));
    expect(replaced).toMatchObject({ version: 2, status: 'replaced', appliedAt: null });
  });

  test('queues the change and answers 202 when the unit does not answer within its time', async () => {
    const unit = await newUnit();
    await fault(unit, { latencyMs: SILENT_MS });
    const startMs = performance.now();
    const answer = await put(unit, { minimumMinutes: 24 });
    // The server answers without having waited for the unit.
    expect(performance.now() - startMs).toBeLessThan(SILENT_MS / 2);
    expect(answer).toMatchObject({ status: 202, body: { status: 'failed', attempts: 1 } });
    expect(text(answer, 'reason')).toContain('no answer');
    await fault(unit, { latencyMs: 0 });
    await status(unit, 'applied', answer);
    expect(await runs(unit)).toMatchObject({ version: 2, values: { minimumMinutes: 24 } });
  });

  test('queues the change and answers 202 when the unit breaks the connection after it applied the change', async () => {
    const unit = await newUnit();
    await fault(unit, { applying: 'crash-after' });
    const answer = await put(unit, { minimumMinutes: 23 });
    expect(answer).toMatchObject({ status: 202, body: { status: 'failed', attempts: 1 } });
    // It had applied it after all: its next ping proves that, or the next push does.
    await fault(unit, { applying: 'well' });
    expect((await status(unit, 'applied', answer)).body.attempts).toBe(0);
    const all = await attempts(unit, [{ outcome: expect.stringMatching(/applied|reported/), version: 2 }]);
    expect(all).toContainEqual(expect.objectContaining({ outcome: 'failed', attempt: 1, version: 2 }));
  });
});

describe('queued', () => {
  test.each([
    ['fails', 'cannot-apply'],
    ['other-hash', 'the unit runs another configuration'],
    ['garbage', 'sent an invalid answer'],
    ['crash-before', 'no answer'],
  ])(
    'a change is retried on schedule at a unit whose fault is %s, and the attempts show the reason',
    async (applying, why) => {
      const unit = 'PL-1000';
      const before = (await ops.get(path(unit))).body.desired as { version: number };
      await fault(unit, { applying });
      const minimumMinutes = 30 + before.version;
      const wanted = await put(unit, { minimumMinutes }, { mode: 'queued' });
      expect(wanted.status).toBe(202);
      const failed = await eventually(async () => {
        const answer = await ops.getOnceShown(`${path(unit)}?minPosition=${wanted.headers.get('lockfleet-position')}`);
        return answer.body.status === 'failed' && answer.body.attempts === 2 && answer;
      }, SLOW);
      expect(text(failed, 'reason')).toContain(why);
      expect(await runs(unit)).not.toMatchObject({ values: { minimumMinutes } });
      const [second, first] = await attempts(unit, [
        { outcome: 'failed', attempt: 2 },
        { outcome: 'failed', attempt: 1, nextAttemptAt: expect.any(String) },
      ]);
      const waitedMs = Date.parse(String(second?.at)) - Date.parse(String(first?.at));
      expect(waitedMs).toBeGreaterThanOrEqual(1_000);
      await fault(unit, { applying: 'well' });
      await status(unit, 'applied', wanted);
      expect(await runs(unit)).toMatchObject({ version: before.version + 1, values: { minimumMinutes } });
    },
  );

  test('drift of a unit is detected, shown in the attempts, and repaired', async () => {
    const unit = await newUnit();
    expect((await put(unit, { minimumMinutes: 25 })).status).toBe(200);
    await sim.post(`/units/${unit}/wipe`);
    await attempts(unit, [{ outcome: 'applied' }, { outcome: 'drifted' }, { outcome: 'applied' }]);
    expect(await runs(unit)).toMatchObject({ version: 2, values: { minimumMinutes: 25 } });
  });
});

describe('history', () => {
  test('lists every version with author, time and changes, and an operator can roll back to any of them', async () => {
    const unit = await newUnit();
    const first = await put(unit, { minimumMinutes: 26 });
    const lost = await put(unit, { minimumMinutes: 27 }, {}, { 'if-match': '"1"' });
    expect(lost).toMatchObject({ status: 412, body: { type: '/problems/precondition-failed' } });
    const second = await put(unit, { maximumMinutes: 100 }, {}, { 'if-match': '"2"' });
    expect([first.status, second.status]).toEqual([200, 200]);
    const back = await ops.post(path(unit, '/rollback'), { version: 2, mode: 'live' }, { 'if-match': '"3"' });
    expect(back).toMatchObject({ status: 200, body: { desired: { version: 4, values: { minimumMinutes: 26 } } } });
    const minPosition = back.headers.get('lockfleet-position');
    const versions = await ops.getOnceShown(`${path(unit, '/versions')}?count=true&limit=2&minPosition=${minPosition}`);
    expect(versions.body.total).toBe(4);
    const rest = await ops.get(`${path(unit, '/versions')}?cursor=${versions.body.nextCursor}`);
    expect([...items(versions), ...items(rest)]).toMatchObject([
      { version: 4, status: 'applied', wantedBy: 'ops:operator', mode: 'live' },
      {
        version: 3,
        appliedAt: expect.any(String),
        changes: [
          { path: '/maximumMinutes', before: FACTORY.maximumMinutes, after: 100 },
          { path: '/minimumMinutes', before: 26, after: FACTORY.minimumMinutes },
        ],
      },
      { version: 2, changes: [{ path: '/minimumMinutes', before: FACTORY.minimumMinutes, after: 26 }] },
      { version: 1, mode: null, changes: [] },
    ]);
    expect((await ops.get(path(unit, '/versions/1'))).body.values).toEqual(FACTORY);
    expect((await ops.get(path(unit, '/versions/9'))).status).toBe(404);
    expect((await ops.post(path(unit, '/rollback'), { version: 9, mode: 'live' })).status).toBe(404);
    expect((await ops.get(path('NOBODY', '/versions'))).status).toBe(404);
  });
});

describe('bad input', () => {
  test.each([
    ['a negative price', { prices: [{ size: 'S', perHour: -1, currency: 'EUR' }] }, ['/values/prices/0/perHour']],
    ['an unknown size', { prices: [{ size: 'XXL', perHour: 1, currency: 'EUR' }] }, ['/values/prices/0/size']],
    ['an unknown key', { colour: 'red' }, ['/values/colour']],
    ['a minimum above the maximum', { minimumMinutes: 60, maximumMinutes: 30 }, ['/values/minimumMinutes']],
    ['a megabyte of one text', { texts: { en: { title: 'x'.repeat(1_000_000) } } }, ['/values/texts/en/title']],
    ['a megabyte of texts', { texts: manyTexts() }, ['/values/texts']],
    ['several at once', { holdTtlS: 1, pushIntervalMs: 1 }, ['/values/holdTtlS', '/values/pushIntervalMs']],
  ])('%s is refused with the field named, and nothing is recorded', async (_, values, paths) => {
    const before = desiredOf(await ops.get(path('PL-1000'))).version;
    const answer = await put('PL-1000', values);
    expect({ status: answer.status, fields: fields(answer) }).toEqual({ status: 422, fields: paths });
    expect(desiredOf(await ops.get(path('PL-1000'))).version).toBe(before);
  });

  test('an invalid mode, an invalid version and an unknown unit are refused', async () => {
    expect(fields(await put('PL-1000', {}, { mode: 'soon' }))).toEqual(['/mode']);
    expect(fields(await put('PL-1000', {}, {}, { 'if-match': 'two' }))).toEqual(['/headers/if-match']);
    expect((await put('NOBODY', {})).status).toBe(404);
    const customer = new Client(platform.api, await platform.token('customer', 'curious'));
    expect((await customer.get(path('PL-1000'))).status).toBe(403);
  });
});

function manyTexts() {
  const named = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`t${index}`, 'x'.repeat(500)]));
  return Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`a${String.fromCharCode(97 + index)}`, named]));
}

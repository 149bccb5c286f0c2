/** The state of units that only heartbeats reach, backlogs after a blackout, and wrong clocks, as the API shows them. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import type { Fleet, FleetOptions } from '../../device-sim/fleet/fleet.ts';
import { type Answer, Client, items } from '../support/client.ts';
import { startTestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { fleet, operator, stopFleet } from './fleet.ts';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
/** Far more than a loaded machine delays what is compared here, and far less than the hour by which the clock is wrong. */
const SLACK_MS = 30_000;
/** Rentals of the blackout. Each makes several events. */
const RENTALS = 3;
/** How long each push takes while a backlog drains: long enough to be seen. */
const PUSH_DELAY_MS = 2_500;
const WAIT = { timeoutMs: 60_000, intervalMs: 100 };

let ops: Client;
let api: string;
let opsToken: () => Promise<string>;
const fleets: Fleet[] = [];

beforeAll(async () => {
  const platform = await fleet();
  ops = await operator();
  api = platform.api;
  opsToken = async () => (await platform.token('ops', 'field')).slice('Bearer '.length);
}, 120_000);

afterAll(async () => {
  await Promise.all(fleets.map((each) => each.stop()));
  await stopFleet();
});

/** A fleet of one unit, with letters of its own. */
async function startUnit(seed: number, changes: Partial<FleetOptions>) {
  const field = await startTestFleet({ url: api }, { units: 1, seed, platform: { url: api, opsToken }, ...changes });
  fleets.push(field);
  const [name] = field.units.keys();
  if (name === undefined || field.controlUrl === undefined) throw new Error('the fleet has no unit');
  const control = new Client(field.controlUrl);
  const act = async (path: string, body?: unknown): Promise<Answer> => {
    const answer = await control.post(`/units/${name}${path}`, body);
    expect(answer.status).toBe(200);
    return answer;
  };
  const shown = async () => items(await ops.get(`/v1/units?q=${name}`))[0] ?? {};
  const events = async (query: Record<string, string> = {}) =>
    items(await ops.get(`/v1/events?${new URLSearchParams({ unit: name, limit: '200', ...query })}`));
  return { name, act, shown, events };
}

test('a unit that sends heartbeats over NATS is online, is syncing after a blackout, and is online again', async () => {
  const channels = { probe: 'nats', delivery: 'push', commandChannel: 'nats' } as const;
  const { act, shown, events } = await startUnit(2, { channels, heartbeatIntervalMs: 200 });
  const online = await eventually(async () => {
    const unit = await shown();
    const isHeard = unit.lastResponseTimeMs !== null && unit.lastOnlineAt !== null;
    return unit.state === 'online' && isHeard && unit.backlog === 0 && (await events()).length > 0 && unit;
  }, WAIT);
  expect(online).toMatchObject({ lastResponseTimeMs: expect.any(Number), clockWrong: false });
  expect(Math.abs(Number(online.clockOffsetMs))).toBeLessThan(SLACK_MS);

  await act('/faults', { offline: true });
  const recordedBefore = (await events()).length;
  for (let rental = 0; rental < RENTALS; rental++) await act('/walk-up', { minutes: 60 });
  await act('/faults', { offline: false, latencyMs: PUSH_DELAY_MS });
  const syncing = await eventually(async () => {
    const unit = await shown();
    return unit.state === 'syncing' && unit;
  }, WAIT);
  const backlog = Number(syncing.backlog);
  expect(backlog).toBeGreaterThanOrEqual(RENTALS);

  await eventually(async () => expect(await shown()).toMatchObject({ state: 'online', backlog: 0 }), WAIT);
  expect((await events()).length).toBeGreaterThanOrEqual(recordedBefore + backlog);
  await act('/faults', { latencyMs: 0 });
}, 180_000);

test('a clock that is an hour ahead is shown and its events carry both times, until the clock is right again', async () => {
  const { name, act, shown, events } = await startUnit(3, {});
  const restarts = () => events({ type: 'UnitRestarted' });
  /** Lets the unit report something again and again, until what is recorded of it is as it should be. */
  const reported = (wanted: (newest: Record<string, unknown>) => boolean) =>
    eventually(
      async () => {
        const before = (await restarts()).length;
        await act('/reboot');
        const newest = await eventually(async () => (await restarts()).length > before && (await restarts())[0]);
        return newest !== undefined && wanted(newest);
      },
      { timeoutMs: 90_000, intervalMs: 100 },
    );
  await eventually(async () => expect(await shown()).toMatchObject({ state: 'online', clockWrong: false }), WAIT);
  await reported((newest) => !('clockoffsetms' in newest) && !('correctedTime' in newest));

  await act('/faults', { clockSkewMs: HOUR_MS });
  const wrong = await eventually(async () => {
    const unit = await shown();
    return unit.clockWrong === true && unit;
  }, WAIT);
  expect(Math.abs(Number(wrong.clockOffsetMs) - HOUR_MS)).toBeLessThan(SLACK_MS);
  expect((await ops.get(`/v1/units/${name}`)).body).toMatchObject({ clockWrong: true });
  await reported((newest) => 'clockoffsetms' in newest);

  const nowMs = Date.now();
  await act('/walk-up', { minutes: 30 });
  const around = { from: new Date(nowMs - MINUTE_MS).toISOString(), until: new Date(nowMs + MINUTE_MS).toISOString() };
  const started = await eventually(async () => (await events({ type: 'RentalStarted', ...around }))[0] ?? false, WAIT);
  expect(Math.abs(Number(started.clockoffsetms) - HOUR_MS)).toBeLessThan(SLACK_MS);
  expect(Math.abs(Date.parse(String(started.time)) - nowMs - HOUR_MS)).toBeLessThan(SLACK_MS);
  expect(Math.abs(Date.parse(String(started.correctedTime)) - nowMs)).toBeLessThan(SLACK_MS);
  expect(await events({ type: 'RentalStarted', from: around.until })).toEqual([]);
  const { lockerDetails } = (await ops.get(`/v1/units/${name}`)).body as {
    lockerDetails: { rental: { startedAt: string; until: string } | null }[];
  };
  const rental = lockerDetails.find((locker) => locker.rental !== null)?.rental;
  expect(Math.abs(Date.parse(rental?.startedAt ?? '') - nowMs)).toBeLessThan(SLACK_MS);
  expect(Math.abs(Date.parse(rental?.until ?? '') - nowMs - 30 * MINUTE_MS)).toBeLessThan(SLACK_MS);

  await act('/faults', { clockSkewMs: 0 });
  await eventually(async () => expect(await shown()).toMatchObject({ clockWrong: false }), WAIT);
  await reported((newest) => !('clockoffsetms' in newest));
  expect((await events({ type: 'RentalStarted' }))[0]).toEqual(started);
}, 120_000);

test('a unit whose clock is ten minutes ahead executes commands once the platform knows its offset', async () => {
  const { name, act, shown } = await startUnit(4, {});
  const path = `/v1/units/${name}/config`;
  await eventually(async () => expect(await shown()).toMatchObject({ state: 'online', configStatus: 'applied' }), WAIT);
  const { values } = (await ops.get(path)).body.desired as { values: object };
  await act('/faults', { clockSkewMs: 10 * MINUTE_MS });
  await eventually(async () => expect(await shown()).toMatchObject({ clockWrong: true }), WAIT);
  // Another server process hears of the offset a moment later, so that the first commands may still be refused.
  let pushIntervalMs = 2_000;
  await eventually(async () => {
    pushIntervalMs += 1;
    const body = { mode: 'live', values: { ...values, pushIntervalMs } };
    expect((await ops.send('PUT', path, { body })).status).toBe(200);
  }, WAIT);
}, 120_000);

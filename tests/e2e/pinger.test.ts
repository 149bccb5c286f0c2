/** What operators see of the pinger: its owners, how fast units answer, and unwatched shards while no pinger runs. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { Client, items } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { registrationBody } from '../support/registration.ts';

const UNITS = 4;
const PING_INTERVAL_MS = 500;
/** How far `unknownSince` may lie from the end of the pinger: its last sign of life, on a loaded machine. */
const MAX_LEASE_ERROR_MS = 20_000;
const WAIT = { timeoutMs: 60_000, intervalMs: 100 };

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  // Here the pinger is a process of its own.
  const env = { PING_INTERVAL_MS: String(PING_INTERVAL_MS), PING_TIMEOUT_MS: '250', ROLES: 'api,ingest,fetch,reactor' };
  platform = await startPlatform({ purpose: 'e2e-pinger', units: UNITS, pingers: 1, env });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
}, 120_000);

afterAll(() => platform.stop());

const units = async () =>
  items(await ops.get('/v1/units?limit=100')) as { name: string; state: string; unknownSince: string | null }[];
const states = async () => (await units()).map(({ state }) => state);

describe('a pinger as a process of its own', () => {
  test('pings all units and shows their response times; once it is killed, states are unknown', async () => {
    const [pinger] = platform.pingers;
    if (pinger === undefined) throw new Error('there is no pinger');
    await eventually(async () => expect(await states()).toEqual(new Array<string>(UNITS).fill('online')), WAIT);
    const watched = await eventually(async () => {
      const { body } = await ops.get('/v1/pinger');
      expect(body).toMatchObject({ unwatched: [], states: { online: UNITS }, outages: [], flapping: 0 });
      expect(body.owners).toMatchObject([
        { units: UNITS, intervalMs: PING_INTERVAL_MS, replacedThreads: 0, notPinged: 0 },
      ]);
      return body;
    }, WAIT);
    expect(watched.scheduleLagMs).toMatchObject({ p99: expect.any(Number) });
    const [first] = await units();
    const detail = await eventually(async () => {
      const { body } = await ops.get(`/v1/units/${first?.name}`);
      const [bucket] = body.responseTimes as { sent: number; lost: number; meanMs: number | null }[];
      return bucket !== undefined && bucket.sent - bucket.lost >= 3 && body;
    }, WAIT);
    expect(detail).toMatchObject({ state: 'online', flapping: false, unknownSince: null });
    expect((detail.responseTimes as { meanMs: number }[])[0]?.meanMs).toBeGreaterThan(0);

    const endedMs = Date.now();
    await pinger.kill();
    await eventually(async () => expect(await states()).toEqual(new Array<string>(UNITS).fill('unknown')), WAIT);
    const since = (await units()).map(({ unknownSince }) => Math.abs(Date.parse(unknownSince ?? '') - endedMs));
    expect(Math.max(...since)).toBeLessThan(MAX_LEASE_ERROR_MS);
    const { body: unwatched } = await ops.get('/v1/pinger');
    expect(unwatched).toMatchObject({ owners: [], states: { unknown: UNITS } });
    expect(unwatched.unwatched).toHaveLength(256);
    pinger.start();
    await eventually(async () => expect(await states()).toEqual(new Array<string>(UNITS).fill('online')), WAIT);
  }, 180_000);
});

test.each([
  ['nowhere', 'HOST:PORT'],
  ['169.254.169.254:80', 'denied range'],
  ['[fe80::1]:80', 'denied range'],
])('registering a unit at the address %s is refused, and the answer names the field', async (address, said) => {
  const refused = await ops.post('/v1/units', registrationBody('ELSEWHERE', { address, probe: 'udp' }));
  expect(refused.status).toBe(422);
  expect(refused.body.errors).toEqual([{ path: '/address', message: expect.stringContaining(said) as string }]);
  expect((await ops.get('/v1/units/ELSEWHERE')).status).toBe(404);
});

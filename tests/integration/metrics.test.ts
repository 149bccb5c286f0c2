import { afterAll, beforeAll, expect, test } from 'bun:test';
import { freePort } from '../../platform/process/ports.ts';
import { eventually } from '../support/eventually.ts';
import { metricsWhen } from '../support/metrics.ts';
import { type Platform, startPlatform } from '../support/platform.ts';

/** Two pingers share them by random ids: with so many, it does not happen that one pinger gets none. */
const UNITS = 24;
let platform: Platform;

beforeAll(async () => {
  platform = await startPlatform({
    purpose: 'metrics',
    units: UNITS,
    env: { PING_INTERVAL_MS: '500', PING_TIMEOUT_MS: '200' },
  });
}, 60_000);

afterAll(() => platform.stop());

test('the server has metrics of its answers, and the pinger of the units that it pings', async () => {
  const ports = { api: freePort(), server: freePort(), pinger: freePort() };
  platform.startServer({ HTTP_PORT: String(ports.api), METRICS_PORT: String(ports.server), ROLES: 'api' });
  platform.startPinger({ METRICS_PORT: String(ports.pinger) });
  const api = `http://127.0.0.1:${ports.api}`;
  await eventually(async () => (await fetch(`${api}/healthz`, { keepalive: false })).status === 200);
  const status = async (path: string, init: RequestInit = {}) =>
    (await fetch(`${api}${path}`, { ...init, keepalive: false })).status;
  const authorization = await platform.token('ops', 'metrics');
  expect(await status('/v1/units', { headers: { authorization } })).toBe(200);
  expect(await status('/v1/units')).toBe(401);
  expect(await status('/v1/units?limit=none', { headers: { authorization } })).toBe(422);
  expect(await status('/v1/nothing')).toBe(404);
  expect(await status('/v1/nothing')).toBe(404);

  const requests = (code: number) => `lockfleet_http_requests_total{status="${code}"}`;
  const counted = await metricsWhen(ports.server, (values) => values.get(requests(404)) === 2);
  expect(counted.get(requests(401))).toBe(1);
  expect(counted.get(requests(422))).toBe(1);
  expect(counted.get(requests(200))).toBeGreaterThanOrEqual(2);
  // This server runs no pinger.
  expect([...counted.keys()].some((key) => key.startsWith('lockfleet_pinger'))).toBe(false);

  const answered = 'lockfleet_pinger_counted_total{what="answered"}';
  const pinging = await metricsWhen(ports.pinger, (values) => (values.get(answered) ?? 0) > 0);
  expect(pinging.get('lockfleet_pinger_units')).toBeGreaterThan(0);
  expect(pinging.get('lockfleet_pinger_schedule_lag_p99_seconds')).toBeLessThan(10);
  expect(pinging.get('lockfleet_source_failed{source="pinger"}')).toBe(0);
}, 60_000);

/** The daily summary over REST. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { parse } from 'csv-parse/sync';
import { Client, fields, items } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import type { Platform } from '../support/platform.ts';
import { fleet, operator, stopFleet } from './fleet.ts';

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  platform = await fleet();
  ops = await operator();
}, 120_000);

afterAll(stopFleet);

test('a rental at the screen counts in the day of its unit and of the fleet, as a page and as CSV', async () => {
  const rented = await new Client(platform.sim).post('/units/PL-1000/walk-up', { minutes: 60 });
  expect(rented.status).toBeLessThan(300);
  const [day] = await eventually(async () => {
    const days = items(await ops.get('/v1/daily-summary?unit=PL-1000'));
    return days.at(-1)?.rentals !== 0 && days.slice(-1);
  });
  expect(day).toMatchObject({ unit: 'PL-1000', units: 1, rentals: 1, isOver: false, conflicts: 0 });
  expect(day?.occupancy).toBeGreaterThanOrEqual(0);
  expect(day?.uptime).toBeGreaterThan(0);
  const fleetDay = items(await ops.get('/v1/daily-summary')).at(-1);
  expect(fleetDay?.unit).toBeUndefined();
  expect(fleetDay).toMatchObject({ units: 4, rentals: 1 });

  const authorization = await platform.token('ops', 'operator');
  const response = await fetch(`${platform.api}/v1/daily-summary?unit=PL-1000`, {
    keepalive: false,
    headers: { authorization, accept: 'text/csv' },
  });
  const [header = [], ...rows] = parse(await response.text()) as string[][];
  expect(header.slice(0, 3)).toEqual(['day', 'unit', 'units']);
  expect(rows.at(-1)?.[0]).toBe(String(day?.day));
});

test('dates that do not exist are refused with the parameter, and an unknown unit has no days', async () => {
  expect(fields(await ops.get('/v1/daily-summary?from=2026-02-30'))).toEqual(['/query/from']);
  expect(fields(await ops.get('/v1/daily-summary?until=tomorrow'))).toEqual(['/query/until']);
  expect(fields(await ops.get('/v1/daily-summary?cursor=nonsense'))).toEqual(['/query/cursor']);
  expect(items(await ops.get('/v1/daily-summary?unit=NOBODY'))).toEqual([]);
  expect(items(await ops.get('/v1/daily-summary?from=9000-01-01'))).toEqual([]);
});

/** Lockers of a simulated unit that a technician installs and removes through the control API. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import type { Command } from '../../domain/unit-protocol/commands.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet, type TestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';

const SEED = 70;
const NAME = 'SC-1000';
const SOON_MS = 30_000;

let platform: FieldPlatform;
let storePath: string;
let fleet: TestFleet;

beforeAll(async () => {
  platform = await startFieldPlatform();
  storePath = join(await temporaryFolder('device-sim'), 'fleet.sqlite');
  fleet = await startTestFleet(platform, { seed: SEED, units: 1, lockers: 2, storePath });
  await eventually(() => fleet.readiness().registered === 1);
});
afterAll(async () => {
  await fleet.stop();
  await platform.stop();
});

async function ask(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const response = await fetch(`${fleet.controlUrl}/units/${NAME}${path}`, {
    method,
    ...(body === undefined ? {} : { body: text }),
  });
  return { status: response.status, body: await response.json() };
}

async function open(locker: string) {
  const [unit] = fleet.units.values();
  if (unit === undefined) throw new Error('the fleet has no unit');
  const expiresAt = new Date(Date.now() + SOON_MS).toISOString();
  const command: Command = { commandId: Bun.randomUUIDv7(), expiresAt, openLocker: { locker } };
  return platform.command(unit, command);
}

const DELTA = { id: 'D', size: 'XL', door: 'closed', occupiedBy: null };

describe('a locker', () => {
  test('opens once it is installed, and installing it again changes nothing', async () => {
    expect(await open('D')).toMatchObject({ status: 'refused', reason: 'unknown-locker' });
    expect(await ask('POST', '/lockers', { id: 'D', size: 'XL' })).toEqual({ status: 200, body: DELTA });
    expect(await open('D')).toMatchObject({ status: 'done' });
    expect(await ask('POST', '/lockers', { id: 'D', size: 'XL' })).toEqual({
      status: 200,
      body: { ...DELTA, door: 'open' },
    });
    expect(await ask('GET', '')).toMatchObject({ body: { lockers: [{ id: 'A' }, { id: 'B' }, { id: 'D' }] } });
  });

  test('of another size is refused under the same id', async () => {
    expect(await ask('POST', '/lockers', { id: 'D', size: 'S' })).toMatchObject({
      status: 409,
      body: { type: '/problems/unit-rejected', reason: 'locker-exists' },
    });
  });

  test.each([
    ['no JSON', '{', 400],
    ['no size', { id: 'E' }, 422],
    ['an unknown size', { id: 'E', size: 'XXL' }, 422],
    ['an id that cannot be registered', { id: 'E/1', size: 'S' }, 422],
    ['a further field', { id: 'E', size: 'S', door: 'open' }, 422],
    ['a list', [{ id: 'E', size: 'S' }], 422],
  ])('is not installed from a body with %s', async (_, body, status) => {
    expect(await ask('POST', '/lockers', body)).toMatchObject({ status, body: { type: '/problems/validation' } });
  });

  test('is removed when it is closed and not rented, and a restart of the simulator keeps that', async () => {
    expect(await ask('DELETE', '/lockers/D')).toMatchObject({ status: 409, body: { reason: 'door-open' } });
    expect((await ask('POST', '/lockers/D/close')).status).toBe(200);
    expect(await ask('POST', '/walk-up', { locker: 'B', minutes: 30 })).toMatchObject({ status: 200 });
    expect(await ask('DELETE', '/lockers/B')).toMatchObject({ status: 409, body: { reason: 'occupied' } });
    expect(await ask('DELETE', '/lockers/A')).toEqual({ status: 200, body: { locker: 'A' } });
    expect(await ask('DELETE', '/lockers/A')).toMatchObject({ status: 404, body: { reason: 'unknown-locker' } });
    expect(await open('A')).toMatchObject({ status: 'refused', reason: 'unknown-locker' });
    await fleet.stop();
    fleet = await startTestFleet(platform, { seed: SEED, units: 1, lockers: 2, storePath });
    expect(await ask('GET', '')).toMatchObject({ body: { lockers: [{ id: 'B' }, DELTA] } });
  });
});

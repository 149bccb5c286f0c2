/** Access codes at a simulated unit: typed over the control API, locked, and locked still after a restart of the simulator. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { join } from 'node:path';
import { temporaryFolder } from '../support/cleanup.ts';
import { Client } from '../support/client.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet, type TestFleet } from '../support/device-sim.ts';
import { listPage } from '../support/device-unit.ts';
import { eventually } from '../support/eventually.ts';

const SEED = 60;
const MINUTE_MS = 60_000;

let platform: FieldPlatform;
beforeAll(async () => {
  platform = await startFieldPlatform();
});
afterAll(() => platform.stop());

test('a code opens its locker; five wrong ones lock the keypad, also over a restart and a reboot, until its time is over', async () => {
  const storePath = join(await temporaryFolder('access-codes'), 'fleet.sqlite');
  const options = { units: 1, seed: SEED, storePath };
  let fleet: TestFleet = await startTestFleet(platform, options);
  const [unit] = fleet.units.values();
  if (unit === undefined) throw new Error('the fleet has no unit');
  const { name } = unit;
  await eventually(() => fleet.readiness().connected === 1);
  const post = (action: string, body?: unknown) => new Client(fleet.controlUrl).post(`/units/${name}/${action}`, body);
  const type = async (code: string) => {
    const { status, body } = await post('type-code', { code });
    return status === 200 ? body.locker : body.reason;
  };
  const nowMs = Date.now();
  const at = (minutes: number) => new Date(nowMs + minutes * MINUTE_MS).toISOString();
  const reservations = (['A', 'B', 'C'] as const).map((locker, index) => ({
    reservationId: `${name}.r${index}`,
    locker,
    size: 'S' as const,
    from: at(-60),
    until: at(120),
    accessCode: `00000${index}`,
  }));
  const expiresAt = at(1);
  const command = {
    commandId: 'list',
    expiresAt,
    syncReservations: listPage(1, reservations, { asOf: { seq: 0, bookings: 1 } }),
  };
  expect(await platform.command(unit, command)).toMatchObject({ status: 'done' });

  expect(await type('000000')).toBe('A');
  expect(await post('type-code', { code: '12345' })).toMatchObject({
    status: 422,
    body: { errors: [{ path: '/code' }] },
  });
  for (let wrong = 1; wrong <= 4; wrong += 1) expect(await type('999999')).toBe('wrong-code');
  await fleet.stop();
  fleet = await startTestFleet(platform, options);
  expect(await type('999999')).toBe('wrong-code');
  expect(await type('000001')).toBe('keypad-locked');
  await fleet.stop();
  fleet = await startTestFleet(platform, options);
  await post('reboot');
  expect(await type('000001')).toBe('keypad-locked');
  await post('faults', { clockSkewMs: 10 * MINUTE_MS });
  expect(await type('000001')).toBe('B');

  const [resumed] = fleet.units.values();
  const events = resumed?.entries(1, 100).bodies.map((body) => JSON.parse(body) as { type: string; data: object });
  const errors = events?.filter((event) => event.type.startsWith('HardwareError'));
  expect(errors?.map((event) => [event.type, 'code' in event.data && event.data.code])).toEqual([
    ['HardwareErrorRaised', 'keypad-locked'],
    ['HardwareErrorCleared', 'keypad-locked'],
  ]);
  await fleet.stop();
}, 180_000);

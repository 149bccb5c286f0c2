import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import type { EmulatedUnit } from '../../device-sim/fleet/emulated-unit.ts';
import type { Fleet } from '../../device-sim/fleet/fleet.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';

describe('a fleet', () => {
  let platform: FieldPlatform;
  let fleet: Fleet;
  const unit = (name: string): EmulatedUnit => {
    const found = fleet.units.get(name);
    if (found === undefined) throw new Error(`there is no ${name}`);
    return found;
  };

  beforeAll(async () => {
    platform = await startFieldPlatform();
    fleet = await startTestFleet(platform);
  });
  afterAll(async () => {
    await fleet.stop();
    await platform.stop();
  });

  test('is ready once it is registered, connected and pinged', async () => {
    await eventually(() => fleet.readiness().connected === 2);
    expect((await fetch(`${fleet.controlUrl}/readyz`)).status).toBe(503);
    for (const { name, address } of fleet.units.values()) {
      expect(await platform.ping({ name, address })).toMatchObject({ unit: name });
    }
    const ready = await fetch(`${fleet.controlUrl}/readyz`);
    expect(await ready.json()).toMatchObject({ ready: true, registered: 2, connected: 2, pinged: 2, units: 2 });
    expect(ready.status).toBe(200);
  });

  test('pushes what happened', async () => {
    await eventually(async () => (await platform.inbox('PL-1000')).length > 0);
    console.log(JSON.stringify(await platform.inbox('PL-1000')), unit('PL-1000').model.log);
  });
});

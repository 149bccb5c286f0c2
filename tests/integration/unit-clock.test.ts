/** Commands and fetches to simulated units whose clock is wrong, with the offset that a ping measured. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { clockOffsetFromPingMs } from '../../domain/device/unit-clock.ts';
import type { RegisteredUnit } from '../../domain/registry/registry.ts';
import { type ClockOffset, ClockOffsetCache } from '../../platform/unit-log/clock-offset-cache.ts';
import { UnitLogClient } from '../../platform/unit-log/unit-log-client.ts';
import { UnitCommandClient, UnitUnreachableError } from '../../platform/units/unit-command-client.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet, type TestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { silentLog } from '../support/silent-log.ts';

/** Time to live of the commands: far more than a loaded machine takes to deliver one. */
const TTL_MS = 30_000;

let platform: FieldPlatform;
let fleet: TestFleet;
let unit: EmulatedUnit;

beforeAll(async () => {
  platform = await startFieldPlatform();
  fleet = await startTestFleet(platform, {
    units: 1,
    seed: 190,
    channels: { probe: 'http', delivery: 'fetch', commandChannel: 'http' },
  });
  const [first] = fleet.units.values();
  if (first === undefined) throw new Error('the fleet has no unit');
  unit = first;
  await eventually(() => fleet.readiness().connected === 1);
});
afterAll(async () => {
  await fleet.stop();
  await platform.stop();
});

async function measuredOffset(): Promise<ClockOffset> {
  const sentAtMs = Date.now();
  const reply = await platform.ping(unit);
  const offsetMs = clockOffsetFromPingMs(Date.parse(reply?.time ?? ''), sentAtMs, 0);
  if (offsetMs === undefined) throw new Error('the ping measured no clock');
  return { offsetMs, measuredAtMs: sentAtMs };
}

/** The clients of a platform that knows `offset`. @param sentAgoMs how long a message was under way when the unit gets it */
async function clientsWith(offset: ClockOffset | undefined, sentAgoMs = 0) {
  const stop = new AbortController();
  const offsets = new ClockOffsetCache({
    read: async () => new Map(offset === undefined ? [] : [[unit.name, offset]]),
    clock: () => Date.now() - sentAgoMs,
    log: silentLog,
  });
  await offsets.poll(stop.signal, async () => stop.abort());
  const unitNowMs = (name: string) => offsets.unitNowMs(name);
  const { nats, signer } = platform;
  const commands = new UnitCommandClient({ nats, signer, unitNowMs, onAnswer: () => undefined });
  const logs = new UnitLogClient({ nats, signer, unitNowMs });
  // The clients read these fields alone.
  const registered = {
    name: unit.name,
    address: unit.address,
    commandChannel: 'http',
    credentialsRevoked: false,
  } as RegisteredUnit;
  const open = async () => {
    const command = { commandId: Bun.randomUUIDv7(), openLocker: { locker: 'A' } };
    const { status, reason } = await commands.send(registered, command, { ttlMs: TTL_MS });
    return reason ?? status;
  };
  return { open, fetchLog: () => logs.fetchPage(registered, undefined, undefined) };
}

describe.each([
  // Within the tolerance of signatures, and beyond it.
  { skewMs: 60_000, unaware: 'expired' },
  { skewMs: 600_000, unaware: 'signature' },
  { skewMs: -100_000, unaware: 'done' },
  { skewMs: -600_000, unaware: 'signature' },
])('a unit whose clock is off by $skewMs ms', ({ skewMs, unaware }) => {
  beforeAll(() => unit.setFaults({ clockSkewMs: skewMs }));
  afterAll(() => unit.setFaults({ clockSkewMs: 0 }));

  test('executes a command in time, and refuses one that was under way for longer than its time to live', async () => {
    const offset = await measuredOffset();
    expect(await (await clientsWith(offset)).open()).toBe('done');
    expect(await (await clientsWith(offset, 2 * TTL_MS)).open()).toBe('expired');
  });

  test('gives its log', async () => {
    const { fetchLog } = await clientsWith(await measuredOffset());
    expect((await fetchLog()).head).toMatchObject({ firstAvailableSeq: 1 });
  });

  test('is sent times of the right clock while its offset is unknown', async () => {
    const { open, fetchLog } = await clientsWith(undefined);
    expect(await open()).toBe(unaware);
    if (unaware === 'signature') await expect(fetchLog()).rejects.toThrow(UnitUnreachableError);
  });
});

test('a command to a unit 100 s behind, whose offset is unknown, is alive longer than its time to live', async () => {
  await unit.setFaults({ clockSkewMs: -100_000 });
  expect(await (await clientsWith(undefined, 2 * TTL_MS)).open()).toBe('done');
  await unit.setFaults({ clockSkewMs: 0 });
});

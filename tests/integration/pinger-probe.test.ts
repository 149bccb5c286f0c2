import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import type { EmulatedUnit } from '../../device-sim/fleet/emulated-unit.ts';
import type { Fleet } from '../../device-sim/fleet/fleet.ts';
import { parseAddress } from '../../domain/address.ts';
import { HttpProber } from '../../pinger/probe-http.ts';
import { OUTCOME, type SlotTarget } from '../../pinger/tasks.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';

const TIMEOUT_MS = 400;
const LATENCY_MS = 80;
const HOUR_MS = 3_600_000;

let platform: FieldPlatform;
let fleet: Fleet;
let unit: EmulatedUnit;

beforeAll(async () => {
  platform = await startFieldPlatform();
  fleet = await startTestFleet(platform);
  await eventually(() => fleet.readiness().connected === fleet.units.size);
  const found = fleet.units.get('PL-1000');
  if (found === undefined) throw new Error('there is no PL-1000');
  unit = found;
});

afterAll(async () => {
  await fleet.stop();
  await platform.stop();
});

const prober = new HttpProber({
  timeoutMs: TIMEOUT_MS,
  now: Date.now,
  monotonic: () => performance.now(),
  newNonce: () => randomBytes(16).toString('hex'),
});

function target(changes: Partial<SlotTarget> = {}): SlotTarget {
  const address = parseAddress(unit.address);
  if (address === undefined || unit.credentials === undefined) throw new Error('the unit is not registered');
  return { unit: unit.name, ...address, key: Buffer.from(unit.credentials.unitKey, 'base64'), ...changes };
}

async function faults(changes: object): Promise<void> {
  const body = JSON.stringify(changes);
  const response = await fetch(`${fleet.controlUrl}/units/${unit.name}/faults`, { method: 'POST', body });
  if (!response.ok) throw new Error(`the simulator said ${response.status}`);
}

describe('the probe of a simulated unit', () => {
  test('learns what the unit says about itself', async () => {
    const { epoch, lastSeq } = unit.model.log;
    const probe = await prober.ping(target());
    expect(probe).toMatchObject({ outcome: OUTCOME.answered, reply: { epoch, lastSeq } });
    expect(probe.rttMs).toBeGreaterThan(0);
    expect(Math.abs(probe.sentAtMs - Date.now())).toBeLessThan(5_000);
  });

  test('measures the clock of the unit, also when the answer takes its time', async () => {
    expect(Math.abs((await prober.ping(target())).reply?.clockOffsetMs ?? Number.NaN)).toBeLessThan(200);
    await faults({ clockSkewMs: -HOUR_MS, latencyMs: LATENCY_MS });
    const offsetMs = (await prober.ping(target())).reply?.clockOffsetMs ?? Number.NaN;
    await faults({ clockSkewMs: 0, latencyMs: 0 });
    expect(Math.abs(offsetMs + HOUR_MS)).toBeLessThan(200);
  });

  test('lets the unit forget what is recorded', async () => {
    const { epoch, lastSeq } = unit.model.log;
    expect(await prober.ping(target({ recorded: { epoch, seq: lastSeq } }))).toMatchObject({
      outcome: OUTCOME.answered,
    });
    await eventually(() => unit.model.log.recordedSeq === lastSeq);
  });

  test('is not answered when it cannot prove who asks', async () => {
    expect((await prober.ping(target({ key: new Uint8Array(32) }))).outcome).toBe(OUTCOME.missed);
  });

  test('measures the delay on the way', async () => {
    await faults({ latencyMs: LATENCY_MS });
    const times = await Promise.all(Array.from({ length: 9 }, () => prober.ping(target())));
    await faults({ latencyMs: 0 });
    const typical = times.map(({ rttMs }) => rttMs).toSorted((a, b) => a - b)[4] ?? Number.NaN;
    expect(typical).toBeGreaterThanOrEqual(LATENCY_MS - 1);
    expect(typical).toBeLessThan(LATENCY_MS + 40);
  });

  test('misses a unit that is cut off, or too slow', async () => {
    await faults({ offline: true });
    expect((await prober.ping(target())).outcome).toBe(OUTCOME.missed);
    await faults({ offline: false, latencyMs: 3 * TIMEOUT_MS });
    const startedMs = performance.now();
    expect(await prober.ping(target())).toMatchObject({ outcome: OUTCOME.missed, rttMs: Number.NaN });
    expect(performance.now() - startedMs).toBeLessThan(2 * TIMEOUT_MS);
    await faults({ latencyMs: 0 });
  });

  test('finds nobody at an address where nobody is', async () => {
    expect((await prober.ping(target({ port: 1 }))).outcome).toBe(OUTCOME.missed);
  });
});

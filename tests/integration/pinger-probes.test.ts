import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { parseAddress } from '../../domain/address.ts';
import { unitHash } from '../../domain/shard.ts';
import { PING_OUTCOME, type SlotResults } from '../../pinger/pool/slot-results.ts';
import { SlotRunner } from '../../pinger/pool/slot-runner.ts';
import { HttpProbe } from '../../pinger/probes/http-probe.ts';
import { NatsProbe } from '../../pinger/probes/nats-probe.ts';
import { PING_ANOMALIES } from '../../pinger/probes/probe.ts';
import { SelfConnectCheck } from '../../pinger/probes/self-connect-check.ts';
import { UdpProbe } from '../../pinger/probes/udp-probe.ts';
import { systemClock } from '../../pinger/runtime/clock.ts';
import { EPOCH_BYTES, PROBE_NUMBERS, type UnitRow, UnitTable, uuidOf } from '../../pinger/units/unit-table.ts';
import { PING_DATAGRAM_BYTES } from '../../platform/unit-protocol/datagram.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet, type TestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { quietLog, testPlatform } from '../support/nats.ts';
import { ScriptableUnit } from '../support/scriptable-unit.ts';

const TIMEOUT_MS = 400;
const LATENCY_MS = 80;
const HOUR_MS = 3_600_000;

let platform: FieldPlatform;
let fleet: TestFleet;
let unit: EmulatedUnit;

beforeAll(async () => {
  platform = await startFieldPlatform();
  fleet = await startTestFleet(platform, { channels: { probe: 'nats', delivery: 'push', commandChannel: 'http' } });
  await eventually(() => fleet.readiness().connected === fleet.units.size);
  const found = fleet.units.get('PL-1000');
  if (found === undefined) throw new Error('there is no PL-1000');
  unit = found;
});

const runners: SlotRunner[] = [];

afterAll(async () => {
  await Promise.all(runners.map((runner) => runner.close()));
  await fleet.stop();
  await platform.stop();
});

interface Prober {
  readonly table: UnitTable;
  /** Pings unit 0. */
  ping(changes?: Partial<UnitRow>): Promise<SlotResults>;
}

async function newProber(probe: UnitRow['probe'], keepAlive = false, canary = new SelfConnectCheck()): Promise<Prober> {
  const table = UnitTable.create(4);
  const runner = await SlotRunner.open({
    table,
    timeoutMs: TIMEOUT_MS,
    clock: systemClock,
    openProbes: async (arrivals) => [
      await UdpProbe.open(table, arrivals),
      new HttpProbe({ table, listener: arrivals, keepAlive, selfConnect: canary }),
      new NatsProbe({ nats: await testPlatform(), table, listener: arrivals, log: quietLog }),
    ],
  });
  runners.push(runner);
  return {
    table,
    ping(changes = {}) {
      table.write(0, row({ probe, ...changes }));
      return runner.run({ startMs: Date.now(), units: new Uint32Array(1), offsetsMs: new Float32Array(1) });
    },
  };
}

function row(changes: Partial<UnitRow>): UnitRow {
  const address = parseAddress(unit.address);
  if (address === undefined || unit.credentials === undefined) throw new Error('the unit is not registered');
  const { name } = unit;
  const key = Buffer.from(unit.credentials.unitKey, 'base64');
  return {
    name,
    hash: unitHash(name),
    ip: address.host,
    port: address.port,
    probe: PROBE_NUMBERS.http,
    key,
    ...changes,
  };
}

async function faults(changes: object): Promise<void> {
  const body = JSON.stringify(changes);
  const response = await fetch(`${fleet.controlUrl}/units/${unit.name}/faults`, { method: 'POST', body });
  if (!response.ok) throw new Error(`the simulator said ${response.status}`);
}

const strays = ({ anomalies: counts }: SlotResults) =>
  Object.fromEntries(PING_ANOMALIES.map((stray, index) => [stray, counts[index] ?? 0]));

/**
 * The unit reads its clock between the sending of the ping and the arrival of the answer, so the measured offset is wrong by at most
 * half of the response time, and by the rounding of both clocks to milliseconds.
 */
function expectClockOffset({ clockOffsetsMs, rttMs }: SlotResults, offsetMs: number): void {
  const errorMs = Math.abs((clockOffsetsMs[0] ?? Number.NaN) - offsetMs);
  expect(errorMs).toBeLessThanOrEqual((rttMs[0] ?? Number.NaN) / 2 + 2);
}

describe.each([
  ['udp', PROBE_NUMBERS.udp, false],
  ['http', PROBE_NUMBERS.http, false],
  ['http on kept connections', PROBE_NUMBERS.http, true],
  ['nats', PROBE_NUMBERS.nats, false],
] as const)('the probe %s of a simulated unit', (_, probe, keepAlive) => {
  let prober: Prober;

  beforeAll(async () => {
    prober = await newProber(probe, keepAlive);
    // The first pings of a probe that connects first are discarded.
    await eventually(async () => (await prober.ping()).outcomes[0] !== PING_OUTCOME.discarded);
  });

  test('returns the report of the unit', async () => {
    const { epoch, lastSeq } = unit.model.log;
    for (let time = 1; time <= 3; time += 1) {
      const results = await prober.ping();
      expect([...results.outcomes]).toEqual([PING_OUTCOME.answered]);
      expect(uuidOf(Buffer.from(results.epochs.buffer, results.epochs.byteOffset, EPOCH_BYTES), 0)).toBe(epoch);
      expect(results.lastSeqs[0]).toBe(lastSeq);
      expect(results.rttMs[0]).toBeGreaterThan(0);
      expect(Math.abs((results.sentAtMs[0] ?? 0) - Date.now())).toBeLessThan(5_000);
    }
  });

  test('measures the clock offset of the unit, also when the answer is slow', async () => {
    expectClockOffset(await prober.ping(), 0);
    await faults({ clockSkewMs: -HOUR_MS, latencyMs: LATENCY_MS });
    const delayed = await prober.ping();
    await faults({ clockSkewMs: 0, latencyMs: 0 });
    expectClockOffset(delayed, -HOUR_MS);
  });

  test('tells the unit up to which seq its log is recorded', async () => {
    const { epoch, lastSeq } = unit.model.log;
    await prober.ping({ recorded: { epoch, seq: lastSeq } });
    await eventually(() => unit.model.log.recordedSeq === lastSeq);
  });

  test('gets no answer when it is signed with another key', async () => {
    expect((await prober.ping({ key: new Uint8Array(32) })).outcomes[0]).toBe(PING_OUTCOME.missed);
  });

  test('measures the round-trip time', async () => {
    await faults({ latencyMs: LATENCY_MS });
    const pings: { readonly rttMs: number; readonly tookMs: number }[] = [];
    for (let time = 1; time <= 5; time += 1) {
      const startedMs = performance.now();
      const results = await prober.ping();
      pings.push({ rttMs: results.rttMs[0] ?? Number.NaN, tookMs: performance.now() - startedMs });
    }
    await faults({ latencyMs: 0 });
    // On any machine the response time lies between the delay of the unit and the duration of the whole ping.
    for (const { rttMs, tookMs } of pings) {
      expect(rttMs).toBeGreaterThanOrEqual(LATENCY_MS - 1);
      expect(rttMs).toBeLessThanOrEqual(tookMs);
    }
  });

  test('reports a miss for a unit that is cut off or too slow', async () => {
    await faults({ offline: true });
    expect((await prober.ping()).outcomes[0]).toBe(PING_OUTCOME.missed);
    await faults({ offline: false, latencyMs: 3 * TIMEOUT_MS });
    const startedMs = performance.now();
    const results = await prober.ping();
    // The ping ends before the unit answers.
    expect(performance.now() - startedMs).toBeLessThan(3 * TIMEOUT_MS);
    expect([results.outcomes[0], results.rttMs[0]]).toEqual([PING_OUTCOME.missed, Number.NaN]);
    await faults({ latencyMs: 0 });
  });

  test('reports a miss for an address without a unit', async () => {
    expect((await prober.ping({ port: 1, name: 'NOBODY' })).outcomes[0]).toBe(PING_OUTCOME.missed);
  });
});

test('a ping that cannot be sent is discarded and counts as no miss', async () => {
  const prober = await newProber(PROBE_NUMBERS.nats);
  // It has no connection yet.
  expect((await prober.ping()).outcomes[0]).toBe(PING_OUTCOME.discarded);
});

test('a refused connection counts as a miss, unless this machine cannot connect to itself', async () => {
  let canConnect = false;
  const prober = await newProber(PROBE_NUMBERS.http, false, new SelfConnectCheck(async () => canConnect));
  expect((await prober.ping({ ip: '127.0.0.1', port: 1 })).outcomes[0]).toBe(PING_OUTCOME.discarded);
  canConnect = true;
  expect((await prober.ping({ ip: '127.0.0.1', port: 1 })).outcomes[0]).toBe(PING_OUTCOME.missed);
});

describe('reply datagrams', () => {
  const scripted = new ScriptableUnit({ name: 'PL-UDP', key: randomBytes(32) });
  const good = (nonce: Buffer) => scripted.pingDatagram(nonce);
  const forged = (nonce: Buffer) => scripted.pingDatagram(nonce, randomBytes(32));
  let port: number;

  beforeAll(async () => {
    port = await scripted.listenForDatagrams();
  });
  afterAll(() => scripted.stop());

  /** Pings the unit, which answers each request with the datagrams that `answers` makes of its nonce. */
  async function pingerOf(answers: (nonce: Buffer) => readonly Buffer[]) {
    scripted.datagramAnswers = answers;
    const prober = await newProber(PROBE_NUMBERS.udp);
    return () => prober.ping({ ip: '127.0.0.1', port, key: scripted.key });
  }

  test('that are forged, truncated or garbage are ignored and counted', async () => {
    const ping = await pingerOf((nonce) => [
      forged(nonce),
      good(nonce).subarray(0, PING_DATAGRAM_BYTES - 1),
      Buffer.from('hello'),
    ]);
    const results = await ping();
    expect(results.outcomes[0]).toBe(PING_OUTCOME.forged);
    expect(strays(results)).toEqual({ forged: 1, late: 0, duplicate: 0, malformed: 2, unsent: 0 });
  });

  test('that are forged do not suppress the genuine one that follows', async () => {
    const ping = await pingerOf((nonce) => [forged(nonce), good(nonce)]);
    const results = await ping();
    expect(results.outcomes[0]).toBe(PING_OUTCOME.answered);
    expect(results.configurationHashes).toEqual(new Uint8Array(8).fill(0xcc));
    expect(strays(results)).toMatchObject({ forged: 1 });
  });

  test('that arrive twice count once', async () => {
    const ping = await pingerOf((nonce) => [good(nonce), good(nonce)]);
    expect((await ping()).outcomes[0]).toBe(PING_OUTCOME.answered);
    // The second datagram arrived after the slot had ended, so the next slot counts it.
    await eventually(async () => strays(await ping()).duplicate === 1);
  });

  test('that are late do not answer a later ping', async () => {
    let last: Buffer | undefined;
    const ping = await pingerOf((nonce) => {
      const before = last;
      last = nonce;
      return before === undefined ? [] : [good(before)];
    });
    expect((await ping()).outcomes[0]).toBe(PING_OUTCOME.missed);
    const second = await ping();
    expect(second.outcomes[0]).toBe(PING_OUTCOME.missed);
    expect(strays(second)).toMatchObject({ late: 1 });
  });
});

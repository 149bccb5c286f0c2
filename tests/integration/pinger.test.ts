import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { randomBytes, randomUUID } from 'node:crypto';
import type { CloudEvent } from '../../domain/events/cloud-event.ts';
import { unitHash } from '../../domain/shard.ts';
import { newUnitState } from '../../domain/unit/unit.ts';
import { type Pinger, type PingerOptions, startPinger } from '../../pinger/pinger.ts';
import { systemClock } from '../../pinger/runtime/clock.ts';
import { MIN_SLOT_WIDTH_MS, PingSchedule } from '../../pinger/schedule/ping-schedule.ts';
import type { PingTarget } from '../../pinger/units/target-list.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { MAX_TELEMETRY_RESULTS, type TelemetryResult } from '../../platform/liveness/telemetry-message.ts';
import { AddressResolver, DEFAULT_DENIED } from '../../platform/network/address-resolver.ts';
import { createLog } from '../../platform/observability/log.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { eventually } from '../support/eventually.ts';
import { appendRegistration } from '../support/registration.ts';
import { type PingAnswer, ScriptableUnit } from '../support/scriptable-unit.ts';

const INTERVAL_MS = 500;
const TIMEOUT_MS = 250;
const FAILURES = 3;
const SLOW_MS = 100;
const HOUR_MS = 3_600_000;
/** Times of pings and arrivals are rounded to milliseconds, on two clocks. */
const ROUNDING_MS = 3;

const units: ScriptableUnit[] = [];
const lines: string[] = [];
const log = createLog((line) => lines.push(line), Date.now);
const EPOCH = '018f0000-0000-7000-8000-000000000001';

function unit(index: number): ScriptableUnit {
  const found = units[index];
  if (found === undefined) throw new RangeError(`there is no unit ${index}`);
  return found;
}

/** A change feed that cannot tell which units changed: the pinger reads all of them every time. */
const ANY_CHANGE = { take: () => 'all' as const, putBack: () => undefined };
const LIARS: readonly PingAnswer[] = ['wrong-mac', 'old-nonce', 'other-unit', 'no-json'];
const good = () => units.slice(0, 30);
const slow = () => units.slice(30, 35);
const silent = () => units.slice(35, 40);
const refusing = () => units.slice(40, 42);
const liars = () => units.slice(42, 46);
const strange = () => units.slice(46, 50);

beforeAll(async () => {
  for (let index = 0; index < 50; index += 1) {
    const host = `127.77.0.${index + 1}`;
    const unit = new ScriptableUnit({ name: `PL-${index}`, host, key: randomBytes(32), epoch: EPOCH });
    unit.lastSeq = 7;
    units.push(unit);
  }
  await Promise.all(units.map((each) => each.listen()));
});

afterAll(async () => {
  await Promise.all(units.map((each) => each.stop()));
});

interface World {
  readonly pinger: Pinger;
  readonly targets: Map<string, PingTarget>;
  readonly telemetry: TelemetryResult[];
  readonly batches: number[];
  transitions(name: string): Promise<readonly CloudEvent[]>;
}

const addresses = new AddressResolver({ denied: DEFAULT_DENIED, lookup: async () => [] });
const running: Pinger[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((pinger) => pinger.stop()));
  for (const each of units) {
    each.pingAnswer = 'good';
    each.delayMs = 0;
    each.pingedAtMs.length = 0;
    each.forgedPings = 0;
    if (!each.isListening) await each.listen();
  }
});

function targetOf(target: Pick<PingTarget, 'name' | 'address'> & Partial<PingTarget>): PingTarget {
  return { hash: unitHash(target.name), probe: 'http', keyVersion: 1, inUse: true, ...target };
}

/** A pinger over a platform in memory, where every unit is registered. */
async function start(watched: readonly ScriptableUnit[], changes: Partial<PingerOptions> = {}): Promise<World> {
  const store = new MemoryEventStore(Date.now);
  const decider = new UnitDecider({
    store,
    loadSnapshot: async (name) => ({ state: newUnitState(name), completeTo: 0 }),
    newId: randomUUID,
    clock: Date.now,
    random: Math.random,
    sleep: Bun.sleep,
    log,
  });
  const targets = new Map<string, PingTarget>();
  for (const { name, address } of watched) {
    await appendRegistration(decider, name, { address });
    targets.set(name, { ...targetOf({ name, address }), recorded: { epoch: EPOCH, seq: 1 } });
  }
  const keys = new Map(watched.map(({ name, key }) => [name, key]));
  const [telemetry, batches]: [TelemetryResult[], number[]] = [[], []];
  const pinger = startPinger({
    targets: { read: async () => [...targets.values()], changes: ANY_CHANGE },
    owns: () => true,
    unitKey: (name) => keys.get(name) ?? new Uint8Array(32),
    decider,
    publishTelemetry: (results) => {
      telemetry.push(...results);
      batches.push(results.length);
    },
    resolve: (address) => addresses.resolve(address),
    canReceiveHeartbeats: () => true,
    newId: randomUUID,
    clock: systemClock,
    random: Math.random,
    config: {
      intervalMs: INTERVAL_MS,
      timeoutMs: TIMEOUT_MS,
      failuresToOffline: FAILURES,
      threads: 2,
      httpKeepAlive: false,
    },
    log,
    ...changes,
  });
  running.push(pinger);
  const transitions = async (name: string) =>
    (await store.tail(name, 0)).filter(({ aggregate }) => aggregate === 'connectivity').flatMap((m) => m.events());
  return { pinger, targets, telemetry, batches, transitions };
}

function heartbeatOf({ name, lastSeq }: ScriptableUnit, clockMs: number): Uint8Array {
  const time = new Date(clockMs).toISOString();
  const reply = {
    unit: name,
    bootId: 'boot',
    uptimeS: 1,
    configurationHash: 'c'.repeat(64),
    epoch: EPOCH,
    lastSeq,
    time,
  };
  return new TextEncoder().encode(JSON.stringify(reply));
}

const typesOf = async (world: World, { name }: ScriptableUnit) =>
  (await world.transitions(name)).map(({ type }) => type);

/** The last answered ping in each summary of the units: when it was sent, and its response time. */
function answersOf(
  { telemetry }: World,
  group: readonly ScriptableUnit[],
): { readonly at: number; readonly rttMs: number }[] {
  return telemetry.flatMap((result) =>
    result.heard === 'pings' && result.last !== undefined && group.some(({ name }) => name === result.unit)
      ? [result.last]
      : [],
  );
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Waits until a unit was pinged so many more times. */
async function pinged(each: ScriptableUnit, times: number): Promise<void> {
  const before = each.pingedAtMs.length;
  await eventually(() => each.pingedAtMs.length >= before + times, { timeoutMs: INTERVAL_MS * (times + 5) });
}

describe('a mixed fleet', () => {
  test('each unit has the status of its behaviour, and none delays another', async () => {
    for (const each of slow()) each.delayMs = SLOW_MS;
    for (const each of silent()) each.pingAnswer = 'silent';
    for (const each of refusing()) await each.stopListening();
    liars().forEach((each, index) => {
      each.pingAnswer = LIARS[index] ?? 'wrong-mac';
    });
    for (const each of strange().slice(0, 2)) each.pingAnswer = 'error';
    for (const each of strange().slice(2)) each.pingAnswer = 'no-http';
    const world = await start(units);

    await eventually(() => world.pinger.status().states.online === good().length + slow().length);
    await pinged(unit(0), 4);

    for (const each of [...good(), ...slow()]) expect(await typesOf(world, each)).toEqual(['UnitWentOnline']);
    for (const each of [...silent(), ...refusing(), ...liars(), ...strange()]) {
      expect(await world.transitions(each.name)).toEqual([]);
    }
    expect(units.map(({ forgedPings }) => forgedPings)).toEqual(units.map(() => 0));

    const { states, totals, scheduleLagMs, units: watched } = world.pinger.status();
    expect(watched).toBe(units.length);
    expect(states.offline).toBe(0);
    expect(totals.forged).toBeGreaterThanOrEqual(LIARS.length * 3);
    // A loaded machine lets threads wait, and pings are discarded. Units that hold their pings for the whole time-out do not shift the others.
    expect(totals.discarded).toBeLessThan(totals.answered);
    expect(scheduleLagMs.p99).toBeLessThan(INTERVAL_MS);
    // The pinger reports by how much its scheduled pings were late at most: no more than that are they off their phase.
    const offsetsMs = good().map((each) => offPhaseMs(world, each));
    expect(median(offsetsMs)).toBeLessThanOrEqual(scheduleLagMs.max + ROUNDING_MS);
    for (const each of good()) expectArrivalsWithinResponseTimes(world, each);
  }, 20_000);

  /** By how much the last pings of a unit left off its phase, on average. The first, a join ping, is not among them. */
  function offPhaseMs(world: World, each: ScriptableUnit): number {
    const phaseMs = new PingSchedule(INTERVAL_MS, MIN_SLOT_WIDTH_MS).phaseOf(unitHash(each.name));
    const offsetsMs = answersOf(world, [each])
      .slice(-3)
      .map(({ at }) => {
        const offsetMs = (((at - phaseMs) % INTERVAL_MS) + INTERVAL_MS) % INTERVAL_MS;
        return Math.min(offsetMs, INTERVAL_MS - offsetMs);
      });
    return offsetsMs.reduce((sum, offsetMs) => sum + offsetMs, 0) / offsetsMs.length;
  }

  /** Every answered ping arrived at the unit between its sending and the arrival of its answer. */
  function expectArrivalsWithinResponseTimes(world: World, each: ScriptableUnit): void {
    const arrivalsMs = each.pingedAtMs.map((atMs) => performance.timeOrigin + atMs);
    for (const { at, rttMs } of answersOf(world, [each])) {
      const isWithin = (atMs: number) => atMs >= at - ROUNDING_MS && atMs <= at + rttMs + ROUNDING_MS;
      expect(arrivalsMs.some(isWithin)).toBe(true);
    }
  }

  test('response times are measured from the send and have the latency of the units', async () => {
    for (const each of slow()) each.delayMs = SLOW_MS;
    for (const each of silent()) each.pingAnswer = 'silent';
    const watched = [...good(), ...slow(), ...silent()];
    const world = await start(watched);
    await eventually(() => world.pinger.status().states.online === good().length + slow().length);
    await pinged(unit(0), 3);

    const of = (group: readonly ScriptableUnit[]) =>
      world.telemetry.filter((result) => group.some(({ name }) => name === result.unit));
    expect(of(good()).length).toBeGreaterThan(good().length * 2);
    const timesOf = (group: readonly ScriptableUnit[]) => answersOf(world, group).map(({ rttMs }) => rttMs);
    expect(Math.min(...timesOf(slow()))).toBeGreaterThanOrEqual(SLOW_MS - 1);
    expect(Math.min(...timesOf(good()))).toBeGreaterThan(0);
    // A slow unit adds its own delay to what the machine takes for a good one, and a good unit does not wait for slow ones.
    const addedMs = median(timesOf(slow())) - median(timesOf(good()));
    expect(addedMs).toBeGreaterThan(SLOW_MS / 2);
    expect(addedMs).toBeLessThan(2 * SLOW_MS);
    expect(median(timesOf(good()))).toBeLessThan(median(timesOf(slow())));
    expect(of(silent()).length).toBeGreaterThan(0);
    for (const result of of(silent())) expect(result).toMatchObject({ heard: 'pings', sent: 1, lost: 1 });
    expect(of(good())[0]).toMatchObject({ last: { epoch: EPOCH, lastSeq: 7, configurationHash: 'c'.repeat(16) } });
    expect(Math.max(...world.batches)).toBeLessThanOrEqual(MAX_TELEMETRY_RESULTS);
    for (const { at } of world.telemetry) expect(Math.abs(at - Date.now())).toBeLessThan(30_000);
  }, 20_000);
});

describe('a unit that goes offline and comes back', () => {
  test('has one event for each transition', async () => {
    const [online, closing, unresponsive] = [unit(0), unit(1), unit(2)];
    const world = await start([online, closing, unresponsive]);
    await eventually(() => world.pinger.status().states.online === 3);
    for (let round = 1; round <= 2; round += 1) {
      await closing.stopListening();
      unresponsive.pingAnswer = 'silent';
      await eventually(() => world.pinger.status().states.offline === 2);
      await pinged(online, 2);
      await closing.listen();
      unresponsive.pingAnswer = 'good';
      await eventually(() => world.pinger.status().states.online === 3);
    }
    const alternating = ['UnitWentOnline', 'UnitWentOffline', 'UnitWentOnline', 'UnitWentOffline', 'UnitWentOnline'];
    for (const each of [closing, unresponsive]) expect(await typesOf(world, each)).toEqual(alternating);
    expect(await typesOf(world, online)).toEqual(['UnitWentOnline']);
    const [, wentOffline, wentOnline] = await world.transitions(closing.name);
    expect(wentOffline?.data).toMatchObject({ missedPings: FAILURES });
    expect(Number(wentOnline?.data.awayMs)).toBeGreaterThan((FAILURES - 1) * INTERVAL_MS);
  }, 30_000);

  test('goes offline after the configured number of intervals and the timeout, not sooner', async () => {
    const each = unit(3);
    const world = await start([each]);
    await eventually(() => world.pinger.status().states.online === 1);
    await pinged(each, 1);
    const lastProofMs = Date.now();
    each.pingAnswer = 'silent';
    await eventually(() => world.pinger.status().states.offline === 1);
    const took = Date.now() - lastProofMs;
    expect(took).toBeGreaterThan((FAILURES - 1) * INTERVAL_MS);
    expect(took).toBeLessThan(FAILURES * INTERVAL_MS + TIMEOUT_MS + 500);
    const offline = (await world.transitions(each.name)).at(-1);
    const provenMs = Date.parse(String(offline?.data.lastProofAt));
    expect(Math.abs(provenMs - lastProofMs)).toBeLessThan(INTERVAL_MS);
  }, 20_000);
});

describe('ping targets', () => {
  test('are added, moved and removed while the pinger runs, and get the recorded seq', async () => {
    const [first, second] = [unit(5), unit(6)];
    const world = await start([first, second]);
    const mine = world.targets.get(second.name);
    if (mine === undefined) throw new Error('the unit is no target');
    world.targets.set(second.name, { ...mine, inUse: false });
    await eventually(() => world.pinger.status().states.online === 1 && world.pinger.status().units === 1);

    second.pingedAtMs.length = 0;
    world.targets.set(second.name, { ...mine, recorded: { epoch: EPOCH, seq: 42 } });
    await eventually(() => second.recorded?.seq === 42);
    await eventually(() => world.pinger.status().states.online === 2);

    world.targets.set(second.name, { ...mine, inUse: false });
    await eventually(() => world.pinger.status().units === 1);
    expect(world.pinger.status().states).toEqual({ unknown: 0, 'never-seen': 0, online: 1, offline: 0 });
    await pinged(first, 1);
    const pings = second.pingedAtMs.length;
    await pinged(first, 2);
    expect(second.pingedAtMs.length).toBe(pings);
  }, 20_000);

  test('with an invalid address are not pinged, and stay online by their heartbeats', async () => {
    const [pingable, beyond] = [unit(7), unit(8)];
    const read = async () => [
      targetOf({ name: pingable.name, address: pingable.address, probe: 'http' }),
      targetOf({ name: beyond.name, address: 'nowhere', probe: 'udp' }),
    ];
    lines.length = 0;
    const world = await start([pingable, beyond], { targets: { read, changes: ANY_CHANGE } });
    await eventually(() => world.pinger.status().states.online === 1);
    expect(world.pinger.status().notPinged).toBe(1);
    const heardMs = Date.now();
    world.pinger.recordHeartbeat(beyond.name, heartbeatOf(beyond, heardMs + HOUR_MS), heardMs);
    await eventually(() => world.pinger.status().states.online === 2);
    expect(await eventually(() => world.telemetry.find((result) => result.unit === beyond.name) ?? false)).toEqual({
      heard: 'heartbeat',
      unit: beyond.name,
      at: heardMs,
      epoch: EPOCH,
      lastSeq: 7,
      configurationHash: 'c'.repeat(64),
      clockOffsetMs: HOUR_MS,
    });
    await pinged(pingable, FAILURES + 1);
    expect(world.pinger.status().states.online).toBe(2);
    expect(await world.transitions(beyond.name)).toMatchObject([{ data: { evidence: 'heartbeat' } }]);
  }, 20_000);

  test('with unreadable heartbeats stay online by pings', async () => {
    const beyond = unit(8);
    const read = async () => [targetOf({ name: beyond.name, address: 'nowhere', probe: 'udp' })];
    const world = await start([beyond], { targets: { read, changes: ANY_CHANGE } });
    const heardMs = Date.now();
    world.pinger.recordHeartbeat(beyond.name, heartbeatOf(unit(7), heardMs), heardMs);
    await eventually(() => world.pinger.status().states.online === 1);
    expect(world.pinger.status().totals).toMatchObject({ heartbeats: 1, unreadableHeartbeats: 1 });
    await world.pinger.stop();
    expect(world.telemetry).toEqual([{ heard: 'heartbeat', unit: beyond.name, at: heardMs }]);
  }, 20_000);

  test('that cannot be read do not stop the pings of the known ones', async () => {
    const each = unit(9);
    let away = false;
    const read = async () => {
      if (away) throw new Error('the database is away');
      return [targetOf({ name: each.name, address: each.address })];
    };
    lines.length = 0;
    const world = await start([each], { targets: { read, changes: ANY_CHANGE } });
    await eventually(() => world.pinger.status().states.online === 1);
    away = true;
    await eventually(() => lines.some((line) => line.includes('Reading the units to ping fails.')));
    await pinged(each, 2);
    away = false;
    await eventually(() => lines.some((line) => line.includes('Reading the units to ping works again.')));
    expect(world.pinger.status()).toMatchObject({ units: 1, states: { online: 1 } });
  }, 20_000);
});

test('pings and transitions continue while telemetry cannot be published', async () => {
  const each = unit(10);
  lines.length = 0;
  const publishTelemetry = () => {
    throw new Error('NATS is away');
  };
  const world = await start([each], { publishTelemetry });
  await eventually(() => world.pinger.status().states.online === 1);
  await pinged(each, 2);
  expect(lines.filter((line) => line.includes('Publishing telemetry fails.'))).toHaveLength(1);
});

test('a stopped pinger sends no pings', async () => {
  const each = unit(11);
  const world = await start([each]);
  await eventually(() => world.pinger.status().states.online === 1);
  each.pingAnswer = 'silent';
  await pinged(each, 1);
  await world.pinger.stop();
  const pings = each.pingedAtMs.length;
  await Bun.sleep(2 * INTERVAL_MS);
  expect(each.pingedAtMs.length).toBe(pings);
});

/**
 * What a unit has logged is what is recorded of it: every entry, in order, once, whatever the network, the unit and the
 * server go through. A unit's own log is copied entry by entry as it becomes durable, since the unit deletes what the
 * platform names recorded.
 */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { Random } from '../../device-sim/environment/random.ts';
import { NO_FAULTS } from '../../device-sim/faults/faults.ts';
import { configurationHash } from '../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { EventOf } from '../../domain/events/catalogue.ts';
import { type Aggregate, type CloudEvent, lockerOfSubject } from '../../domain/events/cloud-event.ts';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { NatsEventStore } from '../../platform/nats/event-store.ts';
import { Client } from '../support/client.ts';
import { connectThrough, startTestFleet, type TestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { type Direction, FaultProxy } from '../support/fault-proxy.ts';
import { quietLog } from '../support/nats.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';

const UNITS = 10;
const LOCKERS = 4;
const STEPS = 60;
const STEP_MS = 200;
/** The server is killed at this step. */
const KILL_AT_STEP = 40;
const WALK_UPS_PER_MINUTE = 1_500;
const MAX_STALL_MS = 1_500;
/** A delivery that a killed server did not acknowledge comes again after half a minute. */
const DRAIN_TIMEOUT_MS = 120_000;
/** A little faster than a unit does by default. */
const PUSH_INTERVAL_MS = 250;
const MAX_LOG_READ = 500;
/** The customers go on after the last step until the units have logged so many entries. */
const MIN_ENTRIES = 500;
const LOAD_TIMEOUT_MS = 60_000;

let platform: Platform;
let fleet: TestFleet;
let nats: Nats;
/** Between the platform's processes and NATS, and between the units and NATS. */
let backbone: FaultProxy;
let field: FaultProxy;
/** What happens to whom. Chance in the proxies is their own, so that time does not change what is drawn here. */
const random = seededRandom();
/** By unit and epoch: what the unit has committed, in order. */
const logs = new Map<string, Map<string, BatchEvent[]>>();

beforeAll(async () => {
  platform = await startPlatform({
    purpose: 'unit-log',
    // Nothing is fetched: that would make good what ingest has lost.
    env: { ROLES: 'api,ingest,pinger', PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '500' },
    natsThrough: async (target) => {
      backbone = await FaultProxy.start({ target, random: new Random(random.seed, 'backbone') });
      return backbone.url;
    },
  });
  // The first decision on a unit reads a snapshot: the projections must have made their tables.
  const ops = new Client(platform.api, await platform.token('ops', 'operator'));
  await eventually(async () => (await ops.get('/v1/units?limit=1')).status === 200, { timeoutMs: 30_000 });
  nats = await Nats.connect({ url: platform.nats.url, creds: platform.natsCreds, name: 'unit log', log: quietLog });
  field = await FaultProxy.start({ target: platform.nats.url, random: new Random(random.seed, 'field') });
  const values = { ...defaultConfiguration(600).values, pushIntervalMs: PUSH_INTERVAL_MS };
  fleet = await startTestFleet(
    { url: platform.api },
    {
      units: UNITS,
      lockers: LOCKERS,
      seed: random.seed,
      platform: { url: platform.api, opsToken: async () => (await platform.token('ops', 'sim')).split(' ')[1] ?? '' },
      factoryConfiguration: { version: 1, hash: configurationHash(values), values },
      customers: {
        walkUpsPerMinute: WALK_UPS_PER_MINUTE,
        visit: { rentalMinutes: [15, 60], stepMs: [50, 400], reopenChance: 0.3 },
      },
    },
  );
  for (const unit of fleet.units.values()) copyLog(unit);
  await connectThrough(fleet, field.url);
}, 300_000);

afterAll(async () => {
  await fleet?.stop();
  await nats?.close();
  await platform?.stop();
  await Promise.all([field?.stop(), backbone?.stop()]);
});

/** From now on: nothing that it had before may be missing, so it is called before anything is recorded. */
function copyLog(unit: EmulatedUnit): void {
  const epochs = new Map<string, BatchEvent[]>();
  logs.set(unit.name, epochs);
  const copy = () => {
    const { epoch } = unit.model.log;
    const entries = epochs.get(epoch) ?? [];
    epochs.set(epoch, entries);
    for (const body of unit.entries(entries.length + 1, MAX_LOG_READ).bodies) entries.push(JSON.parse(body));
  };
  copy();
  unit.onChange((change) => {
    if (change === 'entries') copy();
  });
}

/** The number of entries that all units have logged, in all their epochs. */
function loggedEntries(): number {
  return [...logs.values()].flatMap((epochs) => [...epochs.values()]).reduce((sum, { length }) => sum + length, 0);
}

/** Applies one random fault, or ends one. @returns a description of it for the failure report */
async function disturb(unit: EmulatedUnit, { next, below, pick }: SeededRandom): Promise<string> {
  const proxy = pick([field, field, backbone]);
  const where = proxy === field ? 'units' : 'platform';
  const chance = below(100);
  if (chance < 10) return `${proxy.cut()} connections of the ${where} reset`;
  if (chance < 20) {
    const bytes = 1 + below(3_000);
    const direction = pick<Direction>(['up', 'down']);
    proxy.cutAfter(bytes, direction);
    return `connections of the ${where} cut ${direction} after ${bytes} bytes`;
  }
  if (chance < 30) {
    const stalled = pick<Direction[]>([['up'], ['down'], ['up', 'down']]);
    proxy.set({ stalled });
    setTimeout(() => proxy.set({ stalled: [] }), next() * MAX_STALL_MS);
    return `the ${where} stalled ${stalled.join(' and ')}`;
  }
  if (chance < 38) {
    const change = { delayMs: below(60), jitterMs: below(60), bytesPerS: pick([20_000, 200_000, 1e9]) };
    proxy.set(change);
    return `the ${where} ${JSON.stringify(change)}`;
  }
  if (chance < 42) {
    proxy.heal();
    return `the ${where} healed`;
  }
  if (chance < 48) return `${unit.name} reboots ${(await unit.reboot()).bootId}`;
  if (chance < 54) return `${unit.name} is wiped ${(await unit.wipe()).epoch}`;
  const change = pick([
    { offline: true },
    { offline: true, duplicatePushes: true },
    { offline: false },
    { offline: false, reorderPushes: true },
    { duplicatePushes: true, reorderPushes: true, offline: false },
    { lossRate: next() / 2, offline: false },
    { latencyMs: below(300), jitterMs: below(300) },
    { latencyMs: 0, jitterMs: 0, lossRate: 0, offline: false, reorderPushes: false },
  ]);
  await unit.setFaults(change);
  return `${unit.name} ${JSON.stringify(change)}`;
}

/** Ends all faults and stops the customers. Going offline and online makes units reconnect at once, without their backoff. */
async function heal(): Promise<void> {
  fleet.customers.stop();
  for (const proxy of [backbone, field]) proxy.heal();
  await Promise.all([...fleet.units.values()].map((unit) => unit.setFaults({ ...NO_FAULTS, offline: true })));
  await Promise.all([...fleet.units.values()].map((unit) => unit.setFaults(NO_FAULTS)));
}

interface Recorded {
  /** By epoch, in the order of the store. */
  readonly epochs: ReadonlyMap<string, readonly BatchEvent[]>;
  /** `EPOCH:SEQ` of what the platform says is lost for good. */
  readonly lost: ReadonlySet<string>;
}

async function recordedOf(unit: string): Promise<Recorded> {
  const messages = await new NatsEventStore(
    nats,
    () => crypto.randomUUID(),
    () => performance.now(),
  ).tail(unit, 0);
  const eventsOf = (aggregate: Aggregate) =>
    messages.flatMap((message) => (message.aggregate === aggregate ? message.events() : []));
  const epochs = Map.groupBy(eventsOf('device'), ({ unitepoch = '' }) => unitepoch);
  const lost = eventsOf('log').flatMap(({ type, data }) => {
    const { epoch, fromSeq, toSeq, lost } = data as EventOf<'UnitLogGapClosed'>;
    if (type !== 'UnitLogGapClosed' || !lost) return [];
    return Array.from({ length: toSeq - fromSeq + 1 }, (_, index) => `${epoch}:${fromSeq + index}`);
  });
  return { epochs: new Map([...epochs].map(([epoch, list]) => [epoch, list.map(toEntry)])), lost: new Set(lost) };
}

/** The entry that an event was made of. */
function toEntry({ unitseq = 0, dataschema, type, time, subject, offline, causationid, data }: CloudEvent): BatchEvent {
  const locker = lockerOfSubject(subject);
  return {
    seq: unitseq,
    v: Number(dataschema.split('/')[1]),
    type,
    time,
    ...(locker === undefined ? {} : { locker }),
    ...(offline === undefined ? {} : { offline }),
    ...(causationid === undefined ? {} : { causationId: causationid }),
    data,
  };
}

/** @throws Error what is not yet recorded of the unit's present epoch */
async function requireDrained({ name, model }: EmulatedUnit): Promise<true> {
  const { epoch, lastSeq } = model.log;
  const seq = (await recordedOf(name)).epochs.get(epoch)?.at(-1)?.seq ?? 0;
  if (seq < lastSeq) throw new Error(`${name}/${epoch}: ${seq} of ${lastSeq} are recorded`);
  return true;
}

/**
 * Compares what is recorded of a unit with its own logs. What a unit had not pushed when it was wiped is gone: the end of
 * that epoch, and what the platform calls lost where a later batch overtook an earlier one. Its present epoch is whole.
 */
async function compare({ name, model }: EmulatedUnit): Promise<number> {
  const own = logs.get(name) ?? new Map<string, BatchEvent[]>();
  const { epochs, lost } = await recordedOf(name);
  expect([...own.keys()]).toEqual(expect.arrayContaining([...epochs.keys()]));
  let compared = 0;
  for (const [epoch, entries] of own) {
    expect(entries.map(({ seq }) => seq)).toEqual(entries.map((_, index) => index + 1));
    const events = epochs.get(epoch) ?? [];
    const last = events.at(-1)?.seq ?? 0;
    const present = epoch === model.log.epoch;
    const wanted = present ? entries : entries.filter(({ seq }) => seq <= last && !lost.has(`${epoch}:${seq}`));
    // The places first: when they are wrong, contents would only hide it.
    const places = (list: readonly BatchEvent[]) => ({ unit: name, epoch, seqs: list.map(({ seq }) => seq).join(' ') });
    expect(places(events)).toEqual(places(wanted));
    expect(events).toEqual(wanted);
    compared += events.length;
  }
  return compared;
}

test('every entry of a unit log is recorded once and in order under network faults, restarts of units and a killed server', async () => {
  const units = [...fleet.units.values()] as [EmulatedUnit, ...EmulatedUnit[]];
  const history: string[] = [];
  let killed = Promise.resolve();
  try {
    for (let step = 0; step < STEPS; step += 1) {
      history.push(`${step}: ${await disturb(random.pick(units), random)}`);
      if (step === KILL_AT_STEP) {
        history.push('kill -9: server');
        killed = platform.server.killAndRestart();
      }
      await Bun.sleep(STEP_MS);
    }
    await killed;
    await Bun.sleep(MAX_STALL_MS);
    await eventually(() => loggedEntries() > MIN_ENTRIES, { timeoutMs: LOAD_TIMEOUT_MS });
    await heal();
    const healedMs = performance.now();
    const waitOptions = { timeoutMs: DRAIN_TIMEOUT_MS, intervalMs: 250 };
    await Promise.all(units.map((unit) => eventually(() => requireDrained(unit), waitOptions)));
    const drainS = (performance.now() - healedMs) / 1_000;
    let compared = 0;
    for (const unit of units) compared += await compare(unit);
    const epochs = [...logs.values()].reduce((sum, each) => sum + each.size, 0);
    console.log(
      `${compared} entries in ${epochs} epochs of ${UNITS} units, all there ${drainS.toFixed(0)} s after the last fault`,
    );
    expect(compared).toBeGreaterThan(0);
  } catch (error) {
    console.log(history.join('\n'));
    throw error;
  }
}, 300_000);

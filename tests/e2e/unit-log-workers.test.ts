/**
 * Who takes what units push: at first nobody does, then one server, then two of which one is killed. And a unit that is killed
 * itself while its backlog drains. The tests go on where the one before has ended.
 */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { configurationHash } from '../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { api as jetstream } from '../../platform/nats/jetstream.ts';
import { MAX_INBOX_BATCHES_PER_UNIT } from '../../platform/nats/streams.ts';
import { unitPushSubject } from '../../platform/nats/subjects.ts';
import { Client, items } from '../support/client.ts';
import { startTestFleet, type TestFleet, type TestFleetOptions } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { quietLog } from '../support/nats.ts';
import { type Platform, type PlatformProcess, startPlatform } from '../support/platform.ts';
import { ScriptableUnit } from '../support/scriptable-unit.ts';
import { detailOf, expectWhole } from './unit-logs.ts';

const WAIT = { timeoutMs: 45_000, intervalMs: 50 };
/**
 * A member counts as gone after 3 s, what it had under way comes again after 8 s, and what waits behind that is looked at again
 * within 8 s more.
 */
const TAKEOVER_MS = 25_000;
const MAX_MESSAGES_PER_SUBJECT = 10077;
/** Reboots of the blackout: eight batches. */
const BACKLOG = 3_900;
/** How long each push takes while they drain, and each ping: no longer than one may take. */
const PUSH_DELAY_MS = 700;
const SIMULATED = 'PL-1000';

let platform: Platform;
let ops: Client;
let nats: Nats;
let worker: PlatformProcess | undefined;
const fleets: TestFleet[] = [];
const scripted: ScriptableUnit[] = [];

beforeAll(async () => {
  const pings = { PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '950', PINGER_THREADS: '1' };
  const env = { ...pings, FETCH_INTERVAL_MS: '1000', ROLES: 'api,reactor,pinger', SIM_LOCKERS: '6' };
  platform = await startPlatform({ purpose: 'unit-log-workers', env, units: 1 });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
  nats = await Nats.connect({ url: platform.nats.url, creds: platform.natsCreds, name: 'tests', log: quietLog });
}, 60_000);

afterAll(async () => {
  await Promise.all([...fleets.map((fleet) => fleet.stop()), ...scripted.map((unit) => unit.stop())]);
  await nats.close();
  await platform.stop();
});

function startWorker(): PlatformProcess {
  return platform.startServer({ ROLES: 'ingest,fetch' });
}

async function startUnits(seed: number, changes: Partial<TestFleetOptions> = {}): Promise<TestFleet> {
  const opsToken = async () => (await platform.token('ops', 'field')).slice('Bearer '.length);
  const api = { url: platform.api, opsToken };
  const fleet = await startTestFleet(api, { units: 1, seed, platform: api, ...changes });
  fleets.push(fleet);
  await eventually(() => fleet.readiness().connected === fleet.units.size, WAIT);
  return fleet;
}

/** As often as the platform allows. */
function hastyConfiguration() {
  const { values } = defaultConfiguration(600);
  const hasty = { ...values, pushIntervalMs: 50 };
  return { version: 1, hash: configurationHash(hasty), values: hasty };
}

/** The batches of a unit that wait in the stream. */
async function waiting(unit: string): Promise<number> {
  const subject = unitPushSubject(unit);
  const body = { subjects_filter: subject };
  const info = await jetstream<{ state: { subjects?: Record<string, number> } }>(nats, 'STREAM.INFO.UNIT_INBOX', body);
  return info.state.subjects?.[subject] ?? 0;
}

async function expectRecorded(unit: Pick<EmulatedUnit, 'name' | 'model'>): Promise<void> {
  await eventually(async () => {
    const { log } = await detailOf(ops, unit.name);
    return log?.epoch === unit.model.log.epoch && log.recordedSeq === unit.model.log.lastSeq;
  }, WAIT);
  await expectWhole(ops, unit.name, unit.model.log);
}

function onlyUnit(fleet: TestFleet): EmulatedUnit {
  const [unit] = fleet.units.values();
  if (unit === undefined) throw new Error('there is no unit');
  return unit;
}

let crowded: TestFleet | undefined;
let listened: ScriptableUnit | undefined;

test('while nobody takes them, the batches of a unit are refused beyond its bound, and those of others are not', async () => {
  const fleet = await startUnits(30, { factoryConfiguration: hastyConfiguration() });
  crowded = fleet;
  const unit = onlyUnit(fleet);
  await eventually(async () => {
    await unit.reboot();
    return fleet.metrics.failedPushes > 0;
  }, WAIT);
  expect(await waiting(unit.name)).toBe(MAX_INBOX_BATCHES_PER_UNIT);
  // What does not fit stays at the unit, which works on.
  const { acknowledgedSeq } = unit.model.log;
  await unit.reboot();
  expect(unit.model.log.lastSeq).toBeGreaterThan(acknowledgedSeq);

  const other = await ScriptableUnit.register(ops, 'LOG-FULL');
  scripted.push(other);
  listened = other;
  const at = { v: 1, time: new Date().toISOString(), type: 'UnitRestarted' };
  other.events = Array.from({ length: MAX_INBOX_BATCHES_PER_UNIT + 2 }, (_, index) => {
    return { ...at, seq: index + 1, data: { bootId: String(index) } };
  });
  for (const { seq } of other.events.slice(0, MAX_INBOX_BATCHES_PER_UNIT)) {
    expect(await other.pushRange(seq, seq)).toMatchObject({ stream: 'UNIT_INBOX' });
  }
  const refused = await other.pushRange(MAX_INBOX_BATCHES_PER_UNIT + 1, MAX_INBOX_BATCHES_PER_UNIT + 1);
  expect(refused.error).toMatchObject({ err_code: MAX_MESSAGES_PER_SUBJECT });
  expect(await waiting(other.name)).toBe(MAX_INBOX_BATCHES_PER_UNIT);
}, 60_000);

let bereaved: TestFleet | undefined;

test('a batch that was acknowledged may get lost before anybody has looked at it', async () => {
  const fleet = await startUnits(31, { units: 2, factoryConfiguration: hastyConfiguration() });
  bereaved = fleet;
  const [tail, middle] = [...fleet.units.values()];
  if (tail === undefined || middle === undefined) throw new Error('there are no two units');
  for (const unit of [tail, middle]) {
    const isAcknowledged = () => unit.model.log.acknowledgedSeq === unit.model.log.lastSeq;
    await eventually(isAcknowledged, WAIT);
    const before = await waiting(unit.name);
    await unit.reboot();
    await eventually(isAcknowledged, WAIT);
    await eventually(async () => (await waiting(unit.name)) > before, WAIT);
    const last = { last_by_subj: unitPushSubject(unit.name) };
    const { message } = await jetstream<{ message: { seq: number } }>(nats, 'STREAM.MSG.GET.UNIT_INBOX', last);
    await jetstream(nats, 'STREAM.MSG.DELETE.UNIT_INBOX', { seq: message.seq });
    if (unit === middle) await unit.reboot();
    await eventually(isAcknowledged, WAIT);
  }
  expect(fleet.metrics.failedPushes).toBe(0);
}, 60_000);

test('once somebody takes them, all is recorded in order, and refused units push on', async () => {
  const [fleet, other] = [crowded, listened];
  if (fleet === undefined || other === undefined) throw new Error('nobody has pushed');
  worker = startWorker();
  await eventually(async () => (await waiting(other.name)) === 0, WAIT);
  for (const { seq } of other.events.slice(MAX_INBOX_BATCHES_PER_UNIT)) {
    expect(await other.pushRange(seq, seq)).toMatchObject({ stream: 'UNIT_INBOX' });
  }
  const wanted = other.events.length;
  await eventually(async () => (await detailOf(ops, other.name)).log?.recordedSeq === wanted, WAIT);
  await expectWhole(ops, other.name, { epoch: other.epoch, lastSeq: wanted });
  await expectRecorded(onlyUnit(fleet));
}, 60_000);

test('what was lost is fetched after a while, though the unit believes it to be delivered', async () => {
  if (bereaved === undefined) throw new Error('nobody has pushed');
  for (const unit of bereaved.units.values()) {
    await expectRecorded(unit);
    await eventually(
      async () =>
        expect(await detailOf(ops, unit.name)).toMatchObject({ state: 'online', backlog: 0, gaps: [], lost: [] }),
      WAIT,
    );
  }
}, 60_000);

test('a blackout drains in order while operators watch, also when the unit is killed in the middle', async () => {
  const sim = new Client(platform.sim);
  const act = async (path: string, body?: unknown) => {
    const answer = await sim.post(`/units/${SIMULATED}${path}`, body);
    expect(answer.status).toBe(200);
    return answer.body;
  };
  const logOf = async () =>
    (await sim.get(`/units/${SIMULATED}`)).body.log as { epoch: string; lastSeq: number; recordedSeq: number };
  const shown = async () => items(await ops.get(`/v1/units?q=${SIMULATED}`))[0] ?? {};
  await eventually(async () => expect(await shown()).toMatchObject({ state: 'online', backlog: 0 }), WAIT);
  await act('/faults', { offline: true });
  await eventually(async () => (await shown()).state === 'offline', WAIT);
  const { lastSeq: seqBefore } = await logOf();
  const rentals: unknown[] = [];
  for (let n = 0; n < 3; n++) rentals.push((await act('/walk-up', { minutes: 60 })).rentalId);
  await Promise.all(Array.from({ length: BACKLOG }, () => act('/reboot')));
  await act('/faults', { offline: false, latencyMs: PUSH_DELAY_MS, jitterMs: 0 });

  const seen: { state: unknown; backlog: number }[] = [];
  const watch = async () => {
    const { state, backlog } = await shown();
    seen.push({ state, backlog: Number(backlog) });
    return seen.at(-1);
  };
  const full = await eventually(async () => (await watch())?.state === 'syncing' && seen.at(-1), WAIT);
  await eventually(async () => ((await watch())?.backlog ?? 0) < (full?.backlog ?? 0) - 500, WAIT);
  await platform.deviceSim?.killAndRestart();
  await eventually(async () => {
    const now = await watch();
    return now?.state === 'online' && now.backlog === 0;
  }, WAIT);
  expect(full?.backlog).toBeGreaterThan(BACKLOG / 2);
  const steps = seen.slice(seen.findIndex(({ state }) => state === 'syncing')).map(({ backlog }) => backlog);
  expect(new Set(steps).size).toBeGreaterThan(3);
  // It only falls, but for the one event by which the unit says that it was switched on again.
  expect(steps.filter((backlog, index) => backlog > (steps[index - 1] ?? backlog) + 1)).toEqual([]);

  await act('/faults', { latencyMs: 0 });
  const log = await logOf();
  const events = await expectWhole(ops, SIMULATED, log);
  const during = events.slice(seqBefore, log.lastSeq - 1);
  expect(during.length).toBeGreaterThan(BACKLOG);
  expect(during.filter(({ offline }) => offline !== true)).toEqual([]);
  const started = during.filter(({ type }) => type === 'RentalStarted').map(({ data }) => data.rentalId);
  expect(started).toEqual(rentals);
}, 90_000);

/** Servers that take what units push. */
async function members(): Promise<number> {
  const body = { subjects_filter: '$KV.members.ingest.>' };
  const info = await jetstream<{ state: { subjects?: object } }>(nats, 'STREAM.INFO.KV_members', body);
  return Object.keys(info.state.subjects ?? {}).length;
}

test('two servers share the units; one is killed under load, the other takes over, and no event is lost or doubled', async () => {
  const customers = {
    walkUpsPerMinute: 600,
    visit: { rentalMinutes: [15, 60], stepMs: [50, 300], reopenChance: 0.3 },
  } as const;
  const pushing = await startUnits(32, { units: 16, customers, factoryConfiguration: hastyConfiguration() });
  const channels = { probe: 'http', delivery: 'fetch', commandChannel: 'http' } as const;
  const fetched = await startUnits(33, { units: 8, customers, channels });
  const units = [...pushing.units.values(), ...fetched.units.values()];
  const [first, second] = [worker, startWorker()];
  if (first === undefined) throw new Error('nobody takes what units push');

  for (const victim of [first, second]) {
    await eventually(async () => (await members()) === 2, WAIT);
    await Bun.sleep(1_500);
    await victim.kill();
    const killedMs = performance.now();
    const tookMs = await Promise.all(
      units.map(async (unit) => {
        await unit.reboot();
        const { lastSeq } = unit.model.log;
        await eventually(async () => ((await detailOf(ops, unit.name)).log?.recordedSeq ?? 0) >= lastSeq, {
          timeoutMs: TAKEOVER_MS,
          intervalMs: 200,
        });
        return performance.now() - killedMs;
      }),
    );
    console.log(`taken over in ${Math.round(Math.max(...tookMs))} ms`);
    if (victim === first) victim.start();
  }
  pushing.customers.stop();
  fetched.customers.stop();
  for (const unit of units) await expectRecorded(unit);
  for (const unit of units) expect(await detailOf(ops, unit.name)).toMatchObject({ gaps: [], lost: [] });
}, 120_000);

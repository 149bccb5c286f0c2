/**
 * Servers that ingest what units push, as processes of their own: none, one, and two of which one is killed. Each test starts the
 * units and the servers that it needs; `afterEach` stops them. The server of the platform itself ingests nothing here.
 */

import { afterAll, afterEach, beforeAll, expect, test } from 'bun:test';
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

/** Far longer than any grace period, and than a takeover, which needs up to 19 s on an idle machine. */
const WAIT = { timeoutMs: 60_000, intervalMs: 50 };
const TEST_TIMEOUT_MS = 240_000;
const MAX_MESSAGES_PER_SUBJECT = 10077;
/** Reboots of the blackout: sixteen batches, so that the drain takes several pings however late the first one comes. */
const BACKLOG = 7_900;
/** How long each push and each ping takes during the drain. A ping may take more than twice as long before it counts as missed. */
const PUSH_DELAY_MS = 700;
const PINGS = { PING_INTERVAL_MS: '2000', PING_TIMEOUT_MS: '1900', PINGER_THREADS: '1' };
/** As many events as the backlog falls by before the unit is killed. */
const DRAINED_BEFORE_KILL = 500;
const SIMULATED = 'PL-1000';

let platform: Platform;
let ops: Client;
let nats: Nats;
let fleets: TestFleet[] = [];
let scripted: ScriptableUnit[] = [];
let workers: PlatformProcess[] = [];

beforeAll(async () => {
  const env = { ...PINGS, FETCH_INTERVAL_MS: '1000', ROLES: 'api,reactor,pinger', SIM_LOCKERS: '6' };
  platform = await startPlatform({ purpose: 'unit-log-workers', env, units: 1 });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
  nats = await Nats.connect({ url: platform.nats.url, creds: platform.natsCreds, name: 'tests', log: quietLog });
}, 120_000);

afterEach(async () => {
  await Promise.all([...fleets.map((fleet) => fleet.stop()), ...scripted.map((unit) => unit.stop())]);
  await Promise.all(workers.map((worker) => worker.stop()));
  [fleets, scripted, workers] = [[], [], []];
});

afterAll(async () => {
  await nats?.close();
  await platform?.stop();
});

function startWorker(): PlatformProcess {
  const worker = platform.startServer({ ROLES: 'ingest,fetch' });
  workers.push(worker);
  return worker;
}

async function startUnits(seed: number, changes: Partial<TestFleetOptions> = {}): Promise<TestFleet> {
  const opsToken = async () => (await platform.token('ops', 'field')).slice('Bearer '.length);
  const api = { url: platform.api, opsToken };
  const fleet = await startTestFleet(api, { units: 1, seed, platform: api, ...changes });
  fleets.push(fleet);
  await eventually(() => fleet.readiness().connected === fleet.units.size, WAIT);
  return fleet;
}

/** A configuration by which a unit pushes as often as the platform allows. */
function fastPushConfiguration() {
  const values = { ...defaultConfiguration(600).values, pushIntervalMs: 50 };
  return { version: 1, hash: configurationHash(values), values };
}

/** Counts the batches of a unit in the inbox that no server has ingested. */
async function inboxBatches(unit: string): Promise<number> {
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

async function hasRecorded(unit: EmulatedUnit, seq: number): Promise<boolean> {
  return ((await detailOf(ops, unit.name)).log?.recordedSeq ?? 0) >= seq;
}

function onlyUnit(fleet: TestFleet): EmulatedUnit {
  const [unit] = fleet.units.values();
  if (unit === undefined) throw new Error('the fleet has no unit');
  return unit;
}

test(
  'while no server ingests, the inbox refuses a unit only the batches beyond its bound, and once one does, all are recorded in order',
  async () => {
    const fleet = await startUnits(30, { factoryConfiguration: fastPushConfiguration() });
    const unit = onlyUnit(fleet);
    await eventually(async () => {
      await unit.reboot();
      return fleet.metrics.failedPushes > 0;
    }, WAIT);
    expect(await inboxBatches(unit.name)).toBe(MAX_INBOX_BATCHES_PER_UNIT);
    // The unit keeps the events that do not fit into the inbox, and goes on logging.
    const { acknowledgedSeq } = unit.model.log;
    await unit.reboot();
    expect(unit.model.log.lastSeq).toBeGreaterThan(acknowledgedSeq);

    const other = await ScriptableUnit.register(ops, 'LOG-FULL');
    scripted.push(other);
    const at = { v: 1, time: new Date().toISOString(), type: 'UnitRestarted' };
    other.events = Array.from({ length: MAX_INBOX_BATCHES_PER_UNIT + 2 }, (_, index) => {
      return { ...at, seq: index + 1, data: { bootId: String(index) } };
    });
    for (const { seq } of other.events.slice(0, MAX_INBOX_BATCHES_PER_UNIT)) {
      expect(await other.pushRange(seq, seq)).toMatchObject({ stream: 'UNIT_INBOX' });
    }
    const refused = await other.pushRange(MAX_INBOX_BATCHES_PER_UNIT + 1, MAX_INBOX_BATCHES_PER_UNIT + 1);
    expect(refused.error).toMatchObject({ err_code: MAX_MESSAGES_PER_SUBJECT });
    expect(await inboxBatches(other.name)).toBe(MAX_INBOX_BATCHES_PER_UNIT);

    startWorker();
    await eventually(async () => (await inboxBatches(other.name)) === 0, WAIT);
    for (const { seq } of other.events.slice(MAX_INBOX_BATCHES_PER_UNIT)) {
      expect(await other.pushRange(seq, seq)).toMatchObject({ stream: 'UNIT_INBOX' });
    }
    const wanted = other.events.length;
    await eventually(async () => (await detailOf(ops, other.name)).log?.recordedSeq === wanted, WAIT);
    await expectWhole(ops, other.name, { epoch: other.epoch, lastSeq: wanted });
    await expectRecorded(onlyUnit(fleet));
  },
  TEST_TIMEOUT_MS,
);

test(
  'a batch that the inbox acknowledged and lost is fetched from the unit, although the unit takes it for delivered',
  async () => {
    const fleet = await startUnits(31, { units: 2, factoryConfiguration: fastPushConfiguration() });
    const [tail, middle] = [...fleet.units.values()];
    if (tail === undefined || middle === undefined) throw new Error('the fleet has fewer than two units');
    for (const unit of [tail, middle]) {
      const isAcknowledged = () => unit.model.log.acknowledgedSeq === unit.model.log.lastSeq;
      await eventually(isAcknowledged, WAIT);
      const before = await inboxBatches(unit.name);
      await unit.reboot();
      await eventually(isAcknowledged, WAIT);
      await eventually(async () => (await inboxBatches(unit.name)) > before, WAIT);
      const last = { last_by_subj: unitPushSubject(unit.name) };
      const { message } = await jetstream<{ message: { seq: number } }>(nats, 'STREAM.MSG.GET.UNIT_INBOX', last);
      await jetstream(nats, 'STREAM.MSG.DELETE.UNIT_INBOX', { seq: message.seq });
      if (unit === middle) await unit.reboot();
      await eventually(isAcknowledged, WAIT);
    }

    startWorker();
    for (const unit of fleet.units.values()) {
      await expectRecorded(unit);
      await eventually(
        async () =>
          expect(await detailOf(ops, unit.name)).toMatchObject({ state: 'online', backlog: 0, gaps: [], lost: [] }),
        WAIT,
      );
    }
  },
  TEST_TIMEOUT_MS,
);

test(
  'operators see the backlog of a blackout fall while it is recorded in order, also when the unit is killed meanwhile',
  async () => {
    startWorker();
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
      const now = { state, backlog: Number(backlog) };
      seen.push(now);
      return now;
    };
    const full = await eventually(async () => {
      const now = await watch();
      return now.state === 'syncing' && now;
    }, WAIT);
    expect(full.backlog).toBeGreaterThan(2 * DRAINED_BEFORE_KILL);
    await eventually(async () => (await watch()).backlog < full.backlog - DRAINED_BEFORE_KILL, WAIT);
    await platform.deviceSim?.killAndRestart();
    await eventually(async () => {
      const now = await watch();
      return now.state === 'online' && now.backlog === 0;
    }, WAIT);
    const steps = seen.slice(seen.findIndex(({ state }) => state === 'syncing')).map(({ backlog }) => backlog);
    // The first value, a lower one before the unit is killed, and 0.
    expect(new Set(steps).size).toBeGreaterThanOrEqual(3);
    // The backlog grows by no more than the one event with which the unit reports its restart.
    expect(steps.filter((backlog, index) => backlog > (steps[index - 1] ?? backlog) + 1)).toEqual([]);

    await act('/faults', { latencyMs: 0 });
    const log = await logOf();
    const events = await expectWhole(ops, SIMULATED, log);
    const during = events.slice(seqBefore, log.lastSeq - 1);
    expect(during.length).toBeGreaterThan(BACKLOG);
    expect(during.filter(({ offline }) => offline !== true)).toEqual([]);
    const started = during.filter(({ type }) => type === 'RentalStarted').map(({ data }) => data.rentalId);
    expect(started).toEqual(rentals);
  },
  TEST_TIMEOUT_MS,
);

/** Counts the servers that ingest, as the servers themselves see it. */
async function members(): Promise<number> {
  const body = { subjects_filter: '$KV.members.ingest.>' };
  const info = await jetstream<{ state: { subjects?: object } }>(nats, 'STREAM.INFO.KV_members', body);
  return Object.keys(info.state.subjects ?? {}).length;
}

test(
  'of two servers that ingest, one is killed under load, and the other takes over its units without losing or doubling an event',
  async () => {
    const customers = {
      walkUpsPerMinute: 200,
      visit: { rentalMinutes: [15, 60], stepMs: [50, 300], reopenChance: 0.3 },
    } as const;
    const pushing = await startUnits(32, { units: 16, customers, factoryConfiguration: fastPushConfiguration() });
    const channels = { probe: 'http', delivery: 'fetch', commandChannel: 'http' } as const;
    const fetched = await startUnits(33, { units: 8, customers, channels });
    const units = [...pushing.units.values(), ...fetched.units.values()];
    const [first, second] = [startWorker(), startWorker()];

    for (const victim of [first, second]) {
      await eventually(async () => (await members()) === 2, WAIT);
      // Every unit has events recorded after both servers joined: the one that is killed is at work.
      await Promise.all(
        units.map(async (unit) => {
          await unit.reboot();
          const { lastSeq } = unit.model.log;
          await eventually(() => hasRecorded(unit, lastSeq), { ...WAIT, intervalMs: 200 });
        }),
      );
      await victim.kill();
      const killedMs = performance.now();
      const tookMs = await Promise.all(
        units.map(async (unit) => {
          await unit.reboot();
          const { lastSeq } = unit.model.log;
          await eventually(() => hasRecorded(unit, lastSeq), { ...WAIT, intervalMs: 200 });
          return performance.now() - killedMs;
        }),
      );
      console.log(`the other server took over in ${Math.round(Math.max(...tookMs))} ms`);
      if (victim === first) victim.start();
    }
    pushing.customers.stop();
    fetched.customers.stop();
    await Promise.all(units.map(expectRecorded));
    for (const unit of units) expect(await detailOf(ops, unit.name)).toMatchObject({ gaps: [], lost: [] });
  },
  TEST_TIMEOUT_MS,
);

/**
 * The log of a unit, from what happened in the field to what operators read: fetched instead of pushed, out of order, with
 * events that are gone for good, and from a unit that was wiped. The units of this file are in it; one platform serves them.
 */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import type { EmulatedUnit } from '../../device-sim/emulation/emulated-unit.ts';
import { closeDoor, giveBackLocker, rentAtScreen } from '../../device-sim/unit/customer-actions.ts';
import { MAX_BATCH_EVENTS } from '../../domain/unit-protocol/batch.ts';
import { Nats } from '../../platform/nats/connection.ts';
import { api as jetstream } from '../../platform/nats/jetstream.ts';
import { STREAMS } from '../../platform/nats/streams.ts';
import { unitCommandsSubject, unitPushSubject } from '../../platform/nats/subjects.ts';
import { GAP_GRACE_MS } from '../../server/workers/ingest/ingest-worker.ts';
import { Client } from '../support/client.ts';
import { startTestFleet, type TestFleet, type TestFleetOptions } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { quietLog } from '../support/nats.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { type RegisteredUnitOptions, ScriptableUnit } from '../support/scriptable-unit.ts';
import { detailOf, eventsOf, expectWhole, reportedIn } from './unit-logs.ts';

/** Far longer than the grace period of a gap and the pause of the fetch worker after it, also on a loaded machine. */
const WAIT = { timeoutMs: 90_000, intervalMs: 100 };
/** Half of the longest pause after which ingest looks again at a batch that waits for earlier events. */
const HALF_RETRY_MS = 4_000;
const DAY_MS = 86_400_000;
/** More than two pages. */
const BACKLOG = 2 * MAX_BATCH_EVENTS + 100;

let platform: Platform;
let ops: Client;
let nats: Nats;
const fleets: TestFleet[] = [];
const scripted: ScriptableUnit[] = [];

beforeAll(async () => {
  const env = { FETCH_INTERVAL_MS: '1000', PING_INTERVAL_MS: '500', PING_TIMEOUT_MS: '400', PINGER_THREADS: '1' };
  platform = await startPlatform({ purpose: 'unit-log', env });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
  nats = await Nats.connect({ url: platform.nats.url, creds: platform.natsCreds, name: 'tests', log: quietLog });
}, 120_000);

afterAll(async () => {
  await Promise.all([...fleets.map((fleet) => fleet.stop()), ...scripted.map((unit) => unit.stop())]);
  await nats?.close();
  await platform?.stop();
});

async function startUnits(seed: number, changes: Partial<TestFleetOptions>): Promise<EmulatedUnit[]> {
  const opsToken = async () => (await platform.token('ops', 'field')).slice('Bearer '.length);
  const api = { url: platform.api, opsToken };
  const fleet = await startTestFleet(api, { units: 1, seed, platform: api, ...changes });
  fleets.push(fleet);
  await eventually(() => fleet.readiness().registered === fleet.units.size, WAIT);
  return [...fleet.units.values()];
}

async function registerScripted(name: string, options: RegisteredUnitOptions = {}): Promise<ScriptableUnit> {
  const lockers = ['A', 'B'].map((id) => ({ id, size: 'S' as const }));
  const unit = await ScriptableUnit.register(ops, name, { lockers, ...options });
  scripted.push(unit);
  return unit;
}

/** Waits until everything that a unit has is recorded, and expects it to be whole. */
async function expectRecorded(unit: EmulatedUnit) {
  const { epoch } = unit.model.log;
  await eventually(async () => {
    const { log } = await detailOf(ops, unit.name);
    return log?.epoch === epoch && log.recordedSeq === unit.model.log.lastSeq;
  }, WAIT);
  return expectWhole(ops, unit.name, unit.model.log);
}

/** Counts what units push, and how often they are asked for their log over NATS, until it is stopped. */
function overhear(units: readonly EmulatedUnit[]) {
  const received = { pushes: 0, fetches: 0 };
  const stops = units.flatMap(({ name }) => [
    nats.subscribe(unitPushSubject(name), () => {
      received.pushes += 1;
    }),
    nats.subscribe(unitCommandsSubject(name), ({ data }) => {
      if (new TextDecoder().decode(data).includes('"limit"')) received.fetches += 1;
    }),
  ]);
  const stop = () => {
    for (const each of stops) each();
  };
  return { received, stop };
}

test.concurrent.each([
  ['http', 20],
  ['nats', 21],
] as const)(
  'a fleet that is fetched from over %s is recorded in order, page by page, without any push',
  async (commandChannel, seed) => {
    const units = await startUnits(seed, {
      units: 3,
      channels: { probe: 'http', delivery: 'fetch', commandChannel },
      customers: {
        walkUpsPerMinute: 300,
        visit: { rentalMinutes: [15, 60], stepMs: [50, 300], reopenChance: 0.3 },
      },
    });
    const all = overhear(units);
    const [cutOff] = units;
    if (cutOff === undefined) throw new Error('there is no unit');
    /** What a unit has let go is recorded: looked at in that order. */
    const expectNothingLetGo = async (unit: EmulatedUnit) => {
      const { recordedSeq } = unit.model.log;
      expect((await detailOf(ops, unit.name)).log?.recordedSeq ?? 0).toBeGreaterThanOrEqual(recordedSeq);
    };
    for (const unit of units) {
      await eventually(async () => {
        await expectNothingLetGo(unit);
        return unit.model.log.recordedSeq >= 20;
      }, WAIT);
    }

    // The platform fetches nothing from a unit that it knows to be offline.
    all.stop();
    await cutOff.setFaults({ offline: true });
    await eventually(async () => (await detailOf(ops, cutOff.name)).state === 'offline', WAIT);
    const away = overhear([cutOff]);
    const { log: standing } = await detailOf(ops, cutOff.name);
    const seqBefore = cutOff.model.log.lastSeq;
    await Promise.all(Array.from({ length: BACKLOG }, () => cutOff.reboot()));
    // The platform goes on fetching from the other units meanwhile.
    const other = units[1];
    const otherSeq = other?.model.log.recordedSeq ?? 0;
    await eventually(() => (other?.model.log.recordedSeq ?? 0) > otherSeq + 20, WAIT);
    expect((await detailOf(ops, cutOff.name)).log).toEqual(standing);
    away.stop();
    expect(away.received).toEqual({ pushes: 0, fetches: 0 });

    await cutOff.setFaults({ offline: false });
    fleets.find(({ units: own }) => own.has(cutOff.name))?.customers.stop();
    const reported = await expectRecorded(cutOff);
    for (const unit of units.slice(1)) await expectRecorded(unit);
    const backlog = reported.slice(seqBefore, seqBefore + BACKLOG);
    expect(backlog.every(({ offline }) => offline === true)).toBe(true);
    const pages = Map.groupBy(reported, ({ position }) => position.split('.')[0]);
    const sizes = [...pages.values()].map(({ length }) => length);
    expect(Math.max(...sizes)).toBe(MAX_BATCH_EVENTS);

    // What is named recorded may go, and then does.
    for (const unit of units) {
      await expectNothingLetGo(unit);
      await eventually(() => unit.entries(1, MAX_BATCH_EVENTS).bodies.length === 0, WAIT);
    }
    expect(all.received.pushes).toBe(0);
    expect(all.received.fetches > 0).toBe(commandChannel === 'nats');
  },
  180_000,
);

test.concurrent('the platform does not fetch the log of a unit that is offline, and fetches it once the unit is back', async () => {
  const unit = await registerScripted('LOG-AWAY', { delivery: 'fetch' });
  unit.events = [{ seq: 1, v: 1, type: 'LockerOpened', time: instant(0), locker: 'A', data: { cause: 'service' } }];
  const recordedSeq = async () => (await detailOf(ops, unit.name)).log?.recordedSeq;
  await eventually(async () => (await recordedSeq()) === 1, WAIT);
  unit.isOnline = false;
  await eventually(async () => (await detailOf(ops, unit.name)).state === 'offline', WAIT);
  // A fetch that began before the unit was offline has ended by then.
  await Bun.sleep(1_000);
  const asked = unit.fetches.length;
  unit.events = [...unit.events, { seq: 2, v: 1, type: 'LockerClosed', time: instant(1), locker: 'A', data: {} }];
  await Bun.sleep(4_000);
  expect(unit.fetches.length).toBe(asked);
  unit.isOnline = true;
  await eventually(async () => (await recordedSeq()) === 2, WAIT);
  expect(unit.fetches).toContain(`${unit.epoch}:1`);
}, 120_000);

const MONTH_AGO_MS = Date.now() - 30 * DAY_MS;

function instant(second: number): string {
  return new Date(MONTH_AGO_MS + second * 1_000).toISOString();
}

/** A day of locker A: the state of all, then it opens and closes again and again. */
function dayOfA(length: number): ScriptableUnit['events'] {
  const lockers = ['A', 'B'].map((id) => ({ id, door: 'closed' }));
  const report = { reason: 'new-epoch', configurationHash: 'c'.repeat(64), lockers };
  return Array.from({ length }, (_, index) => {
    const at = { seq: index + 1, v: 1, time: instant(index) };
    if (index === 0) return { ...at, type: 'UnitStateReported', data: report };
    const opens = index % 2 === 1;
    return {
      ...at,
      locker: 'A',
      type: opens ? 'LockerOpened' : 'LockerClosed',
      data: opens ? { cause: 'service' } : {},
    };
  });
}

test.concurrent('events that arrive before earlier ones wait, show as a gap, and are recorded in order once the earlier ones arrive', async () => {
  // The unit is unreachable, so that the platform cannot fetch what it did not push.
  const unit = await registerScripted('LOG-MIXED', { isOnline: false });
  unit.events = dayOfA(10);
  const { epoch } = unit;
  const pushedAtMs = Date.now();
  expect(await unit.pushRange(6, 10)).toMatchObject({ stream: 'UNIT_INBOX' });
  const gap = { epoch, fromSeq: 1, toSeq: 5 };
  const [detected] = await eventually(async () => {
    const events = await eventsOf(ops, unit.name, 'UnitLogGapDetected');
    return events.length > 0 && events;
  }, WAIT);
  expect(detected?.data).toEqual(gap);
  const graceMs = Date.parse(detected?.recordedAt ?? '') - pushedAtMs;
  expect(graceMs).toBeGreaterThanOrEqual(GAP_GRACE_MS);
  await eventually(async () => expect((await detailOf(ops, unit.name)).gaps).toEqual([gap]), WAIT);
  expect(reportedIn(await eventsOf(ops, unit.name), epoch)).toEqual([]);

  expect(await unit.pushRange(1, 5)).toMatchObject({ stream: 'UNIT_INBOX' });
  const isRecorded = async () => (await detailOf(ops, unit.name)).log?.recordedSeq === 10;
  await eventually(isRecorded, WAIT);
  await eventually(async () => expect((await detailOf(ops, unit.name)).gaps).toEqual([]), WAIT);
  const reported = await expectWhole(ops, unit.name, { epoch, lastSeq: 10 });
  // Ingest records the waiting events together with the missing ones, by the server's own clock, and not after its next pause.
  const [lastOfGap = 0, firstWaiting = 0] = reported.slice(4, 6).map(({ recordedAt }) => Date.parse(recordedAt));
  expect(firstWaiting - lastOfGap).toBeLessThan(HALF_RETRY_MS);
  expect(await detailOf(ops, unit.name)).toMatchObject({ lost: [], lockerDetails: [{ id: 'A', door: 'open' }, {}] });
  await eventually(async () => {
    const closed = await eventsOf(ops, unit.name, 'UnitLogGapClosed');
    expect(closed.map(({ data }) => data)).toEqual([{ ...gap, lost: false }]);
  }, WAIT);
  expect(await eventsOf(ops, unit.name, 'UnitLogGapDetected')).toHaveLength(1);
}, 120_000);

test.concurrent('events that a unit no longer has are recorded as lost, and the lockers show what the unit reports after the gap', async () => {
  const unit = await registerScripted('LOG-CUT');
  const { epoch } = unit;
  const until = new Date(Date.now() + DAY_MS).toISOString();
  const rental = (rentalId: string) => ({ rentalId, startedAt: instant(3), until });
  const [first, ...rest] = dayOfA(12);
  if (first === undefined) throw new Error('the log is empty');
  const started = { ...first, seq: 2, type: 'RentalStarted', locker: 'A', data: { rentalId: 'first', until } };
  const lockers = [
    { id: 'A', door: 'closed' },
    { id: 'B', door: 'closed', rental: rental('second') },
  ];
  const report = { ...first, seq: 8, data: { reason: 'gap', configurationHash: 'c'.repeat(64), lockers } };
  unit.events = [first, ...rest].map((event) => ({ 2: started, 8: report })[event.seq] ?? event);
  // 9 to 12 are of the other locker: A stays as the report says.
  unit.events = unit.events.map((event) => (event.seq > 8 ? { ...event, locker: 'B' } : event));
  await unit.pushRange(1, 3);
  await eventually(async () => (await detailOf(ops, unit.name)).log?.recordedSeq === 3, WAIT);
  expect((await detailOf(ops, unit.name)).lockerDetails[0]).toMatchObject({
    door: 'closed',
    rental: { rentalId: 'first' },
  });

  unit.firstAvailableSeq = 8;
  await unit.pushRange(10, 12);
  await eventually(async () => (await detailOf(ops, unit.name)).log?.recordedSeq === 12, WAIT);
  const gap = { epoch, fromSeq: 4, toSeq: 7 };
  await eventually(async () => {
    const events = await eventsOf(ops, unit.name);
    expect(reportedIn(events, epoch).map(({ unitseq }) => unitseq)).toEqual([1, 2, 3, 8, 9, 10, 11, 12]);
    const gapEvents = events.filter(({ type }) => type.startsWith('UnitLogGap')).map(({ data }) => data);
    // The platform fetched what the unit still had: after it recorded the gap, or before, when a ping made the fetch sooner.
    const fetchedAfter = [
      { epoch, fromSeq: 4, toSeq: 9 },
      { ...gap, lost: true },
      { epoch, fromSeq: 8, toSeq: 9, lost: false },
    ];
    expect<unknown[]>([fetchedAfter, [gap, { ...gap, lost: true }]]).toContainEqual(gapEvents);
  }, WAIT);
  const detail = await eventually(async () => {
    const shown = await detailOf(ops, unit.name);
    return shown.state === 'online' && shown;
  }, WAIT);
  expect(detail).toMatchObject({ gaps: [], lost: [gap], backlog: 0 });
  expect(detail.lockerDetails).toMatchObject([
    { id: 'A', door: 'closed', rental: null },
    { id: 'B', door: 'open', rental: { rentalId: 'second' } },
  ]);
}, 120_000);

test.concurrent.each([
  ['whole', 22],
  ['torn', 23],
] as const)(
  'a unit that was wiped with a backlog starts a new epoch, and a late batch of the old epoch (%s) changes no locker',
  async (late, seed) => {
    const [unit] = await startUnits(seed, { lockers: 2 });
    if (unit === undefined) throw new Error('there is no unit');
    const rent = (locker: string) =>
      unit.decide((model, around) => rentAtScreen(model, { locker, minutes: 60 }, around));
    await rent('A');
    await expectRecorded(unit);
    const rentals = async () => (await detailOf(ops, unit.name)).lockerDetails.map(({ rental }) => rental !== null);
    expect(await rentals()).toEqual([true, false]);
    const { epoch, lastSeq: recordedSeq } = unit.model.log;

    await unit.setFaults({ offline: true });
    await unit.decide((model, around) => closeDoor(model, 'A', around));
    await unit.decide((model, around) => giveBackLocker(model, 'A', around));
    await rent('B');
    const { bodies } = unit.entries(recordedSeq + 1, MAX_BATCH_EVENTS);
    const { lastSeq } = unit.model.log;
    await unit.wipe();
    await unit.setFaults({ offline: false });
    await expectRecorded(unit);
    const asReported = await detailOf(ops, unit.name);
    expect(asReported.log?.epoch).toBe(unit.model.log.epoch);
    expect(await rentals()).toEqual([false, false]);

    // A modem that kept the batch of the old epoch delivers it late; the unit itself no longer has these events.
    const { natsUrl: url = '', natsCreds: creds = '', natsInboxPrefix: inboxPrefix = '' } = unit.credentials ?? {};
    const modem = await Nats.connect({ url, creds, inboxPrefix, name: 'modem', log: quietLog });
    const push = async (events: readonly string[]) => {
      const batch = `{"unit":"${unit.name}","epoch":"${epoch}","events":[${events.join()}]}`;
      await modem.request(unitPushSubject(unit.name), batch, { timeoutMs: 5_000 });
    };
    if (late === 'torn') await push(bodies.slice(1));
    else await push(bodies);
    const missing = late === 'torn' ? [recordedSeq + 1] : [];
    const expected = Array.from({ length: lastSeq }, (_, index) => index + 1).filter((seq) => !missing.includes(seq));
    const recordedSeqs = async () => reportedIn(await eventsOf(ops, unit.name), epoch).map(({ unitseq }) => unitseq);
    await eventually(async () => expect(await recordedSeqs()).toEqual(expected), WAIT);

    await push(bodies);
    await modem.close();
    await unit.reboot();
    await expectRecorded(unit);
    expect(await recordedSeqs()).toEqual(expected);
    const lost = missing.map((seq) => ({ epoch, fromSeq: seq, toSeq: seq }));
    const { log, gaps, lost: shownAsLost, lockerDetails } = await detailOf(ops, unit.name);
    expect({ log: log?.epoch, gaps, lost: shownAsLost }).toEqual({ log: unit.model.log.epoch, gaps: [], lost });
    expect(lockerDetails).toEqual(asReported.lockerDetails);
  },
  120_000,
);

test('a log that is pushed again after the message ids have expired is not recorded again', async () => {
  const unit = await registerScripted('LOG-AGAIN', { isOnline: false });
  unit.events = dayOfA(10);
  await unit.pushRange(1, 10);
  await eventually(async () => (await detailOf(ops, unit.name)).log?.recordedSeq === 10, WAIT);
  await expectWhole(ops, unit.name, { epoch: unit.epoch, lastSeq: 10 });
  // After the restart and with a short window, neither the server's memory nor the message ids of JetStream know the log.
  await platform.server.killAndRestart();
  await eventually(async () => (await fetch(`${platform.api}/readyz`, { keepalive: false })).status === 200, WAIT);
  await jetstream(nats, 'STREAM.UPDATE.EVENTS', { name: 'EVENTS', ...STREAMS.EVENTS, duplicate_window: 100_000_000 });
  const before = await eventsOf(ops, unit.name);
  unit.events = dayOfA(12);
  await unit.pushRange(6, 10);
  await unit.pushRange(1, 5);
  await unit.pushRange(4, 11);
  await unit.pushRange(1, 12);
  await eventually(async () => (await detailOf(ops, unit.name)).log?.recordedSeq === 12, WAIT);
  await expectWhole(ops, unit.name, { epoch: unit.epoch, lastSeq: 12 });
  const after = await eventsOf(ops, unit.name);
  expect(after.slice(0, before.length)).toEqual(before);
  expect(after.length).toBe(before.length + 2);
}, 120_000);

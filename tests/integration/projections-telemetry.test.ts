/** What is kept of pings and heartbeats, and what lists make of it, of wrong clocks and of revoked credentials. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { CLOCK_OFFSET_TOLERANCE_MS } from '../../domain/device/unit-clock.ts';
import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import { type EventDraft, envelop } from '../../domain/events/drafts.ts';
import { unitHash } from '../../domain/shard.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { PingerStatus } from '../../platform/liveness/pinger-status.ts';
import { encodeTelemetry, type TelemetryResult } from '../../platform/liveness/telemetry-message.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { listEvents } from '../../projections/event_log/queries/events.ts';
import { activePingers, clockOffsets } from '../../projections/telemetry/queries.ts';
import { TelemetryRecorder } from '../../projections/telemetry/telemetry-recorder.ts';
import { PING_CLOCK_PRECEDENCE_MS } from '../../projections/telemetry/unit-telemetry.ts';
import { configurationReports, fetchTargets, pingTargets } from '../../projections/units/queries/followers.ts';
import { getUnit, listUnits } from '../../projections/units/queries/units.ts';
import { permutations } from '../support/permutations.ts';
import { fillToTheEnd, freshPostgres, readModelsOf } from '../support/projections.ts';
import { type RegistrationOverrides, registration } from '../support/registration.ts';
import { at, HOUR_MS, NOW_MS } from '../support/scene.ts';
import { answered, missed, recording, watchAllShards } from '../support/telemetry.ts';

const EPOCH = '018f0000-0000-7000-8000-000000000001';

const store = new MemoryEventStore(() => NOW_MS);
let postgres: Postgres;
let recorder: TelemetryRecorder;
let commits = 0;

beforeAll(async () => {
  postgres = await freshPostgres();
  recorder = new TelemetryRecorder(postgres.sql, recording());
  await watchAllShards(postgres.sql);
}, 60_000);

afterAll(() => postgres.close(1));

async function append(unit: string, aggregate: Aggregate, draft: EventDraft, changes: Partial<CloudEvent> = {}) {
  commits += 1;
  const commandId = `command-${commits}`;
  const context = { unit, source: '/lockfleet/tests', time: at(0), actor: 'ops:tests', commandId };
  const events = envelop([draft], context, () => commandId).map((event) => ({ ...event, ...changes }));
  const expectedSequence = (await store.tail(unit, 0)).findLast((message) => message.aggregate === aggregate)?.sequence;
  await store.append({ unit, aggregate, expectedSequence: expectedSequence ?? 0, commandId, events });
}

async function register(unit: string, overrides: RegistrationOverrides = {}): Promise<void> {
  await append(unit, 'registry', { type: 'UnitRegistered', data: registration(unit, overrides) });
  await append(unit, 'connectivity', { type: 'UnitWentOnline', data: { evidence: 'heartbeat' } });
}

async function tell(...results: TelemetryResult[]): Promise<void> {
  recorder.record(encodeTelemetry('test', results));
  await recorder.flush();
}

const said = (lastSeq: number) => ({ epoch: EPOCH, lastSeq, configurationHash: 'c' });

describe('recorded telemetry', () => {
  const columns = () => postgres.sql`
    select at, pinged_at, answered_at, last_response_ms, last_online_at, epoch, last_seq, configuration_hash,
      clock_offset_ms, clock_wrong
    from platform.unit_telemetry where unit = 'HEARD'`;
  const head = (seconds: number) => ({ unit: 'HEARD', at: NOW_MS + seconds * 1_000 });
  const moment = (seconds: number) => new Date(NOW_MS + seconds * 1_000);
  const nothing = { epoch: null, last_seq: null, configuration_hash: null, clock_offset_ms: null, clock_wrong: false };
  const longS = PING_CLOCK_PRECEDENCE_MS / 1_000 + 1;

  const TABLE: readonly [string, readonly TelemetryResult[], Record<string, unknown>][] = [
    [
      'an answer, a miss and a heartbeat',
      [
        answered({ ...head(1), rttMs: 12.5, ...said(1), clockOffsetMs: 5 }),
        missed(head(2)),
        { heard: 'heartbeat', ...head(3), ...said(3), clockOffsetMs: 9_000 },
        missed(head(4)),
      ],
      {
        at: moment(4),
        pinged_at: moment(4),
        answered_at: moment(1),
        last_response_ms: 12.5,
        last_online_at: moment(3),
        epoch: EPOCH,
        last_seq: 3,
        configuration_hash: 'c',
        clock_offset_ms: 5,
        clock_wrong: false,
      },
    ],
    [
      'a heartbeat, long after the last ping that was answered',
      [
        answered({ ...head(1), rttMs: 1, ...said(1), clockOffsetMs: 5 }),
        missed(head(2)),
        { heard: 'heartbeat', ...head(1 + longS), ...said(2), clockOffsetMs: -9_000 },
      ],
      {
        at: moment(1 + longS),
        pinged_at: moment(2),
        answered_at: moment(1),
        last_response_ms: 1,
        last_online_at: moment(1 + longS),
        epoch: EPOCH,
        last_seq: 2,
        configuration_hash: 'c',
        clock_offset_ms: -9_000,
        clock_wrong: true,
      },
    ],
    [
      'only misses',
      [missed(head(1)), missed(head(2))],
      {
        at: moment(2),
        pinged_at: moment(2),
        answered_at: null,
        last_response_ms: null,
        last_online_at: null,
        ...nothing,
      },
    ],
    [
      'a heartbeat that is newer than an answer, but not by long',
      [
        answered({ ...head(1), rttMs: 1, ...said(1), clockOffsetMs: 5 }),
        answered({ ...head(70), rttMs: 2, ...said(2), clockOffsetMs: 6 }),
        { heard: 'heartbeat', ...head(70 + longS - 1), ...said(3), clockOffsetMs: -9_000 },
      ],
      {
        at: moment(70 + longS - 1),
        pinged_at: moment(70),
        answered_at: moment(70),
        last_response_ms: 2,
        last_online_at: moment(70 + longS - 1),
        epoch: EPOCH,
        last_seq: 3,
        configuration_hash: 'c',
        clock_offset_ms: 6,
        clock_wrong: false,
      },
    ],
    [
      'a heartbeat whose clock is wrong',
      [{ heard: 'heartbeat', ...head(1), ...said(8), clockOffsetMs: 2_001 }, missed(head(3))],
      {
        at: moment(3),
        pinged_at: moment(3),
        answered_at: null,
        last_response_ms: null,
        last_online_at: moment(1),
        epoch: EPOCH,
        last_seq: 8,
        configuration_hash: 'c',
        clock_offset_ms: 2_001,
        clock_wrong: true,
      },
    ],
  ];

  test.each(TABLE)(
    '%s, in any order and over any writes',
    async (_, results, expected) => {
      for (const order of permutations(results)) {
        for (let cut = 0; cut < order.length; cut++) {
          await postgres.sql`delete from platform.unit_telemetry`;
          await tell(...order.slice(0, cut));
          await tell(...order.slice(cut));
          expect([...(await columns())]).toEqual([expected]);
        }
      }
    },
    30_000,
  );
});

describe('the displayed state', () => {
  const shown = async (unit: string) => (await listUnits(readModelsOf(postgres), { q: unit, limit: 10 })).items[0];
  const status = (changes: Partial<PingerStatus>): PingerStatus => ({
    pingerId: 'pinger-1',
    at: Date.now(),
    periodMs: 1_000,
    shards: [],
    intervalMs: 1_000,
    timeoutMs: 500,
    failuresToOffline: 3,
    units: 1,
    notPinged: 0,
    states: { unknown: 0, 'never-seen': 0, online: 1, offline: 0 },
    flapping: 0,
    scheduleLagMs: { p99: 1, max: 2 },
    rates: { pings: 1 },
    totals: { pings: 10 },
    threads: 1,
    replacedThreads: 0,
    outages: [],
    ...changes,
  });
  const say = async (changes: Partial<PingerStatus>) => {
    recorder.recordPingerStatus(JSON.stringify(status(changes)));
    await recorder.flush();
  };

  test('is online or syncing while a pinger has its shard, and unknown since no pinger has it', async () => {
    await register('BEATS', { probe: 'nats' });
    await append('BEATS', 'device', { type: 'LockerClosed', locker: 'A', data: {} }, { unitepoch: EPOCH, unitseq: 1 });
    await fillToTheEnd(postgres, store);
    await postgres.sql`delete from platform.watched_shards`;
    expect(await shown('BEATS')).toMatchObject({ state: 'unknown', unknownSince: at(0), clockOffsetMs: null });
    const shard = unitHash('BEATS').slice(0, 2);
    await say({ shards: [shard] });
    expect(await shown('BEATS')).toMatchObject({ state: 'online', unknownSince: null, lastResponseTimeMs: null });
    await tell({ heard: 'heartbeat', unit: 'BEATS', at: NOW_MS, ...said(6), clockOffsetMs: 12 });
    expect(await shown('BEATS')).toMatchObject({
      state: 'syncing',
      backlog: 5,
      lastOnlineAt: toInstant(NOW_MS),
      clockOffsetMs: 12,
      clockWrong: false,
    });
    const watchedAt = new Date(Date.now() - 60_000);
    await postgres.sql`
      update platform.watched_shards set watched_at = ${watchedAt}, watched_until = now() - interval '1 second'`;
    expect(await shown('BEATS')).toMatchObject({ state: 'unknown', unknownSince: watchedAt.toISOString() });
    expect((await listUnits(readModelsOf(postgres), { state: 'unknown', q: 'BEATS', limit: 1 })).items).toHaveLength(1);
    // Watching the shard of others changes nothing.
    await say({ shards: [shard === '00' ? '01' : '00'] });
    expect(await shown('BEATS')).toMatchObject({ state: 'unknown' });
  });

  test('is unknown in an outage, unless a proof of life arrived since', async () => {
    await register('VANISHED');
    await fillToTheEnd(postgres, store);
    const shard = unitHash('VANISHED').slice(0, 2);
    await say({ shards: [shard], outages: [{ shard, since: NOW_MS, share: 0.9 }] });
    expect(await shown('VANISHED')).toMatchObject({ state: 'unknown', unknownSince: toInstant(NOW_MS) });
    expect((await activePingers(postgres.sql)).outages).toEqual([{ shard, since: toInstant(NOW_MS) }]);
    await tell(answered({ unit: 'VANISHED', at: NOW_MS + 1, rttMs: 5 }));
    expect(await shown('VANISHED')).toMatchObject({ state: 'online', unknownSince: null });
    await say({ shards: [shard] });
    expect((await activePingers(postgres.sql)).outages).toEqual([]);
  });

  test('depends only on the pingers that are running now', async () => {
    await say({ pingerId: 'pinger-2', shards: ['aa', 'ab'] });
    const { owners, unwatched } = await activePingers(postgres.sql);
    expect(owners.map(({ pingerId }) => pingerId)).toEqual(['pinger-1', 'pinger-2']);
    expect(unwatched).not.toContain('aa');
    await postgres.sql`update platform.pingers set watches_until = now() - interval '1 second' where pinger_id = 'pinger-1'`;
    expect((await activePingers(postgres.sql)).owners).toEqual([
      status({ pingerId: 'pinger-2', shards: ['aa', 'ab'], at: expect.any(Number) as number }),
    ]);
  });

  test('an unreadable status message changes nothing', async () => {
    recorder.recordPingerStatus('hello');
    await say({ shards: ['cc', 'zz'] });
    expect((await activePingers(postgres.sql)).unwatched).toContain('cc');
  });
});

test('a clock is wrong beyond the tolerance, in the grid, in the detail and for ingest', async () => {
  const offsets = { AHEAD: HOUR_MS, BEHIND: -HOUR_MS, RIGHT: CLOCK_OFFSET_TOLERANCE_MS, UNHEARD: undefined };
  for (const unit of Object.keys(offsets)) await register(unit);
  await fillToTheEnd(postgres, store);
  await postgres.sql`delete from platform.unit_telemetry`;
  for (const [unit, offset] of Object.entries(offsets)) {
    const clock = offset === undefined ? {} : { clockOffsetMs: offset };
    await tell(answered({ unit, at: NOW_MS, rttMs: 1, ...said(1), ...clock }));
  }
  expect([...(await clockOffsets(postgres.sql))]).toEqual([
    ['AHEAD', { offsetMs: HOUR_MS, measuredAtMs: NOW_MS }],
    ['BEHIND', { offsetMs: -HOUR_MS, measuredAtMs: NOW_MS }],
  ]);
  for (const [name, offset] of Object.entries(offsets)) {
    expect(await getUnit(readModelsOf(postgres), name, Date.now())).toMatchObject({
      clockOffsetMs: offset ?? null,
      clockWrong: Math.abs(offset ?? 0) === HOUR_MS,
    });
  }
  await tell(answered({ unit: 'AHEAD', at: NOW_MS + 1, rttMs: 1, ...said(1), clockOffsetMs: 3 }));
  expect([...(await clockOffsets(postgres.sql)).keys()]).toEqual(['BEHIND']);
});

describe('events of a unit with a wrong clock', () => {
  beforeAll(async () => {
    await register('SKEWED');
    const place = (unitseq: number) => ({ unitepoch: EPOCH, unitseq });
    const closed: EventDraft = { type: 'LockerClosed', locker: 'A', data: {} };
    const taken: EventDraft = { type: 'RentalStarted', locker: 'A', data: { rentalId: 'r', until: at(120) } };
    await append('SKEWED', 'device', closed, { ...place(1), time: at(61), clockoffsetms: HOUR_MS });
    await append('SKEWED', 'device', closed, { ...place(2), time: at(61) });
    await append('SKEWED', 'device', taken, { ...place(3), time: at(62), clockoffsetms: HOUR_MS });
    await fillToTheEnd(postgres, store);
  });

  test('keep both times, and are filtered by the corrected one', async () => {
    const { items } = await listEvents(readModelsOf(postgres), { unit: 'SKEWED', type: 'LockerClosed', limit: 10 });
    expect(
      items.map(({ unitseq, time, clockoffsetms, correctedTime }) => [unitseq, time, clockoffsetms, correctedTime]),
    ).toEqual([
      [2, at(61), undefined, undefined],
      [1, at(61), HOUR_MS, at(1)],
    ]);
    expect('correctedTime' in (items[0] ?? {})).toBe(false);
    const seqs = async (filter: { from?: string; until?: string }) =>
      (
        await listEvents(readModelsOf(postgres), { unit: 'SKEWED', type: 'LockerClosed', ...filter, limit: 10 })
      ).items.map(({ unitseq }) => unitseq);
    expect(await seqs({ from: at(1), until: at(2) })).toEqual([1]);
    expect(await seqs({ from: at(61) })).toEqual([2]);
    expect(await seqs({ until: at(1) })).toEqual([]);
  });

  test('have corrected times in the detail of the unit', async () => {
    const unit = await getUnit(readModelsOf(postgres), 'SKEWED', Date.now());
    expect(unit?.lastEventAt).toBe(at(2));
    expect(unit?.lockerDetails[0]?.rental).toEqual({ rentalId: 'r', startedAt: at(2), until: at(60) });
  });
});

test('the targets of pings and fetches have their channels, and leave out units whose credentials are revoked', async () => {
  await register('FETCHED', { delivery: 'fetch', commandChannel: 'nats' });
  await register('REVOKED');
  await append('REVOKED', 'registry', { type: 'UnitCredentialsRevoked', data: {} });
  await fillToTheEnd(postgres, store);
  const names = async () =>
    (await pingTargets(readModelsOf(postgres), { afterName: undefined, limit: 100 })).flatMap(({ name, inUse }) =>
      inUse ? [name] : [],
    );
  expect(await names()).toContain('FETCHED');
  expect(await names()).not.toContain('REVOKED');
  const [run] = await postgres.sql<{ schema_name: string }[]>`
    select schema_name from platform.projection_runs where projection = 'units' and status = 'serving'`;
  if (run === undefined) throw new Error('no run serves');
  const rows = await postgres.sql`
    select unit, delivery, command_channel, credentials_revoked from ${postgres.sql(`${run.schema_name}.unit`)}
    where unit in ('FETCHED', 'REVOKED') order by unit`;
  expect([...rows]).toEqual([
    { unit: 'FETCHED', delivery: 'fetch', command_channel: 'nats', credentials_revoked: false },
    { unit: 'REVOKED', delivery: 'push', command_channel: 'http', credentials_revoked: true },
  ]);
  await append('REVOKED', 'registry', { type: 'UnitCredentialsRotated', data: { keyVersion: 2, natsUser: 'UNEW' } });
  await fillToTheEnd(postgres, store);
  expect(await names()).toContain('REVOKED');
});

test('units that the change feed names are read by name, with their reported and their recorded state', async () => {
  await register('FEED-4');
  await fillToTheEnd(postgres, store);
  await tell(
    answered({ unit: 'FEED-4', at: NOW_MS + 1_000, rttMs: 1, epoch: EPOCH, lastSeq: 7, configurationHash: 'another' }),
  );
  const named = { names: ['FEED-4', 'NOBODY'] };
  expect(await fetchTargets(readModelsOf(postgres), named)).toEqual([
    {
      name: 'FEED-4',
      delivery: 'push',
      online: true,
      lastPingAnsweredAtMs: NOW_MS + 1_000,
      hasGap: false,
      recorded: undefined,
      reported: { epoch: EPOCH, seq: 7 },
    },
  ]);
  expect(await configurationReports(readModelsOf(postgres), named)).toEqual([
    { name: 'FEED-4', hash: 'another', atMs: NOW_MS + 1_000, isConclusive: true },
  ]);
  const page = { afterName: 'FEED-3', limit: 1 };
  expect((await fetchTargets(readModelsOf(postgres), page)).map(({ name }) => name)).toEqual(['FEED-4']);
  expect((await configurationReports(readModelsOf(postgres), page)).map(({ name }) => name)).toEqual(['FEED-4']);
});

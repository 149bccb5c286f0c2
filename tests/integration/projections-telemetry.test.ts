/** What is kept of pings and heartbeats, and what lists make of it, of wrong clocks and of revoked credentials. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { CLOCK_OFFSET_TOLERANCE_MS } from '../../domain/clock.ts';
import { HEARTBEAT_INTERVAL_MS } from '../../domain/connectivity.ts';
import { type Aggregate, type CloudEvent, type EventDraft, envelop } from '../../domain/envelope.ts';
import { versionOf } from '../../domain/events/catalogue.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { encodeTelemetry, type TelemetryResult } from '../../platform/telemetry.ts';
import { listEvents } from '../../projections/event_log/queries.ts';
import { PING_CLOCK_PRECEDENCE_MS } from '../../projections/telemetry/news.ts';
import { clockOffsets } from '../../projections/telemetry/queries.ts';
import { TelemetryRecorder } from '../../projections/telemetry/recorder.ts';
import { getUnit, listUnits, pingTargets } from '../../projections/units/queries.ts';
import { permutations } from '../support/permutations.ts';
import { fillToTheEnd, freshPostgres, silentLog } from '../support/projections.ts';
import { at, HOUR_MS, LOCKERS, NOW_MS, registration } from '../unit/domain/scene.ts';

const PING_INTERVAL_MS = 10_000;
const NOW = { nowMs: NOW_MS, unknownAfterMs: 3 * PING_INTERVAL_MS };
const EPOCH = '018f0000-0000-7000-8000-000000000001';

const store = new MemoryEventStore(() => NOW_MS);
let postgres: Postgres;
let recorder: TelemetryRecorder;
let commits = 0;

beforeAll(async () => {
  postgres = await freshPostgres();
  recorder = new TelemetryRecorder(postgres.sql, silentLog);
}, 60_000);

afterAll(() => postgres.close(1));

async function append(unit: string, aggregate: Aggregate, draft: EventDraft, changes: Partial<CloudEvent> = {}) {
  commits += 1;
  const commandId = `command-${commits}`;
  const context = { unit, source: '/lockfleet/tests', time: at(0), actor: 'ops:tests', commandId };
  const events = envelop([draft], context, versionOf, () => commandId).map((event) => ({ ...event, ...changes }));
  const expectedSequence = (await store.tail(unit, 0)).findLast((message) => message.aggregate === aggregate)?.sequence;
  await store.append({ unit, aggregate, expectedSequence: expectedSequence ?? 0, commandId, events });
}

async function register(unit: string, changes: Partial<ReturnType<typeof registration>> = {}): Promise<void> {
  const data = { ...registration(LOCKERS), name: unit, ...changes };
  await append(unit, 'registry', { type: 'UnitRegistered', data });
  await append(unit, 'connectivity', { type: 'UnitWentOnline', data: { evidence: 'heartbeat' } });
}

async function tell(...results: TelemetryResult[]): Promise<void> {
  recorder.take(encodeTelemetry('test', results));
  await recorder.flush();
}

const said = (lastSeq: number) => ({ epoch: EPOCH, lastSeq, configurationHash: 'c' });

describe('what was heard', () => {
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
        { heard: 'answer', ...head(1), rttMs: 12.5, ...said(1), clockOffsetMs: 5 },
        { heard: 'nothing', ...head(2) },
        { heard: 'heartbeat', ...head(3), ...said(3), clockOffsetMs: 9_000 },
        { heard: 'nothing', ...head(4) },
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
        { heard: 'answer', ...head(1), rttMs: 1, ...said(1), clockOffsetMs: 5 },
        { heard: 'nothing', ...head(2) },
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
      [
        { heard: 'nothing', ...head(1) },
        { heard: 'nothing', ...head(2) },
      ],
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
        { heard: 'answer', ...head(1), rttMs: 1, ...said(1), clockOffsetMs: 5 },
        { heard: 'answer', ...head(70), rttMs: 2, ...said(2), clockOffsetMs: 6 },
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
      [
        { heard: 'heartbeat', ...head(1), ...said(8), clockOffsetMs: 2_001 },
        { heard: 'nothing', ...head(3) },
      ],
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

describe('a unit that is not pinged', () => {
  const shown = async (agoMs: number, lastSeq: number) => {
    await postgres.sql`delete from platform.unit_telemetry`;
    await tell({ heard: 'heartbeat', unit: 'BEATS', at: NOW_MS - agoMs, ...said(lastSeq), clockOffsetMs: 12 });
    const { items } = await listUnits(postgres.sql, { ...NOW, q: 'BEATS', limit: 10 });
    return items[0];
  };

  test('is online, syncing or unknown by its heartbeats', async () => {
    await register('BEATS', { probe: 'nats' });
    await append('BEATS', 'device', { type: 'LockerClosed', locker: 'A', data: {} }, { unitepoch: EPOCH, unitseq: 1 });
    await fillToTheEnd(postgres, store);
    expect((await listUnits(postgres.sql, { ...NOW, q: 'BEATS', limit: 1 })).items[0]).toMatchObject({
      state: 'unknown',
      clockOffsetMs: null,
      clockWrong: false,
    });
    const agoMs = 3.9 * HEARTBEAT_INTERVAL_MS;
    expect(await shown(agoMs, 1)).toMatchObject({
      state: 'online',
      backlog: 0,
      lastOnlineAt: toInstant(NOW_MS - agoMs),
      lastResponseTimeMs: null,
      clockOffsetMs: 12,
      clockWrong: false,
    });
    expect(await shown(agoMs, 6)).toMatchObject({ state: 'syncing', backlog: 5 });
    expect(await shown(4.1 * HEARTBEAT_INTERVAL_MS, 1)).toMatchObject({ state: 'unknown' });
  });

  test('and one that is pinged is unknown sooner', async () => {
    await register('PINGED');
    await fillToTheEnd(postgres, store);
    const state = async () => (await getUnit(postgres.sql, { ...NOW, name: 'PINGED' }))?.state;
    await tell({ heard: 'nothing', unit: 'PINGED', at: NOW_MS - 4 * PING_INTERVAL_MS });
    expect(await state()).toBe('unknown');
    await tell({ heard: 'heartbeat', unit: 'PINGED', at: NOW_MS - 3.5 * PING_INTERVAL_MS });
    expect(await state()).toBe('unknown');
    await tell({ heard: 'nothing', unit: 'PINGED', at: NOW_MS - 2 * PING_INTERVAL_MS });
    expect(await state()).toBe('online');
  });
});

test('a clock is wrong beyond the tolerance, in the grid, in the detail and for ingest', async () => {
  const offsets = { AHEAD: HOUR_MS, BEHIND: -HOUR_MS, RIGHT: CLOCK_OFFSET_TOLERANCE_MS, UNHEARD: undefined };
  for (const unit of Object.keys(offsets)) await register(unit);
  await fillToTheEnd(postgres, store);
  await postgres.sql`delete from platform.unit_telemetry`;
  for (const [unit, offset] of Object.entries(offsets)) {
    const clock = offset === undefined ? {} : { clockOffsetMs: offset };
    await tell({ heard: 'answer', unit, at: NOW_MS, rttMs: 1, ...said(1), ...clock });
  }
  expect([...(await clockOffsets(postgres.sql))]).toEqual([
    ['AHEAD', HOUR_MS],
    ['BEHIND', -HOUR_MS],
  ]);
  for (const [name, offset] of Object.entries(offsets)) {
    expect(await getUnit(postgres.sql, { ...NOW, name })).toMatchObject({
      clockOffsetMs: offset ?? null,
      clockWrong: Math.abs(offset ?? 0) === HOUR_MS,
    });
  }
  await tell({ heard: 'answer', unit: 'AHEAD', at: NOW_MS + 1, rttMs: 1, ...said(1), clockOffsetMs: 3 });
  expect([...(await clockOffsets(postgres.sql)).keys()]).toEqual(['BEHIND']);
});

describe('events of a wrong clock', () => {
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
    const { items } = await listEvents(postgres.sql, { unit: 'SKEWED', type: 'LockerClosed', limit: 10 });
    expect(
      items.map(({ unitseq, time, clockoffsetms, correctedTime }) => [unitseq, time, clockoffsetms, correctedTime]),
    ).toEqual([
      [2, at(61), undefined, undefined],
      [1, at(61), HOUR_MS, at(1)],
    ]);
    expect('correctedTime' in (items[0] ?? {})).toBe(false);
    const seqs = async (filter: { from?: string; until?: string }) =>
      (await listEvents(postgres.sql, { unit: 'SKEWED', type: 'LockerClosed', ...filter, limit: 10 })).items.map(
        ({ unitseq }) => unitseq,
      );
    expect(await seqs({ from: at(1), until: at(2) })).toEqual([1]);
    expect(await seqs({ from: at(61) })).toEqual([2]);
    expect(await seqs({ until: at(1) })).toEqual([]);
  });

  test('make the unit’s detail right', async () => {
    const unit = await getUnit(postgres.sql, { ...NOW, name: 'SKEWED' });
    expect(unit?.lastEventAt).toBe(at(2));
    expect(unit?.lockerDetails[0]?.rental).toEqual({ rentalId: 'r', startedAt: at(2), until: at(60) });
  });
});

test('who pings and fetches hears of channels, and nothing of units whose credentials are revoked', async () => {
  await register('FETCHED', { delivery: 'fetch', commandChannel: 'nats' });
  await register('REVOKED');
  await append('REVOKED', 'registry', { type: 'UnitCredentialsRevoked', data: {} });
  await fillToTheEnd(postgres, store);
  const names = async () =>
    (await pingTargets(postgres.sql, { afterName: undefined, limit: 100 })).map(({ name }) => name);
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

/** Pingers whose clock is wrong: what they report is refused and counted, and hinders nothing that others report. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { toInstant } from '../../domain/vocabulary.ts';
import {
  BUCKET_MS,
  encodeTelemetry,
  MAX_TELEMETRY_RESULTS,
  type TelemetryResult,
} from '../../platform/liveness/telemetry-message.ts';
import { createLog } from '../../platform/observability/log.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { responseTimes } from '../../projections/telemetry/queries.ts';
import { ResponseTimePartitions } from '../../projections/telemetry/response-time-partitions.ts';
import { TelemetryRecorder } from '../../projections/telemetry/telemetry-recorder.ts';
import { freshPostgres } from '../support/projections.ts';
import { answered, missed } from '../support/telemetry.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const SETUP_TIMEOUT_MS = 60_000;

let postgres: Postgres;
/** The time of Postgres, which the partitions follow. */
let nowMs: number;

beforeAll(async () => {
  postgres = await freshPostgres();
  const [row] = await postgres.sql<{ now: Date }[]>`select now() as now`;
  nowMs = row?.now.getTime() ?? 0;
}, SETUP_TIMEOUT_MS);

afterAll(() => postgres.close(1));

function startRecorder() {
  const lines: Record<string, unknown>[] = [];
  let monotonicMs = 0;
  const recorder = new TelemetryRecorder(postgres.sql, {
    log: createLog((line) => lines.push(JSON.parse(line)), Date.now),
    clock: () => nowMs,
    monotonic: () => monotonicMs,
  });
  const record = async (...results: TelemetryResult[]) => {
    recorder.record(encodeTelemetry('wrong-clock', results));
    await recorder.flush();
  };
  const refused = async () => (await recorder.metrics().read()).telemetry_refused_total;
  const passTime = (ms: number) => {
    monotonicMs += ms;
  };
  return { recorder, record, refused, lines, passTime };
}

const rowsOf = (unit: string) =>
  postgres.sql<{ at: Date; last_seq: number | null }[]>`
    select at, last_seq from platform.unit_telemetry where unit = ${unit}`;

test('results that are dated in the future are refused and counted, and later ones of a right clock are recorded', async () => {
  const { record, refused, lines } = startRecorder();
  const ahead = nowMs + 2 * DAY_MS;
  await record(
    answered({ unit: 'AHEAD', at: ahead, rttMs: 1, epoch: 'e', lastSeq: 1 }),
    missed({ unit: 'AHEAD', at: nowMs + 6 * MINUTE_MS }),
    { heard: 'heartbeat', unit: 'AHEAD', at: ahead, epoch: 'e', lastSeq: 2 },
    // A clock may be ahead by less than a bucket.
    answered({ unit: 'SLIGHTLY', at: nowMs + 4 * MINUTE_MS, rttMs: 1 }),
  );
  expect(await refused()).toEqual({ 'clock-ahead': 3, 'outside-days': 0, malformed: 0, overflow: 0 });
  expect(lines).toEqual([
    expect.objectContaining({ level: 'warn', reason: 'clock-ahead', results: 3, pinger: 'wrong-clock' }),
  ]);
  expect(await rowsOf('AHEAD')).toHaveLength(0);
  expect(await rowsOf('SLIGHTLY')).toHaveLength(1);

  await record(answered({ unit: 'AHEAD', at: nowMs, rttMs: 1, epoch: 'e', lastSeq: 9 }));
  expect(await rowsOf('AHEAD')).toMatchObject([{ at: new Date(nowMs), last_seq: 9 }]);
});

test('a result of the future does not take the place of a right one that arrives with it', async () => {
  const { record } = startRecorder();
  await record(
    answered({ unit: 'BOTH', at: nowMs, rttMs: 1, epoch: 'e', lastSeq: 3 }),
    answered({ unit: 'BOTH', at: nowMs + DAY_MS, rttMs: 1, epoch: 'e', lastSeq: 4 }),
  );
  expect(await rowsOf('BOTH')).toMatchObject([{ at: new Date(nowMs), last_seq: 3 }]);
});

test('response times of days that are not kept are refused and counted, and no day is blocked by them', async () => {
  const { record, refused } = startRecorder();
  const behind = (days: number) => missed({ unit: 'BEHIND', at: nowMs - days * DAY_MS });
  await record(behind(0), behind(3), behind(400));
  expect(await refused()).toMatchObject({ 'outside-days': 2 });
  expect((await responseTimes(postgres.sql, 'BEHIND')).map(({ sent }) => sent)).toEqual([1]);
  // What the pinger says of the unit counts, since the newest report wins.
  expect(await rowsOf('BEHIND')).toMatchObject([{ at: new Date(nowMs) }]);
  // No row is kept outside the partitions of days, so the partition of any day can be created.
  const partitions = await postgres.sql<{ bound: string }[]>`
    select pg_get_expr(c.relpartbound, c.oid) as bound from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'platform.response_times'::regclass`;
  expect(partitions).toHaveLength(4);
  for (const { bound } of partitions) expect(bound).toStartWith('FOR VALUES FROM');
});

test('a bucket is accepted exactly when its day has a partition', async () => {
  const { fromMs, untilMs } = await new ResponseTimePartitions().maintain(postgres.sql);
  expect(untilMs - fromMs).toBe(4 * DAY_MS);
  expect(toInstant(fromMs)).toEndWith('T00:00:00.000Z');
  expect(Math.floor((nowMs - fromMs) / DAY_MS)).toBe(2);
  const { record, refused } = startRecorder();
  await record(missed({ unit: 'EDGE', at: fromMs }), missed({ unit: 'EDGE', at: fromMs - BUCKET_MS }));
  expect(await refused()).toMatchObject({ 'outside-days': 1 });
  const rows = await postgres.sql`select bucket_at from platform.response_times where unit = 'EDGE'`;
  expect([...rows]).toEqual([{ bucket_at: new Date(fromMs) }]);
});

test('a unit whose row was written while the clock of this process was ahead is recorded again', async () => {
  const ahead = new Date(nowMs + 3 * DAY_MS);
  await postgres.sql`
    insert into platform.unit_telemetry (unit, at, pinged_at, answered_at, last_online_at, epoch, last_seq, clock_at, clock_pinged_at)
    values ('POISONED', ${ahead}, ${ahead}, ${ahead}, ${ahead}, 'e', 99, ${ahead}, ${ahead})`;
  const { record } = startRecorder();
  await record(answered({ unit: 'POISONED', at: nowMs, rttMs: 1, epoch: 'e', lastSeq: 5 }));
  expect(await rowsOf('POISONED')).toMatchObject([{ at: new Date(nowMs), last_seq: 5 }]);
});

test('everything else that is thrown away is counted, and the log has one line a minute for each reason', async () => {
  const { recorder, record, refused, lines, passTime } = startRecorder();
  recorder.record('no JSON');
  recorder.recordPingerStatus('no status');
  recorder.record(JSON.stringify({ pingerId: 'other', results: [{ heard: 'rumour' }, { heard: 'pings' }] }));
  expect(await refused()).toMatchObject({ malformed: 4 });
  const future = (count: number) =>
    Array.from({ length: count }, (_, n) => missed({ unit: `F-${n}`, at: nowMs + DAY_MS }));
  for (let flushes = 0; flushes < 50; flushes += 1) await record(...future(2));
  expect(await refused()).toMatchObject({ 'clock-ahead': 100 });
  expect(lines).toHaveLength(2);
  passTime(MINUTE_MS);
  await record(...future(MAX_TELEMETRY_RESULTS));
  // The line counts what was refused since the line before it.
  expect(lines.slice(2)).toEqual([
    expect.objectContaining({ reason: 'clock-ahead', results: 98 + MAX_TELEMETRY_RESULTS }),
  ]);
});

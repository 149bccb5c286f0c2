/** Response times in buckets: each ping result is counted once. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { toInstant } from '../../domain/vocabulary.ts';
import { BUCKET_MS, encodeTelemetry, type TelemetryResultOf } from '../../platform/liveness/telemetry-message.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { responseTimes } from '../../projections/telemetry/queries.ts';
import { ResponseTimePartitions } from '../../projections/telemetry/response-time-partitions.ts';
import { TelemetryRecorder } from '../../projections/telemetry/telemetry-recorder.ts';
import { eventually } from '../support/eventually.ts';
import { connectPlatform } from '../support/nats.ts';
import { freshPostgres } from '../support/projections.ts';
import { recording } from '../support/telemetry.ts';

let postgres: Postgres;
let recorder: TelemetryRecorder;

beforeAll(async () => {
  postgres = await freshPostgres();
  recorder = new TelemetryRecorder(postgres.sql, recording());
}, 60_000);

afterAll(() => postgres.close(1));

async function tell(...results: TelemetryResultOf<'pings'>[]): Promise<void> {
  recorder.record(encodeTelemetry('test', results));
  await recorder.flush();
}

describe('response times', () => {
  const bucketAt = Math.floor(Date.now() / BUCKET_MS) * BUCKET_MS;
  const summary = (changes: Partial<TelemetryResultOf<'pings'>>): TelemetryResultOf<'pings'> => ({
    heard: 'pings',
    unit: 'TIMED',
    at: bucketAt + 1,
    bucketAt,
    sent: 1,
    lost: 1,
    ...changes,
  });

  test('are added up by bucket, in one write or in several', async () => {
    await tell(
      summary({ sent: 3, lost: 1, rttMs: { min: 10, max: 30, sum: 40 } }),
      summary({ sent: 2, lost: 2 }),
      summary({ sent: 1, lost: 1, bucketAt: bucketAt - BUCKET_MS }),
    );
    await tell(summary({ sent: 2, lost: 0, rttMs: { min: 5, max: 15, sum: 20 } }));
    expect(await responseTimes(postgres.sql, 'TIMED')).toEqual([
      { from: toInstant(bucketAt - BUCKET_MS), sent: 1, lost: 1, minMs: null, meanMs: null, maxMs: null },
      { from: toInstant(bucketAt), sent: 7, lost: 3, minMs: 5, meanMs: 15, maxMs: 30 },
    ]);
  });

  test('count once, also when they could not be written at first', async () => {
    let isAway = true;
    const sql = Object.assign(
      ((...args: Parameters<typeof postgres.sql>) => {
        if (isAway) throw new Error('the database is away');
        return postgres.sql(...args);
      }) as typeof postgres.sql,
      { part: postgres.sql.part, json: postgres.sql.json, script: postgres.sql.script },
    );
    const frail = new TelemetryRecorder(sql, recording());
    const once = (unit: string) => summary({ unit, sent: 2, lost: 1, rttMs: { min: 1, max: 1, sum: 1 } });
    frail.record(encodeTelemetry('test', [once('FRAIL')]));
    await frail.flush();
    frail.record(encodeTelemetry('test', [once('FRAIL')]));
    isAway = false;
    await frail.flush();
    await frail.flush();
    expect(await responseTimes(postgres.sql, 'FRAIL')).toMatchObject([{ sent: 4, lost: 2, meanMs: 1 }]);
  });

  test('of days beyond the retention are deleted', async () => {
    const old = 'response_times_20200101';
    await postgres.sql.script(`create table platform.${old} partition of platform.response_times
      for values from ('2020-01-01T00:00:00Z') to ('2020-01-02T00:00:00Z')`);
    await new ResponseTimePartitions().maintain(postgres.sql);
    const left = await postgres.sql<{ name: string }[]>`
      select relname as name from pg_class where relname like 'response\\_times\\_2%' and relkind = 'r' order by 1`;
    expect(left).toHaveLength(4);
    expect(left.map(({ name }) => name)).not.toContain(old);
  });
});

test('of several processes that record telemetry, one records each message', async () => {
  const processes = await Promise.all([connectPlatform(), connectPlatform()]);
  const counts = [0, 0];
  const subject = `telemetry.test.${crypto.randomUUID()}`;
  for (const [index, nats] of processes.entries()) {
    const count = () => {
      counts[index] = (counts[index] ?? 0) + 1;
    };
    nats.subscribe(subject, count, 'telemetry');
    await nats.flush();
  }
  for (let message = 0; message < 100; message += 1) processes[0]?.publish(subject, 'x');
  await eventually(async () => (counts[0] ?? 0) + (counts[1] ?? 0) >= 100);
  await Promise.all(processes.map((nats) => nats.flush()));
  expect((counts[0] ?? 0) + (counts[1] ?? 0)).toBe(100);
  await Promise.all(processes.map((nats) => nats.close()));
});

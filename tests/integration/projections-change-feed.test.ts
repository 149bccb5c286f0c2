/** Which units the telemetry recorder names to the change feed. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { encodeTelemetry, type TelemetryResult } from '../../platform/liveness/telemetry-message.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { TelemetryRecorder } from '../../projections/telemetry/telemetry-recorder.ts';
import { freshPostgres } from '../support/projections.ts';
import { NOW_MS } from '../support/scene.ts';
import { answered, missed, recording } from '../support/telemetry.ts';

const EPOCH = '018f0000-0000-7000-8000-000000000001';

let postgres: Postgres;

beforeAll(async () => {
  postgres = await freshPostgres();
}, 60_000);

afterAll(() => postgres.close(1));

describe('the change feed', () => {
  const reports: string[][] = [];
  const feed = () =>
    new TelemetryRecorder(postgres.sql, recording({ onReported: (units) => reports.push([...units]) }));
  const record = async (into: TelemetryRecorder, ...results: TelemetryResult[]) => {
    reports.length = 0;
    into.record(encodeTelemetry('test', results));
    await into.flush();
    return reports.flat().toSorted();
  };
  const ping = (unit: string, seconds: number, lastSeq: number, configurationHash = 'c') =>
    answered({ unit, at: NOW_MS + seconds * 1_000, rttMs: 1, epoch: EPOCH, lastSeq, configurationHash });

  test('names only the units that report another last seq or another configuration', async () => {
    const into = feed();
    expect(await record(into, ping('FEED-1', 1, 1), ping('FEED-2', 1, 1))).toEqual(['FEED-1', 'FEED-2']);
    expect(await record(into, ping('FEED-1', 2, 1), ping('FEED-2', 2, 2))).toEqual(['FEED-2']);
    expect(await record(into, ping('FEED-1', 3, 1, 'd'), ping('FEED-2', 3, 2))).toEqual(['FEED-1']);
    expect(await record(into, missed({ unit: 'FEED-1', at: NOW_MS + 4_000 }), ping('FEED-2', 2, 1))).toEqual([]);
  });

  test('names every unit of a write that follows a failed one, which may have been committed', async () => {
    let isAway = false;
    const sql = new Proxy(postgres.sql, {
      apply: (target, self, args) =>
        isAway ? Promise.reject(new Error('cut off')) : Reflect.apply(target, self, args),
    });
    const into = new TelemetryRecorder(sql, recording({ onReported: (units) => reports.push([...units]) }));
    expect(await record(into, ping('FEED-3', 1, 1))).toEqual(['FEED-3']);
    isAway = true;
    expect(await record(into, ping('FEED-3', 2, 1))).toEqual([]);
    isAway = false;
    expect(await record(into, ping('FEED-3', 3, 1))).toEqual(['FEED-3']);
    expect(await record(into, ping('FEED-3', 4, 1))).toEqual([]);
  });
});

import { afterAll, beforeAll, expect, test } from 'bun:test';
import type { CloudEvent } from '../../domain/events/cloud-event.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { monthOf } from '../../projections/event_log/months.ts';
import { eventLog } from '../../projections/event_log/projection.ts';
import { listEvents } from '../../projections/event_log/queries/events.ts';
import { dump, fill, fillToTheEnd, freshPostgres, readModelsOf } from '../support/projections.ts';

const UNITS = 12;
let postgres: Postgres;

beforeAll(async () => {
  postgres = await freshPostgres();
});

afterAll(() => postgres.close(1));

/** A commit of each unit at each of these times of recording; what happened says `time`, or when it was recorded. */
async function recorded(
  ...days: readonly { readonly at: string; readonly time?: string }[]
): Promise<MemoryEventStore> {
  let nowMs = 0;
  const store = new MemoryEventStore(() => nowMs);
  for (const [n, { at, time = at }] of days.entries()) {
    nowMs = Date.parse(at);
    for (let u = 0; u < UNITS; u++) {
      const unit = `PL-${u}`;
      const [last] = (await store.tail(unit, 0)).slice(-1);
      const event: CloudEvent = {
        specversion: '1.0',
        id: `${unit}/e/${n + 1}`,
        source: `/lockfleet/units/${unit}`,
        type: 'LockerClosed',
        subject: `${unit}/A`,
        time,
        dataschema: 'LockerClosed/1',
        data: {},
      };
      await store.append({
        unit,
        aggregate: 'device',
        expectedSequence: last?.sequence ?? 0,
        commandId: event.id,
        events: [event],
      });
    }
  }
  return store;
}

async function months(of: Postgres): Promise<Record<string, number>> {
  const { schema } = await readModelsOf(of).servingRuns.find('event_log');
  const names = await of.sql<{ name: string }[]>`
    select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
    join pg_class p on p.oid = i.inhparent join pg_namespace n on n.oid = p.relnamespace
    where n.nspname = ${schema} and p.relname = 'event' order by 1`;
  const counted: Record<string, number> = {};
  for (const { name } of names) {
    const [row] = await of.sql<{ rows: number }[]>`select count(*) as rows from ${of.sql(`${schema}.${name}`)}`;
    counted[name] = row?.rows ?? 0;
  }
  return counted;
}

test('each month of recording has a partition, also when the clocks of units or of the store are wrong', async () => {
  const store = await recorded(
    { at: '1970-01-01T00:00:00.000Z' },
    { at: '2019-12-31T23:59:59.999Z' },
    { at: '2026-06-30T23:59:59.999Z' },
    { at: '2026-07-01T00:00:00.000Z', time: '2026-02-01T00:00:00Z' },
    { at: '2026-07-31T12:00:00.000Z', time: '9999-12-31T23:59:59Z' },
    { at: '2100-01-01T00:00:00.000Z', time: '0001-01-01T00:00:00Z' },
    { at: '9999-12-31T23:59:59.999Z' },
  );
  await fillToTheEnd(postgres, store, { projections: [eventLog] });
  expect(await months(postgres)).toEqual({
    event_early: 2 * UNITS,
    event_2026_06: UNITS,
    event_2026_07: 2 * UNITS,
    event_late: 2 * UNITS,
  });
  // What claims to be of the year 9999 is filed under its recording; what is only late, under when it happened.
  const july = { from: '2026-07-15T00:00:00Z', until: '2026-08-01T00:00:00Z' };
  expect((await listEvents(readModelsOf(postgres), { ...july, limit: 100, count: true })).total).toBe(UNITS);
  const february = { from: '2026-02-01T00:00:00Z', until: '2026-02-02T00:00:00Z' };
  expect((await listEvents(readModelsOf(postgres), { ...february, limit: 100, count: true })).total).toBe(UNITS);
});

test('a wrong clock creates a bounded number of partitions', () => {
  const names = new Set<string>();
  for (let year = -200_000; year < 200_000; year += 7) names.add(monthOf(Date.UTC(year, year % 12)).name);
  expect(names.size).toBeLessThanOrEqual(80 * 12 + 2);
});

test('processes that reach a new month at the same time create its partition once, and fill it as a single process does', async () => {
  const days = Array.from({ length: 12 }, (_, month) => ({ at: new Date(Date.UTC(2026, month, 15)).toISOString() }));
  const store = await recorded(...days);
  const [shared, alone] = [await freshPostgres(), await freshPostgres()];
  const even = Array.from({ length: 128 }, (_, index) => index * 2);
  const owners = [even, even.map((lane) => lane + 1)].map((lanes) =>
    fill(shared, store, { projections: [eventLog], lanes }),
  );
  await Promise.all(owners.map(({ caughtUp }) => caughtUp));
  await Promise.all(owners.map((owner) => owner.stop()));
  await fillToTheEnd(alone, store, { projections: [eventLog] });
  expect(await dump(shared)).toEqual(await dump(alone));
  expect(Object.keys(await months(shared)).length).toBe(12);
  expect((await shared.sql`select 1 from platform.projection_parked`).length).toBe(0);
  await Promise.all([shared.close(1), alone.close(1)]);
}, 60_000);

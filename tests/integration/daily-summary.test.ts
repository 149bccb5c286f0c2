import { afterAll, describe, expect, test } from 'bun:test';
import type { Aggregate, CloudEvent } from '../../domain/events/cloud-event.ts';
import type { EventDraft } from '../../domain/events/drafts.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { createDailySummary } from '../../projections/daily_summary/projection.ts';
import { listDays } from '../../projections/daily_summary/queries.ts';
import type { Commit } from '../../projections/engine/projection.ts';
import { dump, fillToTheEnd, freshPostgres, readModelsOf } from '../support/projections.ts';
import { type SeededRandom, seededRandom } from '../support/random.ts';
import { registration } from '../support/registration.ts';
import { isInService, serviceDraft, servicePlans } from '../support/service-history.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const UNIT = 'PL-1000';
const LOCKERS = ['A', 'B', '3'];

const opened: Postgres[] = [];
const random = seededRandom();
let nowMs = 0;

afterAll(() => Promise.all(opened.map((postgres) => postgres.close(1))));

async function database(): Promise<Postgres> {
  const postgres = await freshPostgres();
  opened.push(postgres);
  return postgres;
}

/** Something that happened, and when the platform recorded it. */
interface Happened {
  readonly aggregate: Aggregate;
  readonly at: string;
  readonly recordedAt?: string;
  readonly draft: EventDraft;
}

const registered = (at: string, timeZone: string): Happened => ({
  aggregate: 'registry',
  at,
  draft: {
    type: 'UnitRegistered',
    data: registration(UNIT, { timeZone, lockers: LOCKERS.map((id) => ({ id, size: 'M' as const })) }),
  },
});
const device = (at: string, draft: EventDraft): Happened => ({ aggregate: 'device', at, draft });
const rented = (at: string, rentalId: string, locker = 'A') =>
  device(at, { type: 'RentalStarted', locker, data: { rentalId, until: '2027-01-01T00:00:00Z' } });
const givenBack = (at: string, rentalId: string, locker = 'A') =>
  device(at, { type: 'RentalEnded', locker, data: { rentalId, reason: 'given-back' } });
const paid = (
  aggregate: 'booking' | 'device',
  at: string,
  data: { reference: string; amount: number; reservationId?: string },
) => ({ aggregate, at, draft: { type: 'PaymentSucceeded', data: { currency: 'PLN', ...data } } }) as Happened;
const connectivity = (at: string, isOnline: boolean): Happened => ({
  aggregate: 'connectivity',
  at,
  draft: isOnline
    ? { type: 'UnitWentOnline', data: { evidence: 'ping' } }
    : { type: 'UnitWentOffline', data: { lastProofAt: at, missedPings: 3 } },
});

/** In the order in which they were recorded. What a unit reports has the place `seq` in its log. */
async function stored(happened: readonly (Happened & { readonly seq?: number })[]): Promise<MemoryEventStore> {
  const store = new MemoryEventStore(() => nowMs);
  let seqs = 0;
  for (const [n, { aggregate, at, recordedAt = at, draft, seq }] of happened.entries()) {
    nowMs = Math.max(nowMs, Date.parse(recordedAt));
    const place = aggregate === 'device' ? { unitepoch: 'e', unitseq: seq ?? ++seqs } : {};
    const event: CloudEvent = {
      specversion: '1.0',
      id: `${n}`,
      source: '/test',
      type: draft.type,
      subject: draft.locker === undefined ? UNIT : `${UNIT}/${draft.locker}`,
      time: at,
      dataschema: `${draft.type}/1`,
      data: draft.data,
      ...place,
    };
    const last = (await store.tail(UNIT, 0)).findLast((message) => message.aggregate === aggregate)?.sequence ?? 0;
    await store.append({ unit: UNIT, aggregate, expectedSequence: last, commandId: `c${n}`, events: [event] });
  }
  return store;
}

async function daysOf(happened: readonly Happened[], now: string) {
  nowMs = 0;
  const postgres = await database();
  await fillToTheEnd(postgres, await stored(happened), { projections: [createDailySummary()] });
  const { items } = await listDays(readModelsOf(postgres), { unit: UNIT, limit: 100, nowMs: Date.parse(now) });
  return items;
}

describe('a day', () => {
  test('has 23 or 25 hours at a change to or from summer time, and a rental over midnight counts on both days', async () => {
    // Clocks go forward on the 29th of March 2026, and back on the 25th of October.
    const spring = await daysOf(
      [
        registered('2026-03-28T11:00:00Z', 'Europe/Warsaw'),
        rented('2026-03-28T22:00:00Z', 'r'),
        givenBack('2026-03-29T23:00:00Z', 'r'),
      ],
      '2026-03-30T10:00:00Z',
    );
    expect(
      spring.map(({ day, lifeMs, rentedMs, rentals }) => [day, lifeMs / HOUR_MS, rentedMs / HOUR_MS, rentals]),
    ).toEqual([
      ['2026-03-28', 12, 1, 1],
      ['2026-03-29', 23, 23, 0],
      ['2026-03-30', 12, 1, 0],
    ]);
    const autumn = await daysOf([registered('2026-10-23T22:00:00Z', 'Europe/Warsaw')], '2026-10-26T23:00:00Z');
    expect(autumn.map(({ lifeMs, inServiceMs, isOver }) => [lifeMs / HOUR_MS, inServiceMs / HOUR_MS, isOver])).toEqual([
      [24, 72, true],
      [25, 75, true],
      [24, 72, true],
    ]);
  });

  test('without a later fact counts what returns to service, and maintenance, by time alone', async () => {
    const registry = (at: string, draft: EventDraft): Happened => ({ aggregate: 'registry', at, draft });
    const days = await daysOf(
      [
        registered('2026-07-01T00:00:00Z', 'UTC'),
        registry('2026-07-01T00:00:00Z', {
          type: 'LockerTakenOutOfService',
          data: { id: 'A', until: '2026-07-01T06:00:00Z' },
        }),
        registry('2026-07-01T00:00:00Z', {
          type: 'UnitMaintenancePlanned',
          data: { id: 'm', from: '2026-07-01T20:00:00Z', until: '2026-07-02T02:00:00Z', reason: 'paint' },
        }),
      ],
      '2026-07-03T00:00:00Z',
    );
    // 2 lockers for 6 h, 3 for 14 h, none for 4 h; then none for 2 h and 3 for 22 h.
    expect(days.map(({ inServiceMs }) => inServiceMs / HOUR_MS)).toEqual([54, 66]);
  });

  test('of a retired unit counts nothing, and of a unit registered anew with its name counts again', async () => {
    const days = await daysOf(
      [
        registered('2026-07-01T00:00:00Z', 'UTC'),
        rented('2026-07-01T06:00:00Z', 'r'),
        { aggregate: 'registry', at: '2026-07-01T12:00:00Z', draft: { type: 'UnitRetired', data: { forced: true } } },
        registered('2026-07-03T18:00:00Z', 'UTC'),
      ],
      '2026-07-04T00:00:00Z',
    );
    const hours = days.map(({ day, lifeMs, inServiceMs, rentedMs }) => [
      day,
      ...[lifeMs, inServiceMs, rentedMs].map((ms) => ms / HOUR_MS),
    ]);
    expect(hours).toEqual([
      ['2026-07-01', 12, 36, 6],
      ['2026-07-02', 0, 0, 0],
      ['2026-07-03', 6, 18, 0],
    ]);
  });

  test('that is not over counts open rentals up to now', async () => {
    const days = await daysOf(
      [
        registered('2026-07-01T22:00:00Z', 'Europe/Warsaw'),
        connectivity('2026-07-02T00:00:00Z', true),
        rented('2026-07-02T01:00:00Z', 'r'),
      ],
      '2026-07-02T04:00:00Z',
    );
    expect(days).toEqual([
      {
        day: '2026-07-02',
        units: 1,
        isOver: false,
        rentals: 1,
        revenue: [],
        rentedMs: 3 * HOUR_MS,
        inServiceMs: 18 * HOUR_MS,
        onlineMs: 4 * HOUR_MS,
        lifeMs: 6 * HOUR_MS,
        hardwareErrors: 0,
        openFailures: 0,
        conflicts: 0,
      },
    ]);
  });

  test('counts a payment once, reported by the unit or the platform, and no failed payment', async () => {
    const failed = device('2026-07-02T09:00:00Z', {
      type: 'PaymentFailed',
      data: { reference: 'p9', amount: 900, currency: 'PLN', reason: 'declined' },
    });
    const days = await daysOf(
      [
        registered('2026-07-01T22:00:00Z', 'Europe/Warsaw'),
        paid('device', '2026-07-03T08:00:00Z', { reference: 'p1', amount: 100 }),
        paid('booking', '2026-07-02T08:00:00Z', { reference: 'p1', amount: 100, reservationId: 'PL-1000.1' }),
        paid('booking', '2026-07-02T08:00:01Z', { reference: 'p1', amount: 20, reservationId: 'PL-1000.2' }),
        paid('device', '2026-07-03T08:00:00Z', { reference: 'p2', amount: 3 }),
        paid('device', '2026-07-02T08:00:00Z', { reference: 'p2', amount: 3 }),
        failed,
        // What no currency has is no reason to answer with nothing.
        paid('device', '2026-07-03T09:00:00Z', { reference: 'p3', amount: 1e30 }),
      ],
      '2026-07-03T20:00:00Z',
    );
    expect(days.map(({ day, revenue }) => [day, revenue])).toEqual([
      ['2026-07-02', [{ amount: 123, currency: 'PLN' }]],
      ['2026-07-03', [{ amount: 1e30, currency: 'PLN' }]],
    ]);
  });

  test('keeps its date when the unit moves to another time zone, and no date is counted twice', async () => {
    const moved = (at: string, timeZone: string): Happened => ({
      aggregate: 'registry',
      at,
      draft: { type: 'UnitUpdated', data: { timeZone } },
    });
    const days = await daysOf(
      [
        registered('2026-07-01T00:00:00Z', 'UTC'),
        moved('2026-07-02T01:00:00Z', 'America/New_York'),
        moved('2026-07-03T23:00:00Z', 'Asia/Tokyo'),
      ],
      '2026-07-05T15:00:00Z',
    );
    expect(days.map(({ day }) => day)).toEqual(['2026-07-01', '2026-07-02', '2026-07-03', '2026-07-04', '2026-07-05']);
    expect(days.reduce((sum, { lifeMs }) => sum + lifeMs, 0)).toBe(4 * DAY_MS + 15 * HOUR_MS);
  });
});

/** A random month of a unit: facts with their true time, and how long each took to arrive. */
function someHistory(chance: SeededRandom, fromMs: number): (Happened & { seq?: number; lateMs: number })[] {
  const made: (Happened & { seq?: number; lateMs: number })[] = [];
  let atMs = fromMs;
  let seq = 0;
  const running = new Map<string, string>();
  for (let n = 0; n < 60; n++) {
    atMs += 1 + chance.below(12 * HOUR_MS);
    const at = toInstant(atMs);
    const locker = LOCKERS[chance.below(3)] ?? 'A';
    const lateMs = chance.below(3) === 0 ? chance.below(9 * DAY_MS) : chance.below(1_000);
    const rental = running.get(locker);
    const what = chance.below(8);
    if (what < 3) {
      seq += 1;
      if (rental === undefined) running.set(locker, `r${n}`);
      else running.delete(locker);
      made.push({
        ...(rental === undefined ? rented(at, `r${n}`, locker) : givenBack(at, rental, locker)),
        seq,
        lateMs,
      });
    } else if (what === 3) {
      made.push({
        ...paid('device', at, { reference: `p${chance.below(20)}`, amount: 1 + chance.below(500) }),
        seq: ++seq,
        lateMs,
      });
    } else if (what === 4) {
      made.push({
        ...device(at, { type: 'HardwareErrorRaised', data: { code: 'E', message: '' } }),
        seq: ++seq,
        lateMs,
      });
    } else if (what === 5) made.push({ ...connectivity(at, n % 2 === 0), lateMs: 0 });
    else made.push({ aggregate: 'registry', at, draft: serviceDraft(chance, { n, atMs, locker }), lateMs: 0 });
  }
  return made;
}

/** Minute by minute, and fact by fact: slow, and easy to believe. */
function slowly(history: readonly Happened[], zone: string, fromMs: number, toMs: number) {
  const dayOf = (ms: number) => new Intl.DateTimeFormat('sv-SE', { timeZone: zone }).format(ms);
  const facts = history.toSorted((a, b) => (a.at < b.at ? -1 : 1));
  const days = new Map<
    string,
    { rentals: number; revenue: number; errors: number; rentedMs: number; inServiceMs: number; onlineMs: number }
  >();
  const on = (ms: number) => {
    const day = dayOf(ms);
    const known = days.get(day) ?? { rentals: 0, revenue: 0, errors: 0, rentedMs: 0, inServiceMs: 0, onlineMs: 0 };
    days.set(day, known);
    return known;
  };
  const references = new Set<string>();
  for (const { at, draft } of facts) {
    const day = on(Date.parse(at));
    if (draft.type === 'RentalStarted') day.rentals += 1;
    if (draft.type === 'HardwareErrorRaised') day.errors += 1;
    if (draft.type === 'PaymentSucceeded' && !references.has(draft.data.reference)) {
      references.add(draft.data.reference);
      day.revenue += draft.data.amount;
    }
  }
  const moments = [
    ...facts.map(({ at }) => Date.parse(at)),
    ...servicePlans(facts.map(({ draft }) => draft)),
    ...halfHours(fromMs, toMs),
    toMs,
  ]
    .filter((ms) => ms <= toMs)
    .toSorted((a, b) => a - b);
  let beforeMs = fromMs;
  for (const ms of moments) {
    // Between two moments nothing happens and no day ends.
    const past = facts.filter(({ at }) => Date.parse(at) <= beforeMs);
    const drafts = past.map(({ draft }) => draft);
    const day = on(beforeMs);
    const lastOf = (types: readonly string[], locker?: string) =>
      past.findLast(
        ({ draft }) =>
          types.includes(draft.type) &&
          (locker === undefined || (draft.locker ?? ('id' in draft.data ? draft.data.id : '')) === locker),
      )?.draft.type;
    for (const locker of LOCKERS) {
      const isRented = lastOf(['RentalStarted', 'RentalEnded'], locker) === 'RentalStarted';
      if (isRented) day.rentedMs += ms - beforeMs;
      if (isRented || isInService(drafts, locker, beforeMs)) day.inServiceMs += ms - beforeMs;
    }
    if (lastOf(['UnitWentOnline', 'UnitWentOffline']) === 'UnitWentOnline') day.onlineMs += ms - beforeMs;
    beforeMs = ms;
  }
  return Object.fromEntries([...days].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** Where days may end: some zones are half an hour off. */
function halfHours(fromMs: number, toMs: number): number[] {
  const stepMs = HOUR_MS / 2;
  const first = Math.ceil(fromMs / stepMs) * stepMs;
  return Array.from({ length: Math.max(0, Math.ceil((toMs - first) / stepMs)) }, (_, n) => first + n * stepMs);
}

describe('the days of a history', () => {
  test('are the same for any order of late events and any batches, and equal a slow reference count', async () => {
    for (let round = 0; round < 6; round++) {
      const zone = random.pick(['Europe/Warsaw', 'America/Sao_Paulo', 'Australia/Lord_Howe', 'Asia/Kolkata']);
      const fromMs = Date.parse(random.pick(['2026-03-20T05:00:00.000Z', '2026-10-18T17:00:00.000Z']));
      const history = someHistory(random, fromMs);
      const beginning = registered(toInstant(fromMs), zone);
      const endMs = fromMs + 45 * DAY_MS;
      const arrivals = [0, 1, 2].map((factor) =>
        history.toSorted((a, b) => Date.parse(a.at) + a.lateMs * factor - (Date.parse(b.at) + b.lateMs * factor)),
      );
      const dumps: Record<string, string[]>[] = [];
      for (const arrival of arrivals) {
        nowMs = 0;
        const postgres = await database();
        // All of it is recorded at the end, so that only the order differs.
        const recordedAt = toInstant(endMs);
        const store = await stored([beginning, ...arrival.map((happened) => ({ ...happened, recordedAt }))]);
        await fillToTheEnd(postgres, new MemoryEventStore(() => 0), { projections: [createDailySummary()] });
        await applyInPieces(postgres, store);
        dumps.push(without(await dump(postgres), 'daily_summary.mark'));
        const { items } = await listDays(readModelsOf(postgres), { unit: UNIT, limit: 100, nowMs: endMs });
        const shown = items.map(({ day, rentals, revenue, hardwareErrors, rentedMs, inServiceMs, onlineMs }) => [
          day,
          { rentals, revenue: revenue[0]?.amount ?? 0, errors: hardwareErrors, rentedMs, inServiceMs, onlineMs },
        ]);
        expect([zone, Object.fromEntries(shown)]).toEqual([zone, slowly(history, zone, fromMs, endMs)]);
      }
      expect(dumps[1]).toEqual(dumps[0] ?? {});
      expect(dumps[2]).toEqual(dumps[0] ?? {});
    }
  }, 120_000);
});

async function applyInPieces(postgres: Postgres, store: MemoryEventStore): Promise<void> {
  const [run] = await postgres.sql<{ schema: string }[]>`
    select schema_name as schema from platform.projection_runs where status = 'serving'`;
  const commits: Commit[] = (await store.tail(UNIT, 0)).map((message) => ({ ...message, events: message.events() }));
  while (commits.length > 0) {
    const piece = commits.splice(0, 1 + random.below(9));
    await postgres.transaction((tx) => createDailySummary().apply(tx, run?.schema ?? '', piece));
  }
}

/** Places of platform events among marks are their positions, which differ with the order; standings name the last one. */
function without(tables: Record<string, string[]>, name: string): Record<string, string[]> {
  const { [name]: _, ...others } = tables;
  return Object.fromEntries(
    Object.entries(others).map(([table, rows]) => [table, rows.map((row) => row.replace(/""tie"":""[^"]*""/g, ''))]),
  );
}

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { freeLockers } from '../../domain/booking/allocation.ts';
import { priceOf } from '../../domain/booking/price.ts';
import { allReservations } from '../../domain/booking/reservation.ts';
import { requireConfigured } from '../../domain/configuration/configuration.ts';
import { isInServiceAt } from '../../domain/registry/service.ts';
import { unitHash } from '../../domain/shard.ts';
import type { UnitState } from '../../domain/unit/unit.ts';
import { LOCKER_SIZES, toInstant } from '../../domain/vocabulary.ts';
import type { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Append, StoredMessage } from '../../platform/event-store/store.ts';
import { encodeTelemetry } from '../../platform/liveness/telemetry-message.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { CursorError, type Page } from '../../platform/postgres/cursor.ts';
import { listEvents } from '../../projections/event_log/queries/events.ts';
import { findFreeLockers, getReservation, listReservations } from '../../projections/reservations/queries.ts';
import { TelemetryRecorder } from '../../projections/telemetry/telemetry-recorder.ts';
import { pingTargets } from '../../projections/units/queries/followers.ts';
import { getUnit, listUnits, type UnitSort } from '../../projections/units/queries/units.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { append, fillToTheEnd, freshPostgres, readModelsOf, storeOf } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';
import { answered, recording, watchAllShards } from '../support/telemetry.ts';

const MINUTE_MS = 60_000;
const UNITS = 25;
const random = seededRandom();
const history = new FleetHistory(random, { units: UNITS, lockers: 6 });
let store: MemoryEventStore;
let postgres: Postgres;

beforeAll(async () => {
  store = storeOf(history);
  postgres = await freshPostgres();
  await append(history, store, 1_500);
  await fillToTheEnd(postgres, store);
}, 60_000);

afterAll(() => postgres.close(1));

/** All items, page by page. */
async function pages<T>(list: (cursor: string | undefined) => Promise<Page<T>>): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | null | undefined;
  do {
    const page: Page<T> = await list(cursor ?? undefined);
    items.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return items;
}

/** The position of the last commit about the booking of each reservation of a unit. */
async function lastChanges(unit: string): Promise<ReadonlyMap<string, number>> {
  const commits = (await store.tail(unit, 0)).filter(({ aggregate }) => aggregate === 'booking');
  return new Map(
    commits.flatMap((commit) =>
      commit
        .events()
        .flatMap(({ data }): [string, number][] =>
          'reservationId' in data && typeof data.reservationId === 'string'
            ? [[data.reservationId, commit.sequence]]
            : [],
        ),
    ),
  );
}

function statesOf(): UnitState[] {
  return [...history.states.values()];
}

describe('availability', () => {
  test('is what the domain allows a customer to reserve, over random histories and periods', async () => {
    for (let round = 0; round < 60; round++) {
      const nowMs = history.nowMs + (random.below(600) - 300) * MINUTE_MS;
      const fromMs = nowMs + random.below(400) * MINUTE_MS;
      const untilMs = fromMs + (5 + random.below(240)) * MINUTE_MS;
      const size = random.below(2) === 0 ? undefined : LOCKER_SIZES[random.below(4)];
      const expected = statesOf().flatMap((state) => expectedOffers(state, { fromMs, untilMs }, nowMs));
      const { items, asOf } = await findFreeLockers(readModelsOf(postgres), {
        near: { lat: 54.1, lon: 18.1, radiusM: 1_000_000 },
        from: toInstant(fromMs),
        until: toInstant(untilMs),
        ...(size === undefined ? {} : { size }),
        nowMs,
        limit: 10_000,
      });
      expect(asOf).toBe(toInstant(nowMs));
      const found = items.map(({ unit, locker, price }) => ({ unit, locker, price }));
      const wanted = expected.filter((offer) => size === undefined || offer.size === size);
      expect(sorted(found)).toEqual(sorted(wanted.map(({ unit, locker, price }) => ({ unit, locker, price }))));
    }
  }, 60_000);

  test('near a position lists the units within the radius, the nearest first', async () => {
    const centre = { lat: 54.1, lon: 18.1 };
    const from = toInstant(history.nowMs + 100 * MINUTE_MS);
    const query = { from, until: toInstant(history.nowMs + 160 * MINUTE_MS), nowMs: history.nowMs, limit: 10_000 };
    const near = await findFreeLockers(readModelsOf(postgres), { ...query, near: { ...centre, radiusM: 5_000 } });
    const distances = near.items.map(({ unit }) => distanceTo(unit, centre));
    expect(distances.length).toBeGreaterThan(0);
    expect(Math.max(...distances)).toBeLessThan(5_010);
    expect(distances).toEqual(distances.toSorted((a, b) => a - b));
    const all = await findFreeLockers(readModelsOf(postgres), { ...query, near: { ...centre, radiusM: 1_000_000 } });
    const inside = all.items.filter(({ unit }) => distanceTo(unit, centre) <= 5_000);
    expect(near.items.length).toBe(inside.length);
  });

  test('names the unit as its source while it is online, otherwise the platform and the time of the last event', async () => {
    const { items } = await findFreeLockers(readModelsOf(postgres), {
      near: { lat: 54.1, lon: 18.1, radiusM: 1_000_000 },
      from: toInstant(history.nowMs + 100 * MINUTE_MS),
      until: toInstant(history.nowMs + 160 * MINUTE_MS),
      nowMs: history.nowMs,
      limit: 10_000,
    });
    expect(items.length).toBeGreaterThan(0);
    for (const { unit, confidence } of items) {
      const state = history.states.get(unit);
      expect(confidence.source).toBe(state?.connectivity.status === 'online' ? 'unit' : 'platform');
      if (confidence.source === 'platform') expect(confidence.asOf).toBe(state?.device.lastEventAt ?? null);
    }
  });
});

describe('reservations', () => {
  test('a customer sees all of their own reservations and no others, page by page', async () => {
    const held = (
      await pages((cursor) =>
        listEvents(readModelsOf(postgres), { type: 'ReservationHeld', limit: 100, ...at(cursor) }),
      )
    ).map(({ data }) => data as { reservationId: string; customer: string });
    for (const customer of new Set(held.map((event) => event.customer))) {
      const own = held.filter((event) => event.customer === customer).map(({ reservationId }) => reservationId);
      const listed = await pages((cursor) =>
        listReservations(readModelsOf(postgres), { customer, limit: 3, ...at(cursor) }),
      );
      expect(listed.map(({ id }) => id)).toEqual(own);
      const { total } = await listReservations(readModelsOf(postgres), { customer, limit: 1, count: true });
      expect(total).toBe(own.length);
    }
    const [mine, other] = [held[0], held.find(({ customer }) => customer !== held[0]?.customer)];
    const query = { id: mine?.reservationId ?? '', customer: other?.customer ?? '' };
    expect(await getReservation(readModelsOf(postgres), query)).toBeUndefined();
  }, 30_000);

  test('a reservation equals the fold of its events', async () => {
    for (const state of statesOf()) {
      const changedAt = await lastChanges(state.name);
      for (const reservation of allReservations(state.booking)) {
        const { id, customer } = reservation;
        const shown = await getReservation(readModelsOf(postgres), { id, customer });
        expect(shown).toEqual({ ...reservation, unit: state.name, bookingSequence: changedAt.get(id) ?? Number.NaN });
      }
    }
  });
});

describe('the event log', () => {
  test('pages through everything once, newest first, also while it grows', async () => {
    const before = await store.lastSequence();
    let isGrown = false;
    const listed = await pages(async (cursor) => {
      const page = await listEvents(readModelsOf(postgres), { limit: 97, ...at(cursor) });
      if (!isGrown) {
        isGrown = true;
        await append(history, store, 20);
        await fillToTheEnd(postgres, store);
      }
      return page;
    });
    const positions = listed.map(({ position }) => position);
    expect(new Set(positions).size).toBe(positions.length);
    const keys = positions.map((position) => position.split('.').map(Number));
    expect(keys).toEqual(keys.toSorted(([a = 0, i = 0], [b = 0, j = 0]) => b - a || j - i));
    const expected: StoredMessage[] = [];
    for (const { name } of statesOf()) for (const message of await store.tail(name, 0)) expected.push(message);
    const events = expected.filter(({ sequence }) => sequence <= before).flatMap((message) => message.events());
    expect(listed.length).toBe(events.length);
    expect(sorted(listed.map(({ position: _, recordedAt: __, ...event }) => event))).toEqual(sorted(events));
  }, 30_000);

  test('filters by unit, locker, type and time', async () => {
    const all = await pages((cursor) => listEvents(readModelsOf(postgres), { limit: 500, ...at(cursor) }));
    const from = all[Math.floor(all.length * 0.7)]?.time ?? '';
    const until = all[Math.floor(all.length * 0.2)]?.time ?? '';
    const filter = { unit: 'PL-1003', locker: '1', type: 'LockerOpened', from, until };
    const { items, total } = await listEvents(readModelsOf(postgres), { ...filter, limit: 500, count: true });
    const expected = all.filter(
      ({ subject, type, time }) => subject === 'PL-1003/1' && type === 'LockerOpened' && time >= from && time < until,
    );
    expect(items).toEqual(expected);
    expect(total).toBe(expected.length);
  });

  test('refuses a time that does not exist', async () => {
    const refused = listEvents(readModelsOf(postgres), { from: '2026-13-45T10:00:00Z', limit: 1 });
    await expect(refused).rejects.toMatchObject({ kind: 'validation', errors: [{ path: '/from' }] });
    expect((await listEvents(readModelsOf(postgres), { from: '0000-01-01T00:00:00Z', limit: 1 })).items.length).toBe(1);
  });

  test('contains an event with an implausible time', async () => {
    const commit = oddCommit();
    await store.append(commit);
    await fillToTheEnd(postgres, store);
    const { items } = await listEvents(readModelsOf(postgres), { unit: 'ODD', limit: 5 });
    const asStored = JSON.parse(JSON.stringify(commit.events)) as unknown[];
    expect(items.map(({ position: _, recordedAt: __, ...event }) => event)).toEqual(asStored.toReversed() as never);
    expect((await postgres.sql`select unit from platform.projection_parked`).length).toBe(0);
  });
});

describe('units', () => {
  test('every order pages through all units once', async () => {
    await tellPings();
    const names = statesOf()
      .map(({ name }) => name)
      .toSorted();
    for (const sort of ['name', 'state', 'lastOnlineAt', 'lastResponseTimeMs'] satisfies UnitSort[]) {
      const listed = await pages((cursor) => listUnits(readModelsOf(postgres), { sort, limit: 4, ...at(cursor) }));
      expect(listed.map(({ name }) => name).toSorted()).toEqual(names);
      const whole = await listUnits(readModelsOf(postgres), { sort, limit: 100, count: true });
      expect(listed).toEqual([...whole.items]);
      expect(whole.total).toBe(UNITS);
    }
  }, 30_000);

  test('state, backlog and last answer combine events and pings', async () => {
    await tellPings();
    const { items } = await listUnits(readModelsOf(postgres), { limit: 100 });
    for (const item of items) {
      const state = history.states.get(item.name);
      const ping = pingOf(item.name);
      const isOnline = state?.connectivity.status === 'online';
      const expected = !isOnline ? state?.connectivity.status : ping.isBehind ? 'syncing' : 'online';
      expect(item.state).toBe(expected ?? 'never-seen');
      // Telemetry of a unit that was never seen is that of a retired unit with its name.
      const isSeen = item.state !== 'never-seen';
      expect(item.lastResponseTimeMs).toBe(isSeen ? ping.rttMs : null);
      expect(item.lastOnlineAt).toBe(isSeen ? toInstant(ping.at) : null);
      if (state?.device.epoch !== undefined) expect(item.backlog).toBe(isSeen && ping.isBehind ? 5 : 0);
    }
    const online = await listUnits(readModelsOf(postgres), {
      state: 'online',
      limit: 100,
    });
    expect(online.items).toEqual(items.filter(({ state }) => state === 'online'));
  }, 30_000);

  test('are found by a part of their name and by shard', async () => {
    const now = { limit: 100 };
    const found = await listUnits(readModelsOf(postgres), { ...now, q: 'l-101' });
    expect(found.items.map(({ name }) => name)).toEqual(Array.from({ length: 10 }, (_, n) => `PL-101${n}`));
    expect((await listUnits(readModelsOf(postgres), { ...now, q: '%' })).items).toEqual([]);
    const shard = unitHash('PL-1004').slice(0, 1);
    const there = statesOf()
      .map(({ name }) => name)
      .filter((name) => unitHash(name).startsWith(shard));
    expect((await listUnits(readModelsOf(postgres), { ...now, shard })).items.map(({ name }) => name)).toEqual(
      there.toSorted(),
    );
  });

  test('one unit has its lockers with doors and rentals; ping targets come in order', async () => {
    for (const state of statesOf()) {
      const { registry } = state;
      if (registry.status === 'unregistered') continue;
      const unit = await getUnit(readModelsOf(postgres), state.name, history.nowMs);
      expect(unit?.lockerDetails).toEqual(
        registry.lockers.map(({ id, size, outOfService }) => ({
          id,
          size,
          inService: isInServiceAt(registry, id, history.nowMs),
          outOfService: outOfService ?? null,
          door: state.device.lockers[id]?.door ?? 'unknown',
          rental: state.device.lockers[id]?.rental ?? null,
        })),
      );
    }
    expect(await getUnit(readModelsOf(postgres), 'NOBODY', Date.now())).toBeUndefined();
    const first = await pingTargets(readModelsOf(postgres), { afterName: undefined, limit: 10 });
    const rest = await pingTargets(readModelsOf(postgres), { afterName: first.at(-1)?.name, limit: 100 });
    const named = await pingTargets(readModelsOf(postgres), {
      names: ['NOBODY', ...first.slice(2, 4).map(({ name }) => name)],
    });
    expect(named).toEqual(first.slice(2, 4));
    expect([...first, ...rest].map(({ name }) => name)).toEqual(
      statesOf()
        .map(({ name }) => name)
        .toSorted(),
    );
  });
});

test('a cursor of another list is refused', async () => {
  const now = { limit: 1 };
  const wrong = ['', 'nonsense', ...[null, 1, [], ['a', 'b', 'c'], [1.5, 0], ['x', {}], [1e300, 'x']].map(encoded)];
  for (const cursor of wrong) {
    await expect(listEvents(readModelsOf(postgres), { limit: 1, cursor })).rejects.toBeInstanceOf(CursorError);
    await expect(listReservations(readModelsOf(postgres), { customer: 'x', limit: 1, cursor })).rejects.toBeInstanceOf(
      CursorError,
    );
    await expect(listUnits(readModelsOf(postgres), { ...now, cursor })).rejects.toBeInstanceOf(CursorError);
  }
  const { nextCursor } = await listUnits(readModelsOf(postgres), { ...now, sort: 'state' });
  const other = listUnits(readModelsOf(postgres), { ...now, sort: 'lastOnlineAt', cursor: nextCursor ?? '' });
  await expect(other).rejects.toBeInstanceOf(CursorError);
});

function encoded(keys: unknown): string {
  return Buffer.from(JSON.stringify(keys)).toString('base64url');
}

/** What a unit may send that no schema knows: times that are none, and characters that Postgres cannot keep. */
function oddCommit(): Append {
  const events = ['0000-01-01T00:00:00Z', '2026-02-31T25:61:00Z', '9999-12-31T23:59:59.999Z'].map((time, index) => ({
    specversion: '1.0' as const,
    id: `ODD/e/${index + 1}`,
    source: '/lockfleet/units/ODD',
    type: 'Novel\u0000Type',
    subject: 'ODD/A',
    time,
    dataschema: 'Novel/1',
    data: { text: 'a\u0000b \ud800 "\\' },
    unitepoch: 'e',
    unitseq: index + 1,
  }));
  return { unit: 'ODD', aggregate: 'device', expectedSequence: 0, commandId: 'odd', events };
}

function expectedOffers(state: UnitState, period: { fromMs: number; untilMs: number }, nowMs: number) {
  const { registry } = state;
  if (registry.status !== 'registered') return [];
  const { values } = requireConfigured(state.configuration).desired;
  const minutes = (period.untilMs - period.fromMs) / MINUTE_MS;
  if (minutes < values.minimumMinutes || minutes > values.maximumMinutes) return [];
  const { certain, doubtful } = freeLockers(registry, state, period, nowMs);
  return [...certain, ...doubtful].flatMap(({ id, size }) => {
    const price = priceOf(values, size, period.fromMs, period.untilMs);
    return price === undefined ? [] : [{ unit: state.name, locker: id, size, price }];
  });
}

function distanceTo(unit: string, { lat, lon }: { lat: number; lon: number }): number {
  const state = history.states.get(unit);
  if (state === undefined || state.registry.status === 'unregistered') return Number.NaN;
  const { location } = state.registry;
  const metres = 6_371_000 * (Math.PI / 180);
  return Math.hypot((location.lat - lat) * metres, (location.lon - lon) * metres * Math.cos((lat * Math.PI) / 180));
}

/** Every fifth unit has events that are not recorded. */
function pingOf(name: string) {
  const index = Number(name.slice(3));
  return { isBehind: index % 5 === 0, rttMs: (index * 7) % 50, at: history.nowMs - 1_000 };
}

async function tellPings(): Promise<void> {
  const recorder = new TelemetryRecorder(postgres.sql, recording());
  const results = statesOf().map(({ name, device }) => {
    const { at, rttMs, isBehind } = pingOf(name);
    const recorded = device.epoch === undefined ? 0 : (device.epochs[device.epoch] ?? 0);
    const log: { epoch?: string; lastSeq?: number } =
      device.epoch === undefined ? {} : { epoch: device.epoch, lastSeq: recorded + (isBehind ? 5 : 0) };
    return answered({ unit: name, at, rttMs, ...log });
  });
  recorder.record(encodeTelemetry('test', results));
  await recorder.flush();
  await watchAllShards(postgres.sql);
}

function sorted<T>(items: readonly T[]): T[] {
  return items.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

function at(cursor: string | undefined) {
  return cursor === undefined ? {} : { cursor };
}

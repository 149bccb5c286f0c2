/** Requests with an `Idempotency-Key` on a real Postgres, with the time injected: crashes, retries, forgotten keys, two servers. */

import { afterAll, beforeAll, beforeEach, expect, test } from 'bun:test';
import { allReservations } from '../../domain/booking/reservation.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import { changeConfiguration } from '../../domain/configuration/delivery.ts';
import { newUnitState } from '../../domain/unit/unit.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { ReservationService } from '../../server/api/reservations/reservation-service.ts';
import { IdempotencyStore } from '../../server/http/idempotency-store.ts';
import { type Answer, IdempotentWrites } from '../../server/http/idempotent-writes.ts';
import { Problem } from '../../server/http/problems.ts';
import { freshPostgres } from '../support/projections.ts';
import { appendRegistration } from '../support/registration.ts';
import { DAY_MS, HOUR_MS, NOW_MS } from '../support/scene.ts';
import { silentLog } from '../support/silent-log.ts';

const UNIT = 'PL-1000';
const LEASE_MS = 30_000;
const newId = () => Bun.randomUUIDv7();
const never = new Promise<never>(() => undefined);

let postgres: Postgres;
let events: MemoryEventStore;
let nowMs: number;
let keys = 0;
let key: string;

beforeAll(async () => {
  postgres = await freshPostgres();
});
afterAll(() => postgres.close());
beforeEach(async () => {
  nowMs = NOW_MS;
  keys += 1;
  key = `key-${keys}`;
  events = new MemoryEventStore(() => nowMs);
  const lockers = ['A', 'B', 'C'].map((id) => ({ id, size: 'S' as const }));
  await appendRegistration(newDecider(), UNIT, { lockers });
});

function newDecider(): UnitDecider {
  return new UnitDecider({
    store: events,
    loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
    newId,
    clock: () => nowMs,
    random: () => 0,
    sleep: async () => undefined,
    log: silentLog,
  });
}

type Run = (commandId: string) => Promise<Answer>;

/** A server process. All servers share the Postgres and the event store. */
function startServer() {
  const decider = newDecider();
  const store = new IdempotencyStore({ sql: postgres.sql, newId, clock: () => nowMs });
  const writes = new IdempotentWrites(store, newId);
  const reservations = new ReservationService({ decider, newId, clock: () => nowMs } as never);
  const write = async (run: Run, content: unknown = {}) => {
    const request = { caller: { role: 'customer', sub: 'alice' } as const, route: 'POST /v1/things', key, content };
    const { code, response } = await writes.run(request, {}, run);
    return { status: code, body: response as { readonly id?: string } };
  };
  const hold: Run = (commandId) =>
    reservations.hold(commandId, 'alice', {
      unit: UNIT,
      size: 'S',
      from: toInstant(NOW_MS + 3 * DAY_MS),
      until: toInstant(NOW_MS + 3 * DAY_MS + HOUR_MS),
    });
  const configure =
    (minimumMinutes: number): Run =>
    async (commandId) => {
      const values = { ...defaultConfiguration(600).values, minimumMinutes };
      const meta = { commandId, actor: 'ops:tests', source: '/lockfleet/tests' };
      await decider.decide(UNIT, 'config', meta, (state) =>
        changeConfiguration(state, { commandId, values, mode: 'queued' }),
      );
      return { status: 200, body: {} };
    };
  return { write, hold, configure, store };
}

async function reservationIds(): Promise<string[]> {
  const { booking } = await newDecider().getState(UNIT);
  return allReservations(booking).map(({ id }) => id);
}

function thenCrash(run: Run, onAppended: () => void): Run {
  return async (commandId) => {
    await run(commandId);
    onAppended();
    return never;
  };
}

function thenFail(run: Run): Run {
  return async (commandId) => {
    await run(commandId);
    throw new Problem('unavailable', 503, 'A part of the platform cannot be reached.');
  };
}

test('a server that ends between append and answer: another server finds the reservation when the lease is over', async () => {
  const [crashing, other] = [startServer(), startServer()];
  const appended = Promise.withResolvers<void>();
  void crashing.write(thenCrash(crashing.hold, appended.resolve));
  await appended.promise;
  nowMs += LEASE_MS - 1;
  await expect(other.write(other.hold)).rejects.toMatchObject({ document: { status: 409 } });
  nowMs += 1;
  const answer = await other.write(other.hold);
  expect(answer.status).toBe(201);
  expect([answer.body.id ?? '']).toEqual(await reservationIds());
});

test('a repeat after 503 runs the same command at once', async () => {
  const server = startServer();
  await expect(server.write(thenFail(server.hold))).rejects.toThrow('cannot be reached');
  await expect(server.write(server.hold, { another: 'body' })).rejects.toMatchObject({ document: { status: 422 } });
  const { body } = await server.write(server.hold);
  expect([body.id ?? '']).toEqual(await reservationIds());
});

test('a key is reused 24 hours after its first request: it makes a new reservation', async () => {
  const server = startServer();
  const first = await server.write(server.hold);
  nowMs += DAY_MS - 1;
  expect(await server.write(server.hold)).toEqual(first);
  nowMs += 1;
  const second = await server.write(server.hold, { another: 'body' });
  expect(second.body.id).not.toBe(first.body.id);
  expect((await reservationIds()).sort()).toEqual([first.body.id ?? '', second.body.id ?? ''].sort());
});

test('a key is forgotten 24 hours after its first request, also when its repeats failed until then', async () => {
  const server = startServer();
  await expect(server.write(thenFail(server.hold))).rejects.toThrow('cannot be reached');
  nowMs += DAY_MS - 1;
  await expect(server.write(thenFail(server.hold))).rejects.toThrow('cannot be reached');
  expect(await reservationIds()).toHaveLength(1);
  nowMs += 1;
  await server.store.sweep();
  await server.write(server.hold);
  expect(await reservationIds()).toHaveLength(2);
});

test('a configuration is desired again when the forgotten key that set it is reused', async () => {
  const server = startServer();
  const desired = async () => (await newDecider().getState(UNIT)).configuration;
  await server.write(server.configure(20));
  nowMs += DAY_MS;
  const reused = key;
  key = 'in-between';
  await server.write(server.configure(40));
  expect(await desired()).toMatchObject({ desired: { values: { minimumMinutes: 40 } } });
  key = reused;
  await server.write(server.configure(20));
  expect(await desired()).toMatchObject({ desired: { values: { minimumMinutes: 20 } } });
});

test('two servers get the same request at once: one runs it, and both give its answer afterwards', async () => {
  const [one, two] = [startServer(), startServer()];
  const isEnough = Promise.withResolvers<void>();
  let runs = 0;
  const slowly =
    (hold: Run): Run =>
    async (commandId) => {
      runs += 1;
      await isEnough.promise;
      return hold(commandId);
    };
  const settled = [one, two].map((server) => server.write(slowly(server.hold)));
  const refused = await Promise.race(
    settled.map((request) =>
      request.then(
        () => undefined,
        (error: unknown) => error,
      ),
    ),
  );
  expect(refused).toMatchObject({ document: { status: 409, type: '/problems/idempotency-key-reused' } });
  isEnough.resolve();
  await Promise.allSettled(settled);
  expect(runs).toBe(1);
  const [id] = await reservationIds();
  for (const server of [one, two]) expect((await server.write(server.hold)).body.id).toBe(id);
  expect(await reservationIds()).toHaveLength(1);
});

test('a request that outlived its lease neither ends the next one nor replaces its answer', async () => {
  const [slow, other] = [startServer(), startServer()];
  const [hasBegun, mayEnd] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const late = slow.write(async () => {
    hasBegun.resolve();
    await mayEnd.promise;
    throw new Problem('unavailable', 503, 'A part of the platform cannot be reached.');
  });
  await hasBegun.promise;
  nowMs += LEASE_MS;
  const [nextHasBegun, running] = [Promise.withResolvers<void>(), Promise.withResolvers<Answer>()];
  const next = other.write(() => {
    nextHasBegun.resolve();
    return running.promise;
  });
  await nextHasBegun.promise;
  const isRunning = async () => {
    const refused = await other.write(async () => ({ status: 200, body: {} })).catch((error: unknown) => error);
    return refused instanceof Problem && refused.document.status === 409;
  };
  expect(await isRunning()).toBe(true);
  mayEnd.resolve();
  await expect(late).rejects.toThrow('cannot be reached');
  expect(await isRunning()).toBe(true);
  running.resolve({ status: 200, body: { id: 'done' } });
  expect(await next).toEqual({ status: 200, body: { id: 'done' } });
  expect(await slow.write(() => Promise.reject(new Error('it ran again')))).toEqual({
    status: 200,
    body: { id: 'done' },
  });
});

test('without an injected time the clock of Postgres decides', async () => {
  const store = new IdempotencyStore({ sql: postgres.sql, newId });
  const id = { principal: 'customer:alice', route: 'POST /v1/things', key };
  const age = (interval: string) => postgres.sql`
    update platform.idempotency_keys
    set created_at = created_at - ${interval}::interval, lease_until = lease_until - ${interval}::interval
    where key = ${key}`;
  const first = await store.claim(id, 'hash');
  expect(await store.claim(id, 'hash')).toEqual({ outcome: 'running' });
  await age('31 seconds');
  const commandId = first.outcome === 'claimed' ? first.lease.commandId : '';
  expect(await store.claim(id, 'hash')).toEqual({ outcome: 'claimed', lease: { commandId, attempt: 2 } });
  await age('24 hours');
  expect(await store.claim(id, 'other')).toMatchObject({
    outcome: 'claimed',
    lease: { commandId: expect.not.stringMatching(commandId) },
  });
  await age('24 hours');
  await store.sweep();
  expect(await postgres.sql`select 1 from platform.idempotency_keys where key = ${key}`).toHaveLength(0);
});

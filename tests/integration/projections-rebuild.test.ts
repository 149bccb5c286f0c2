import { afterAll, describe, expect, test } from 'bun:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { createProjections } from '../../projections/create-projections.ts';
import type { Projection } from '../../projections/engine/projection.ts';
import { PositionWaiter } from '../../projections/engine/queries/position-waiter.ts';
import { cancelRebuild, requestRebuild } from '../../projections/engine/queries/rebuilds.ts';
import { listProjections } from '../../projections/engine/queries/status.ts';
import { dropEndedRuns } from '../../projections/engine/runs/drop-runs.ts';
import { listEvents } from '../../projections/event_log/queries/events.ts';
import { getUnit, listUnits } from '../../projections/units/queries/units.ts';
import { eventually } from '../support/eventually.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { append, dump, fill, fillToTheEnd, freshPostgres, readModelsOf, storeOf } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';
import { silentLog } from '../support/silent-log.ts';

const NAMES = createProjections().map(({ name }) => name);
const PATIENCE = { timeoutMs: 60_000 };

const open: Postgres[] = [];
afterAll(() => Promise.all(open.map((postgres) => postgres.close(1))));

async function database(): Promise<Postgres> {
  const postgres = await freshPostgres();
  open.push(postgres);
  return postgres;
}

function newHistory(units = 12): FleetHistory {
  return new FleetHistory(seededRandom(), { units, lockers: 5 });
}

async function inOneGo(store: MemoryEventStore): Promise<Record<string, string[]>> {
  const postgres = await database();
  await fillToTheEnd(postgres, store);
  return dump(postgres);
}

async function ask(postgres: Postgres, projection: string): Promise<number> {
  const asked = await requestRebuild(postgres, projection, 'ops:test');
  if (asked === undefined) throw new Error(`there is no projection ${projection}`);
  return asked.runId;
}

async function statusOf({ sql }: Postgres, runId: number): Promise<string | undefined> {
  const [run] = await sql<{ status: string }[]>`select status from platform.projection_runs where id = ${runId}`;
  return run?.status;
}

function serves(postgres: Postgres, runId: number): Promise<unknown> {
  return eventually(async () => (await statusOf(postgres, runId)) === 'serving', PATIENCE);
}

async function shownTo(postgres: Postgres, position: number): Promise<void> {
  const watch = new PositionWaiter(readModelsOf(postgres), Date.now);
  expect(await watch.waitUntilPassed({ projections: NAMES, lanes: 'all', position, timeoutMs: 60_000 })).toBe(true);
}

/** A projection that takes its time, and refuses the commit at `poison`. */
function slow(poison?: number, version = 1): Projection {
  return {
    name: 'slow',
    version,
    async createTables(tx, schema) {
      await tx`create table ${tx(`${schema}.entry`)} (sequence bigint primary key)`;
    },
    async apply(tx, schema, batch) {
      if (batch.some(({ sequence }) => sequence === poison)) throw new TypeError('cannot read this');
      await tx`select pg_sleep(0.05)`;
      await tx`
        insert into ${tx(`${schema}.entry`)} select unnest(${batch.map(({ sequence }) => sequence)}::bigint[])`;
    },
  };
}

async function countOf({ sql }: Postgres, projection: string): Promise<number> {
  const { schema } = await readModelsOf({ sql }).servingRuns.find(projection);
  const [row] = await sql<{ count: number }[]>`select count(*) as count from ${sql(`${schema}.entry`)}`;
  return row?.count ?? 0;
}

describe('a requested rebuild', () => {
  test('under live traffic, every answer to readers is complete', async () => {
    const history = newHistory();
    const store = storeOf(history);
    const postgres = await database();
    const filling = fill(postgres, store);
    await append(history, store, 400);
    await filling.caughtUp;
    await shownTo(postgres, 400);
    const { total: unitsShown = 0 } = await listUnits(readModelsOf(postgres), { limit: 1, count: true });
    expect(unitsShown).toBe(12);

    const done = new AbortController();
    // Shared, as in a server: its cache must not show an older run than the one that was waited for.
    const readModels = readModelsOf(postgres);
    const watch = new PositionWaiter(readModels, Date.now);
    let answers = 0;
    const read = async () => {
      // Each reader's own: two that ask at once may be answered in the other order.
      let eventsShown = 0;
      while (!done.signal.aborted) {
        const position = await store.lastSequence();
        expect(await watch.waitUntilPassed({ projections: NAMES, lanes: 'all', position, timeoutMs: 60_000 })).toBe(
          true,
        );
        const [units, events, one] = await Promise.all([
          listUnits(readModels, { limit: 50, count: true }),
          listEvents(readModels, { limit: 1, count: true }),
          getUnit(readModels, 'PL-1003', Date.now()),
        ]);
        // Nothing that was shown vanishes, and what was waited for is there.
        expect(units.total).toBe(unitsShown);
        expect(events.total ?? 0).toBeGreaterThanOrEqual(eventsShown);
        expect(Number.parseInt(events.items[0]?.position ?? '0', 10)).toBeGreaterThanOrEqual(position);
        expect(one?.lockerDetails).toHaveLength(5);
        eventsShown = events.total ?? 0;
        answers += 1;
      }
    };
    const write = async () => {
      while (!done.signal.aborted) {
        await append(history, store, 5);
        await pause(5);
      }
    };
    const traffic = [read(), read(), write()];
    for (const name of NAMES) await serves(postgres, await ask(postgres, name));
    done.abort();
    await Promise.all(traffic);
    expect(answers).toBeGreaterThan(10);

    await shownTo(postgres, await store.lastSequence());
    await filling.stop();
    expect(await dump(postgres)).toEqual(await inOneGo(store));
  }, 180_000);

  test('is the same one when it is requested again, and continues after a stop', async () => {
    const history = newHistory(4);
    const store = storeOf(history);
    const postgres = await database();
    await fillToTheEnd(postgres, store, { projections: [slow()] });
    await append(history, store, 300);
    await fillToTheEnd(postgres, store, { projections: [slow()] });
    const runId = await ask(postgres, 'slow');
    expect(await requestRebuild(postgres, 'slow', 'ops:other')).toEqual({ runId, isNew: false });
    // No process is running, so the rebuild waits.
    expect(await statusOf(postgres, runId)).toBe('requested');
    for (let round = 0; round < 5; round++) {
      const filling = fill(postgres, store, { projections: [slow()] });
      await pause(round * 25);
      await filling.stop();
    }
    const filling = fill(postgres, store, { projections: [slow()] });
    await serves(postgres, runId);
    await filling.stop();
    expect(await countOf(postgres, 'slow')).toBe(300);
    const [projection] = await listProjections(postgres.sql, () => store.lastSequence());
    expect(projection).toMatchObject({ name: 'slow', position: 300, lag: 0, rebuild: null, lastEnded: null });
  }, 180_000);

  test('of folded tables equals the live tables, after stops and cut connections at random moments', async () => {
    const history = newHistory(40);
    const store = storeOf(history);
    const postgres = await database();
    const live = fill(postgres, store);
    await live.caughtUp;
    for (let round = 0; round < 20; round++) {
      await append(history, store, 100);
      await pause(10);
    }
    await shownTo(postgres, 2_000);
    await live.stop();
    const applied = await dump(postgres);
    const runs = await Promise.all(NAMES.map((name) => ask(postgres, name)));
    for (let round = 0; round < 6; round++) {
      const filling = fill(postgres, store);
      await pause(60 + round * 7);
      // A connection that was cut in the round before may be tried first.
      await eventually(
        () => postgres.sql`
          select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid()`,
      );
      await pause(round * 11);
      await filling.stop();
    }
    const last = fill(postgres, store);
    for (const runId of runs) await serves(postgres, runId);
    await last.stop();
    expect(await dump(postgres)).toEqual(applied);
  }, 180_000);

  test('that is cancelled changes nothing, and leaves no tables behind', async () => {
    const history = newHistory(4);
    const store = storeOf(history);
    const postgres = await database();
    await fillToTheEnd(postgres, store, { projections: [slow()] });
    await append(history, store, 100);
    const filling = fill(postgres, store, { projections: [slow()] });
    await filling.caughtUp;
    const runId = await ask(postgres, 'slow');
    await eventually(async () => (await statusOf(postgres, runId)) === 'building', PATIENCE);
    // What is filled lags behind what serves from now on, so that it cannot take over while it is called off.
    expect(await cancelRebuild(postgres, 'slow', 'ops:test')).toBeOneOf(['cancelled', 'none']);
    expect(await cancelRebuild(postgres, 'slow', 'ops:test')).toBe('none');
    await append(history, store, 20);
    await eventually(async () => (await countOf(postgres, 'slow')) === 120, PATIENCE);
    await filling.stop();
    await postgres.sql`update platform.projection_runs set ended_at = now() - interval '1 hour' where ended_at is not null`;
    await dropEndedRuns(postgres, silentLog);
    const schemas = await postgres.sql`select 1 from pg_namespace where nspname like 'slow%'`;
    expect(schemas).toHaveLength(1);
    expect(await countOf(postgres, 'slow')).toBe(120);
  }, 180_000);

  test('that cannot apply an event fails and names it, and the old run continues to serve', async () => {
    const history = newHistory(4);
    const store = storeOf(history);
    const postgres = await database();
    await fillToTheEnd(postgres, store, { projections: [slow()] });
    await append(history, store, 60);
    await fillToTheEnd(postgres, store, { projections: [slow()] });
    const filling = fill(postgres, store, { projections: [slow(30)] });
    await filling.caughtUp;
    const runId = await ask(postgres, 'slow');
    await eventually(async () => (await statusOf(postgres, runId)) === 'failed', PATIENCE);
    const [failed] = await listProjections(postgres.sql, () => store.lastSequence());
    expect(failed).toMatchObject({ rebuild: null, lastEnded: { status: 'failed' } });
    expect(failed?.lastEnded?.because).toMatch(/cannot apply commit 30 of unit PL-100\d: TypeError: cannot read this/);
    await append(history, store, 10);
    await eventually(async () => (await countOf(postgres, 'slow')) === 70, PATIENCE);
    await filling.stop();
  }, 180_000);
});

test('in a new database, readers wait until the read models have caught up, and then read everything', async () => {
  const history = newHistory();
  const store = storeOf(history);
  await append(history, store, 300);
  const postgres = await database();
  const filling = fill(postgres, store, { projections: createProjections() });
  // Either there is nothing to read yet, or all of it.
  await eventually(async () => {
    const { total } = await listUnits(readModelsOf(postgres), { limit: 1, count: true });
    expect(total).toBe(12);
    return true;
  }, PATIENCE);
  await filling.caughtUp;
  await filling.stop();
}, 180_000);

test('a rebuild of an unknown projection is refused', async () => {
  const postgres = await database();
  expect(await requestRebuild(postgres, 'nothing', 'ops:test')).toBeUndefined();
  expect(await cancelRebuild(postgres, 'nothing', 'ops:test')).toBe('none');
});

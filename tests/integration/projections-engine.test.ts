import { afterAll, describe, expect, test } from 'bun:test';
import { setTimeout as pause } from 'node:timers/promises';
import { laneOf } from '../../domain/shard.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import {
  GapError,
  MalformedCommitError,
  type StoredMessage,
  StoreUnavailableError,
} from '../../platform/event-store/store.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import { snapshotReader } from '../../projections/bookings/queries.ts';
import { createProjections } from '../../projections/create-projections.ts';
import { CheckpointBeyondEndError } from '../../projections/engine/consume/store-reader.ts';
import { RebuildFailedError } from '../../projections/engine/fill/filler.ts';
import type { Projection } from '../../projections/engine/projection.ts';
import { PositionWaiter } from '../../projections/engine/queries/position-waiter.ts';
import { runStatus } from '../../projections/engine/queries/status.ts';
import { ensureRun, ObsoleteProjectionError } from '../../projections/engine/runs/runs.ts';
import { storeWith } from '../support/decider.ts';
import { eventually } from '../support/eventually.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { append, dump, fill, fillToTheEnd, freshPostgres, readModelsOf, storeOf } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';

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

/** What every test compares with: a database that was filled in one go. */
async function inOneGo(store: MemoryEventStore): Promise<Record<string, string[]>> {
  const postgres = await database();
  await fillToTheEnd(postgres, store);
  return dump(postgres);
}

/** Notes every commit of a unit, and refuses the one at `poison`. */
function journal(poison: number | undefined, version = 1): Projection {
  return {
    name: 'journal',
    version,
    async createTables(tx, schema) {
      await tx`create table ${tx(`${schema}.entry`)} (n bigint generated always as identity, unit text, sequence bigint)`;
    },
    async apply(tx, schema, batch) {
      if (batch.some(({ sequence }) => sequence === poison)) throw new TypeError('cannot read this');
      await tx`
        insert into ${tx(`${schema}.entry`)} (unit, sequence)
        select * from unnest(${batch.map(({ unit }) => unit)}::text[], ${batch.map(({ sequence }) => sequence)}::bigint[])`;
    },
  };
}

async function entries({ sql }: Postgres, unit?: string): Promise<number[]> {
  const [run] = await sql<
    { schema_name: string }[]
  >`select schema_name from platform.projection_runs where status = 'serving'`;
  const rows = await sql<{ sequence: number }[]>`
    select sequence from ${sql(`${run?.schema_name}.entry`)} where ${unit ?? null}::text is null or unit = ${unit ?? null}
    order by n`;
  return rows.map(({ sequence }) => sequence);
}

async function messagesOf(store: MemoryEventStore, unit: string): Promise<number[]> {
  return (await store.tail(unit, 0)).map(({ sequence }) => sequence);
}

describe('live and rebuilt tables', () => {
  test('are equal row for row', async () => {
    const history = newHistory();
    const store = storeOf(history);
    const live = await database();
    const filling = fill(live, store);
    for (let round = 0; round < 12; round++) {
      await append(history, store, 60);
      await pause(round % 3);
    }
    const watch = new PositionWaiter(readModelsOf(live), Date.now);
    const projections = createProjections().map(({ name }) => name);
    const position = await store.lastSequence();
    expect(await watch.waitUntilPassed({ projections, lanes: 'all', position, timeoutMs: 60_000 })).toBe(true);
    await filling.stop();
    expect(await dump(live)).toEqual(await inOneGo(store));
    for (const [unit, state] of history.states) {
      const snapshot = await snapshotReader(readModelsOf(live))(unit);
      expect(JSON.stringify(snapshot)).toBe(JSON.stringify({ state, completeTo: position }));
    }
  }, 180_000);

  test('are equal after restarts at random moments and cut connections', async () => {
    const history = newHistory();
    const store = storeOf(history);
    const postgres = await database();
    for (let round = 0; round < 10; round++) {
      await append(history, store, 80);
      const filling = fill(postgres, store);
      await pause(round * 3);
      // A connection that was cut in the round before may be tried first.
      await eventually(
        () => postgres.sql`
          select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid()`,
      );
      await pause(10);
      await filling.stop();
    }
    await fillToTheEnd(postgres, store);
    expect(await dump(postgres)).toEqual(await inOneGo(store));
  }, 180_000);

  test('are equal when two processes own the same lanes', async () => {
    const history = newHistory();
    const store = storeOf(history);
    const postgres = await database();
    const owners = [
      fill(postgres, store),
      fill(postgres, store),
      fill(postgres, store, { lanes: [...Array(128).keys()] }),
    ];
    for (let round = 0; round < 10; round++) {
      await append(history, store, 60);
      await pause(5);
    }
    const watch = new PositionWaiter(readModelsOf(postgres), Date.now);
    const position = await store.lastSequence();
    const projections = createProjections().map(({ name }) => name);
    expect(await watch.waitUntilPassed({ projections, lanes: 'all', position, timeoutMs: 60_000 })).toBe(true);
    await Promise.all(owners.map((owner) => owner.stop()));
    expect(await dump(postgres)).toEqual(await inOneGo(store));
  }, 180_000);

  test('are equal when two processes share the lanes', async () => {
    const history = newHistory();
    const store = storeOf(history);
    await append(history, store, 400);
    const postgres = await database();
    const even = Array.from({ length: 128 }, (_, index) => index * 2);
    await Promise.all([
      fillToTheEnd(postgres, store, { lanes: even }),
      fillToTheEnd(postgres, store, { lanes: even.map((lane) => lane + 1) }),
    ]);
    expect(await dump(postgres)).toEqual(await inOneGo(store));
  }, 180_000);
});

describe('a poison event', () => {
  test('parks its unit while others continue, and is applied in order after a fix of the code', async () => {
    const history = newHistory(6);
    const store = storeOf(history);
    await append(history, store, 200);
    const unit = 'PL-1002';
    const all = await messagesOf(store, unit);
    const poison = all[5] ?? 0;
    const postgres = await database();
    const filling = fill(postgres, store, { projections: [journal(poison)] });
    await filling.caughtUp;
    await append(history, store, 100);
    const end = await store.lastSequence();
    const watch = new PositionWaiter(readModelsOf(postgres), Date.now);
    expect(
      await watch.waitUntilPassed({ projections: ['journal'], lanes: 'all', position: end, timeoutMs: 60_000 }),
    ).toBe(true);
    await filling.stop();

    expect(await entries(postgres, unit)).toEqual(all.slice(0, 5));
    expect(await entries(postgres, 'PL-1003')).toEqual(await messagesOf(store, 'PL-1003'));
    expect(await runStatus(postgres.sql)).toMatchObject([{ projection: 'journal', parkedUnits: 1, minPosition: end }]);
    const parked = await postgres.sql`select unit, position, reason from platform.projection_parked`;
    expect([...parked]).toEqual([{ unit, position: poison, reason: 'TypeError: cannot read this' }]);

    // The same code again: it stays where it is.
    await fillToTheEnd(postgres, store, { projections: [journal(poison)] });
    expect(await entries(postgres, unit)).toEqual(all.slice(0, 5));
    // Another one after it.
    const second = (await messagesOf(store, unit))[9] ?? 0;
    const applied = async (expected: readonly number[]) => expect(await entries(postgres, unit)).toEqual([...expected]);
    const better = fill(postgres, store, { projections: [journal(second)] });
    await eventually(async () => applied((await messagesOf(store, unit)).slice(0, 9)));
    await better.stop();
    const mended = fill(postgres, store, { projections: [journal(undefined)] });
    await eventually(async () => applied(await messagesOf(store, unit)));
    await eventually(async () => expect(await runStatus(postgres.sql)).toMatchObject([{ parkedUnits: 0 }]));
    await mended.stop();
  }, 180_000);

  test('a process that skips a parked unit notices that it was resumed', async () => {
    const history = newHistory(4);
    const store = storeOf(history);
    await append(history, store, 60);
    const unit = 'PL-1001';
    const poison = (await messagesOf(store, unit))[3] ?? 0;
    const postgres = await database();
    const broken = fill(postgres, store, { projections: [journal(poison)] });
    await broken.caughtUp;
    const mended = fill(postgres, store, { projections: [journal(undefined)] });
    await eventually(async () => expect(await runStatus(postgres.sql)).toMatchObject([{ parkedUnits: 0 }]));
    await mended.stop();
    await append(history, store, 60);
    const position = await store.lastSequence();
    const watch = new PositionWaiter(readModelsOf(postgres), Date.now);
    expect(await watch.waitUntilPassed({ projections: ['journal'], lanes: 'all', position, timeoutMs: 60_000 })).toBe(
      true,
    );
    await broken.stop();
    expect(await entries(postgres, unit)).toEqual(await messagesOf(store, unit));
  }, 180_000);

  test('a parked unit has the position up to which its snapshot is complete', async () => {
    const history = newHistory(3);
    const store = storeOf(history);
    await append(history, store, 60);
    const postgres = await database();
    await fillToTheEnd(postgres, store);
    const [run] = await postgres.sql<
      { id: number }[]
    >`select id from platform.projection_runs where projection = 'bookings'`;
    await postgres.sql`
      insert into platform.projection_parked (run_id, unit, lane, position, reason)
      values (${run?.id ?? 0}, 'PL-1000', ${laneOf('PL-1000')}, 17, 'a test')`;
    expect((await snapshotReader(readModelsOf(postgres))('PL-1000')).completeTo).toBe(16);
    expect((await snapshotReader(readModelsOf(postgres))('PL-1001')).completeTo).toBe(60);
    const unknown = await snapshotReader(readModelsOf(postgres))('NOBODY');
    expect(unknown).toMatchObject({ completeTo: 60, state: { name: 'NOBODY', registry: { status: 'unregistered' } } });
  }, 180_000);

  test('a message that is not a commit is skipped', async () => {
    const history = newHistory(3);
    const store = storeOf(history);
    await append(history, store, 30);
    const broken = withBroken(store, 11);
    const postgres = await database();
    await fillToTheEnd(postgres, broken, { projections: [journal(undefined)] });
    expect((await entries(postgres)).length).toBe(29);
  }, 180_000);
});

describe('the process ends with an error', () => {
  test('at a checkpoint beyond the end of the store', async () => {
    const history = newHistory(3);
    const store = storeOf(history);
    await append(history, store, 40);
    const postgres = await database();
    await fillToTheEnd(postgres, store);
    const shorter = new MemoryEventStore(Date.now);
    for (const commit of new FleetHistory(seededRandom(1), { units: 3, lockers: 2 }).nextCommits(10))
      await shorter.append(commit);
    const filling = fill(postgres, shorter);
    await expect(filling.ended).rejects.toBeInstanceOf(CheckpointBeyondEndError);
  }, 180_000);

  test('at a gap in the store, but not while the store is briefly unreachable', async () => {
    const history = newHistory(3);
    const store = storeOf(history);
    const postgres = await database();
    await fillToTheEnd(postgres, store, { projections: [journal(undefined)] });
    await append(history, store, 40);
    let failures = 0;
    const moody = {
      ...storeWith(store, {}),
      async *read(options: Parameters<MemoryEventStore['read']>[0]) {
        for await (const message of store.read(options)) {
          if (message.sequence === 20 && failures < 3) {
            failures += 1;
            throw new StoreUnavailableError('away for a moment');
          }
          if (message.sequence === 35) throw new GapError('34 is missing');
          yield message;
        }
      },
    };
    const filling = fill(postgres, moody, { projections: [journal(undefined)] });
    await expect(filling.ended).rejects.toBeInstanceOf(GapError);
    expect(failures).toBe(3);
    expect((await entries(postgres)).length).toBeGreaterThanOrEqual(19);
  }, 180_000);

  test('when its code is older than the run that serves', async () => {
    const postgres = await database();
    await ensureRun(postgres, journal(undefined, 2));
    await expect(ensureRun(postgres, journal(undefined, 1))).rejects.toBeInstanceOf(ObsoleteProjectionError);
  });
});

describe('a new version', () => {
  test('is built beside the old one and serves once it has caught up', async () => {
    const history = newHistory(4);
    const store = storeOf(history);
    await append(history, store, 100);
    const postgres = await database();
    const old = fill(postgres, store, { projections: [journal(undefined, 1)] });
    await old.caughtUp;
    const next = fill(postgres, store, { projections: [journal(undefined, 2)] });
    await append(history, store, 100);
    await next.caughtUp;
    // Ready means that the new one serves; until then the old one did.
    const serving = await postgres.sql`select version from platform.projection_runs where status = 'serving'`;
    expect([...serving]).toEqual([{ version: 2 }]);
    await append(history, store, 50);
    await eventually(async () => (await entries(postgres)).length === 250);
    const runs = await postgres.sql`select version, status from platform.projection_runs order by version`;
    expect([...runs]).toEqual([
      { version: 1, status: 'retired' },
      { version: 2, status: 'serving' },
    ]);
    await Promise.all([old.stop(), next.stop()]);
  }, 180_000);

  test('that cannot apply an event fails, and the old one continues to serve', async () => {
    const history = newHistory(4);
    const store = storeOf(history);
    await append(history, store, 50);
    const postgres = await database();
    await fillToTheEnd(postgres, store, { projections: [journal(undefined, 1)] });
    const next = fill(postgres, store, { projections: [journal(30, 2)] });
    await expect(next.ended).rejects.toBeInstanceOf(RebuildFailedError);
    expect((await entries(postgres)).length).toBe(50);
  }, 180_000);

  test('is created once when two processes start at the same time', async () => {
    const postgres = await database();
    const runs = await Promise.all(Array.from({ length: 5 }, () => ensureRun(postgres, journal(undefined))));
    expect(new Set(runs.map(({ schema }) => schema)).size).toBe(1);
  });
});

describe('reading your own writes', () => {
  test('waits for the lanes of the written units, up to its timeout', async () => {
    const history = newHistory(3);
    const store = storeOf(history);
    await append(history, store, 20);
    const postgres = await database();
    const watch = new PositionWaiter(readModelsOf(postgres), Date.now);
    const lanes = [laneOf('PL-1000')];
    const wait = { projections: ['journal'], lanes, position: 20, timeoutMs: 60 };
    expect(await watch.waitUntilPassed(wait)).toBe(false);
    const waiting = Array.from({ length: 500 }, () => watch.waitUntilPassed({ ...wait, timeoutMs: 60_000 }));
    const filling = fill(postgres, store, { projections: [journal(undefined)] });
    expect(new Set(await Promise.all(waiting))).toEqual(new Set([true]));
    expect(await watch.waitUntilPassed({ ...wait, position: 21 })).toBe(false);
    await append(history, store, 1);
    expect(await watch.waitUntilPassed({ ...wait, lanes: 'all' as never, position: 21, timeoutMs: 5_000 })).toBe(true);
    await filling.stop();
  }, 180_000);

  test('a batch of many lanes also advances the idle lanes', async () => {
    const postgres = await database();
    const history = newHistory(200);
    const store = storeOf(history);
    // By this clock, after the first time it is never again time for the idle lanes.
    const filling = fill(postgres, store, { projections: [journal(undefined)], clock: () => 0 });
    await filling.caughtUp;
    await append(history, store, 1);
    const first = await eventually(async () => (await runStatus(postgres.sql))[0]?.minPosition === 1 && 1);
    await eventually(async () => {
      await append(history, store, 200);
      return ((await runStatus(postgres.sql))[0]?.minPosition ?? 0) > first;
    });
    await filling.stop();
  });

  test('all lanes reach the end of an idle store', async () => {
    const store = new MemoryEventStore(Date.now);
    const history = newHistory(1);
    const postgres = await database();
    const filling = fill(postgres, store, { projections: [journal(undefined)] });
    await filling.caughtUp;
    await append(history, store, 1);
    const watch = new PositionWaiter(readModelsOf(postgres), Date.now);
    expect(await watch.waitUntilPassed({ projections: ['journal'], lanes: 'all', position: 1, timeoutMs: 1_000 })).toBe(
      true,
    );
    expect(toInstant(history.nowMs)).toStartWith('2026-');
    await filling.stop();
  });
});

/** The same store with one message that is no commit. */
function withBroken(store: MemoryEventStore, sequence: number) {
  return {
    ...storeWith(store, {}),
    async *read(options: Parameters<MemoryEventStore['read']>[0]): AsyncIterable<StoredMessage> {
      for await (const message of store.read(options)) {
        const events = () => {
          throw new MalformedCommitError('not JSON');
        };
        yield message.sequence === sequence ? { ...message, events } : message;
      }
    },
  };
}

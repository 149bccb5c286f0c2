/** Retries of parked units beside the engine: bounded, repeated by a policy, and handed over without missing or doubling a commit. */

import { afterAll, expect, test } from 'bun:test';
import { laneOf } from '../../domain/shard.ts';
import type { MemoryEventStore } from '../../platform/event-store/memory.ts';
import { type EventStore, type StoredMessage, StoreUnavailableError } from '../../platform/event-store/store.ts';
import type { Postgres } from '../../platform/postgres/connection.ts';
import type { Commit, Projection } from '../../projections/engine/projection.ts';
import { parkedUnit, requestRetry } from '../../projections/engine/queries/parked.ts';
import { storeWith } from '../support/decider.ts';
import { eventually } from '../support/eventually.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { fill, freshPostgres, storeOf } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';

const UNIT = 'PL-1000';
/** Another unit of the same lane, whose commits the lane has to apply meanwhile. */
const NEIGHBOUR = neighbourOf(UNIT);
/** The most commits that one transaction of a retry applies, and the most that one read of its tail returns. */
const MAX_CHUNK = 100;
/** The most commits that are applied while the lane is locked, unless the lane passed more of them since they were read. */
const MAX_HANDOVER = 16;
const POISON = 3;

const open: Postgres[] = [];
afterAll(() => Promise.all(open.map((postgres) => postgres.close(1))));

function neighbourOf(unit: string): string {
  for (let n = 0; ; n += 1) if (laneOf(`N-${n}`) === laneOf(unit)) return `N-${n}`;
}

interface World {
  readonly postgres: Postgres;
  readonly store: MemoryEventStore;
  /** Appends commits of a unit. */
  append(unit: string, commits: number): Promise<void>;
  /** The sequences of a unit that are applied, in the order of applying. */
  applied(unit: string): Promise<number[]>;
  stored(unit: string): Promise<number[]>;
}

async function newWorld(): Promise<World> {
  const history = new FleetHistory(seededRandom(), { units: 1, lockers: 1 });
  const store = storeOf(history);
  const [first] = history.nextCommits(1);
  if (first === undefined) throw new Error('the history has no commit');
  const postgres = await freshPostgres();
  open.push(postgres);
  const { sql } = postgres;
  let appended = 0;
  const lastOf = new Map<string, number>();
  return {
    postgres,
    store,
    append: async (unit, commits) => {
      for (let n = 0; n < commits; n += 1) {
        appended += 1;
        const expectedSequence = lastOf.get(unit) ?? 0;
        const { sequence } = await store.append({ ...first, unit, expectedSequence, commandId: `c${appended}` });
        lastOf.set(unit, sequence);
      }
    },
    applied: async (unit) => {
      const [run] = await sql<{ schema: string }[]>`
        select schema_name as schema from platform.projection_runs where status = 'serving'`;
      const rows = await sql<{ sequence: number }[]>`
        select sequence from ${sql(`${run?.schema}.entry`)} where unit = ${unit} order by n`;
      return rows.map(({ sequence }) => sequence);
    },
    stored: async (unit) => (await store.tail(unit, 0)).map(({ sequence }) => sequence),
  };
}

/** Notes every commit. `onApply` may refuse a batch or delay it. */
function journal(onApply: (batch: readonly Commit[]) => Promise<void> | void): Projection {
  return {
    name: 'journal',
    version: 1,
    async createTables(tx, schema) {
      await tx`create table ${tx(`${schema}.entry`)} (n bigint generated always as identity, unit text, sequence bigint)`;
    },
    async apply(tx, schema, batch) {
      await onApply(batch);
      await tx`
        insert into ${tx(`${schema}.entry`)} (unit, sequence)
        select * from unnest(${batch.map(({ unit }) => unit)}::text[], ${batch.map(({ sequence }) => sequence)}::bigint[])`;
    },
  };
}

function refuse(batch: readonly Commit[], sequence: number | undefined): void {
  if (batch.some((commit) => commit.sequence === sequence)) throw new TypeError('cannot read this');
}

/** Fills with code that cannot apply a commit of the unit, so that the unit is parked and its later commits wait. */
async function parkUnit({ postgres, store, append }: World, waiting: number): Promise<void> {
  await append(UNIT, POISON + waiting);
  const filling = fill(postgres, store, { projections: [journal((batch) => refuse(batch, POISON))] });
  await filling.caughtUp;
  await filling.stop();
  expect(await parkedUnit(postgres.sql, 'journal', UNIT)).toMatchObject({ position: POISON });
  // The code that parked the unit may have retried it.
  await postgres.sql`update platform.projection_parked set retries = 0, next_retry_at = now() + interval '1 hour'`;
}

function isUnparked({ postgres }: World): Promise<boolean> {
  return eventually(async () => (await parkedUnit(postgres.sql, 'journal', UNIT)) === undefined);
}

async function makeDue({ postgres }: World): Promise<void> {
  await postgres.sql`update platform.projection_parked set next_retry_at = now()`;
}

test('a parked unit whose commits cannot be read delays neither the start, nor other units, nor the stop', async () => {
  const world = await newWorld();
  await parkUnit(world, 10);
  const never = () => new Promise<never>(() => undefined);
  const hanging = storeWith(world.store, { tail: never, tailPage: never, tailFromLeader: never });
  const filling = fill(world.postgres, hanging, { projections: [journal(() => undefined)] });
  await filling.caughtUp;
  await world.append(NEIGHBOUR, 5);
  await eventually(async () => expect(await world.applied(NEIGHBOUR)).toEqual(await world.stored(NEIGHBOUR)));
  await filling.stop();
  expect(await world.applied(UNIT)).toEqual([1, 2]);
}, 120_000);

test('a long tail is applied in bounded chunks, between which the lane applies the commits of other units', async () => {
  const world = await newWorld();
  await parkUnit(world, 1_000);
  const pages: number[] = [];
  const store: EventStore = storeWith(world.store, {
    tail: () => Promise.reject(new Error('the whole tail is read')),
    tailPage: async (unit, after, bounds) => {
      const page = await world.store.tailPage(unit, after, bounds);
      pages.push(page.length);
      return page;
    },
  });
  const chunks: number[] = [];
  const neighbours: number[] = [];
  const projection = journal(async (batch) => {
    if (batch[0]?.unit === NEIGHBOUR) neighbours.push(batch.length);
    if (batch[0]?.unit !== UNIT) return;
    chunks.push(batch.length);
    if (batch.length <= MAX_HANDOVER) return;
    // The transaction of this chunk stays open until the lane has applied a commit that is younger than the chunk.
    const before = neighbours.length;
    await world.append(NEIGHBOUR, 1);
    await eventually(() => neighbours.length > before);
  });
  const filling = fill(world.postgres, store, { projections: [projection] });
  await isUnparked(world);
  await filling.stop();
  expect(await world.applied(UNIT)).toEqual(await world.stored(UNIT));
  expect(Math.max(...chunks, ...pages)).toBeLessThanOrEqual(MAX_CHUNK);
  expect(chunks.length).toBeGreaterThanOrEqual(1_000 / MAX_CHUNK);
}, 120_000);

test('a retry that could not be made is shown and repeated, and the request of an operator is not needed again', async () => {
  const world = await newWorld();
  await parkUnit(world, 10);
  let isAway = true;
  const read =
    <Args extends readonly unknown[], T>(method: (...args: Args) => Promise<T>) =>
    (...args: Args) =>
      isAway ? Promise.reject(new StoreUnavailableError('the store is away for a test')) : method(...args);
  const store = storeWith(world.store, {
    tail: read((unit, after) => world.store.tail(unit, after)),
    tailPage: read((unit, after, bounds) => world.store.tailPage(unit, after, bounds)),
  });
  const filling = fill(world.postgres, store, { projections: [journal(() => undefined)] });
  await filling.caughtUp;
  await eventually(async () =>
    expect(await parkedUnit(world.postgres.sql, 'journal', UNIT)).toMatchObject({
      retries: 0,
      retryFault: 'the store is away for a test',
    }),
  );
  expect(await requestRetry(world.postgres.sql, 'journal', UNIT)).toBe(true);
  await eventually(async () => {
    const [row] = await world.postgres.sql<{ faults: number }[]>`select faults from platform.projection_parked`;
    expect(row?.faults).toBeGreaterThanOrEqual(2);
  });
  isAway = false;
  await isUnparked(world);
  await filling.stop();
  expect(await world.applied(UNIT)).toEqual(await world.stored(UNIT));
}, 120_000);

test('a requested retry that fails is shown with the time of the next one, which follows by itself', async () => {
  const world = await newWorld();
  await parkUnit(world, 10);
  let poison: number | undefined = POISON;
  const filling = fill(world.postgres, world.store, { projections: [journal((batch) => refuse(batch, poison))] });
  const shown = () => parkedUnit(world.postgres.sql, 'journal', UNIT);
  // New code retries at its start.
  await eventually(async () => expect((await shown())?.retries).toBe(1));
  expect(await requestRetry(world.postgres.sql, 'journal', UNIT)).toBe(true);
  await eventually(async () => expect(await shown()).toMatchObject({ retries: 2, retryRequestedAt: null }));
  const [row] = await world.postgres.sql<{ seconds: number }[]>`
    select extract(epoch from next_retry_at - now())::float8 as seconds from platform.projection_parked`;
  // The second failure: 60 to 120 s, of which the machine may have used some.
  expect(row?.seconds).toBeGreaterThan(10);
  expect(row?.seconds).toBeLessThanOrEqual(120);
  poison = undefined;
  await makeDue(world);
  await isUnparked(world);
  await filling.stop();
  expect(await world.applied(UNIT)).toEqual(await world.stored(UNIT));
}, 120_000);

test('new code retries a unit at its start, also when older code of another process has just failed at it', async () => {
  const world = await newWorld();
  await parkUnit(world, 30);
  const older = fill(world.postgres, world.store, { projections: [journal((batch) => refuse(batch, POISON))] });
  await eventually(async () => expect((await parkedUnit(world.postgres.sql, 'journal', UNIT))?.retries).toBe(1));
  // By the policy alone, the next retry would follow in an hour.
  await world.postgres.sql`update platform.projection_parked set next_retry_at = now() + interval '1 hour'`;
  const newer = fill(world.postgres, world.store, { projections: [journal(() => undefined)] });
  await isUnparked(world);
  await Promise.all([older.stop(), newer.stop()]);
  expect(await world.applied(UNIT)).toEqual(await world.stored(UNIT));
}, 120_000);

test('a unit that never stops reporting is handed over without missing or doubling a commit, also with two owners and a replica that lags', async () => {
  const world = await newWorld();
  await parkUnit(world, 300);
  const random = seededRandom();
  /** Answers reads of pages as a replica that lacks the newest commits. */
  const lagging = storeWith(world.store, {
    tailPage: async (unit, after, bounds): Promise<readonly StoredMessage[]> => {
      const end = (await world.store.lastSequence()) - random.below(40);
      return (await world.store.tailPage(unit, after, bounds)).filter(({ sequence }) => sequence <= end);
    },
  });
  const owners = [lagging, world.store].map((store) =>
    fill(world.postgres, store, { projections: [journal(() => undefined)] }),
  );
  let isOver = false;
  const traffic = (async () => {
    for (let round = 0; !isOver; round += 1) {
      await world.append(round % 3 === 0 ? NEIGHBOUR : UNIT, 1 + random.below(4));
      await Bun.sleep(random.below(4));
    }
  })();
  await isUnparked(world);
  isOver = true;
  await traffic;
  await world.append(UNIT, 20);
  await eventually(async () => expect((await world.applied(UNIT)).length).toBe((await world.stored(UNIT)).length));
  await Promise.all(owners.map((owner) => owner.stop()));
  expect(await world.applied(UNIT)).toEqual(await world.stored(UNIT));
  expect(await world.applied(NEIGHBOUR)).toEqual(await world.stored(NEIGHBOUR));
}, 120_000);

test('a retry that is cut off at random moments goes on where its last transaction left it', async () => {
  const world = await newWorld();
  await parkUnit(world, 800);
  const random = seededRandom();
  for (let round = 0; round < 6; round += 1) {
    const filling = fill(world.postgres, world.store, { projections: [journal(() => undefined)] });
    await world.append(round % 2 === 0 ? UNIT : NEIGHBOUR, 5);
    await Bun.sleep(random.below(300));
    // A connection that was cut in the round before may be tried first.
    await eventually(
      () => world.postgres.sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()`,
    );
    await Bun.sleep(random.below(100));
    await filling.stop();
  }
  const last = fill(world.postgres, world.store, { projections: [journal(() => undefined)] });
  await isUnparked(world);
  await eventually(async () => expect((await world.applied(UNIT)).length).toBe((await world.stored(UNIT)).length));
  await last.stop();
  expect(await world.applied(UNIT)).toEqual(await world.stored(UNIT));
  expect(await world.applied(NEIGHBOUR)).toEqual(await world.stored(NEIGHBOUR));
}, 120_000);

/** Promotion of a run that is built, while events flood in, and the order in which owners lock lanes. */

import { afterAll, describe, expect, test } from 'bun:test';
import type { Postgres, Sql } from '../../platform/postgres/connection.ts';
import { FencedError, movePositions } from '../../projections/engine/checkpoints/checkpoints.ts';
import type { Filler } from '../../projections/engine/fill/filler.ts';
import { promoteWhenLevel } from '../../projections/engine/fill/promotion.ts';
import type { Projection } from '../../projections/engine/projection.ts';
import { requestRebuild } from '../../projections/engine/queries/rebuilds.ts';
import { promoteRun } from '../../projections/engine/runs/promote-run.ts';
import { activeRuns, ensureRun, type Run, startRequestedRun } from '../../projections/engine/runs/runs.ts';
import { storeWith } from '../support/decider.ts';
import { eventually } from '../support/eventually.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { append, fill, freshPostgres, storeOf } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';
import { silentLog } from '../support/silent-log.ts';

const LANES = 256;
/** The longest time for which the run that serves may stand still at the first attempt. */
const FIRST_HOLD_MS = 100;

const open: Postgres[] = [];
afterAll(() => Promise.all(open.map((postgres) => postgres.close(1))));

const journal: Projection = {
  name: 'journal',
  version: 1,
  async createTables(tx, schema) {
    await tx`create table ${tx(`${schema}.entry`)} (sequence bigint primary key)`;
  },
  async apply(tx, schema, batch) {
    await tx`
      insert into ${tx(`${schema}.entry`)} select unnest(${batch.map(({ sequence }) => sequence)}::bigint[])`;
  },
};

/** A run that serves and a run that is built, both without a process that fills them. */
async function twoRuns(): Promise<{ postgres: Postgres; serving: Run; building: Run }> {
  const postgres = await freshPostgres();
  open.push(postgres);
  const serving = await ensureRun(postgres, journal);
  await requestRebuild(postgres, 'journal', 'ops:test');
  const requested = (await activeRuns(postgres.sql, ['journal'])).find(({ status }) => status === 'requested');
  if (requested === undefined) throw new Error('no rebuild is requested');
  await startRequestedRun(postgres, journal, requested);
  return { postgres, serving, building: { ...requested, status: 'building' } };
}

/** Moves all lanes of a run that no transaction has locked. @returns whether none was locked */
async function moveUnlocked({ sql }: Postgres, run: Run, position: number): Promise<boolean> {
  const { count } = await sql`
    update platform.projection_checkpoints c set position = ${position}
    where c.run_id = ${run.id} and c.lane in (
      select lane from platform.projection_checkpoints where run_id = ${run.id} order by lane for update skip locked)`;
  return count === LANES;
}

/** As after many rebuilds: Postgres then finds the rows of a few lanes by the index, in the order in which they are named. */
async function addEarlierRuns({ sql }: Postgres): Promise<void> {
  await sql`
    with run as (
      insert into platform.projection_runs (projection, version, schema_name, status, ended_at)
      select 'earlier', n, 'earlier_' || n, 'retired', now() from generate_series(1, 40) n returning id)
    insert into platform.projection_checkpoints (run_id, lane, position)
    select id, lane, 0 from run, generate_series(0, ${LANES - 1}) lane`;
  await sql`analyze platform.projection_checkpoints`;
}

interface Flood {
  /** How long the filler of the new run needs from the request of a write to its commit. */
  readonly writeMs: number;
  /** How often that filler writes by itself. */
  readonly writeIntervalMs: number;
}

/**
 * Promotes a run during a flood of a commit each millisecond. Time passes only while the promotion sleeps, so the machine has no
 * part in it. The run that serves follows the end of the store, unless its lanes are locked.
 *
 * @returns how long the run that serves stood still, each time
 */
async function promoteInFlood({ writeMs, writeIntervalMs }: Flood): Promise<number[]> {
  const { postgres, serving, building } = await twoRuns();
  const stop = new AbortController();
  let nowMs = 1_000;
  let written = 0;
  let requestedAt = Number.POSITIVE_INFINITY;
  let write: { readonly position: number; readonly endsMs: number } | undefined;
  let writtenMs = nowMs;
  let standstillMs = 0;
  const standstills: number[] = [];
  const pass = async (ms: number) => {
    nowMs += ms;
    if (write === undefined && (nowMs >= requestedAt || nowMs - writtenMs >= writeIntervalMs)) {
      write = { position: nowMs, endsMs: nowMs + writeMs };
      requestedAt = Number.POSITIVE_INFINITY;
    }
    if (write !== undefined && nowMs >= write.endsMs) {
      written = write.position;
      writtenMs = nowMs;
      write = undefined;
      expect(await moveUnlocked(postgres, building, written)).toBe(true);
    }
    standstillMs += ms;
    if (!(await moveUnlocked(postgres, serving, nowMs))) return;
    standstills.push(standstillMs);
    standstillMs = 0;
  };
  const filler: Filler = {
    run: building,
    get lowestPosition() {
      return written;
    },
    get highestPosition() {
      return written;
    },
    writeAt: (position) => {
      requestedAt = Math.min(requestedAt, position);
    },
    reload: () => Promise.resolve(true),
    fillFrom: () => Promise.resolve(),
  };
  const store = storeWith(storeOf(new FleetHistory(seededRandom(), { units: 1, lockers: 1 })), {
    lastSequence: () => Promise.resolve(nowMs),
  });
  let isPromoted = false;
  const onPromoted = () => {
    isPromoted = true;
  };
  const context = { postgres, store, clock: () => nowMs, onPromoted };
  await promoteWhenLevel(filler, context, { signal: stop.signal, sleep: pass, log: silentLog });
  expect(isPromoted).toBe(true);
  const [run] = await postgres.sql<{ id: number }[]>`
    select id from platform.projection_runs where status = 'serving'`;
  expect(run?.id).toBe(building.id);
  return standstills;
}

describe('a promotion during a flood of events', () => {
  test('stops the run that serves for no longer than the hold', async () => {
    const standstills = await promoteInFlood({ writeMs: 40, writeIntervalMs: 3_000 });
    expect(Math.max(...standstills)).toBeLessThanOrEqual(FIRST_HOLD_MS + 20);
  }, 120_000);

  test('holds longer where writes are slow, at most a second, and a tenth of the time', async () => {
    const standstills = await promoteInFlood({ writeMs: 500, writeIntervalMs: 3_000 });
    const [longest = 0] = standstills.toSorted((one, other) => other - one);
    expect(longest).toBeLessThanOrEqual(1_000);
    const totalMs = standstills.reduce((sum, ms) => sum + ms, 0);
    const stoodStillMs = standstills.filter((ms) => ms > FIRST_HOLD_MS).reduce((sum, ms) => sum + ms, 0);
    expect(stoodStillMs).toBeLessThan(totalMs / 5);
  }, 120_000);

  test('does not stop the run that serves while the new run is behind the end of the store', async () => {
    const { postgres, serving, building } = await twoRuns();
    await moveUnlocked(postgres, serving, 100);
    await moveUnlocked(postgres, building, 99);
    let sleeps = 0;
    const sleep = async () => {
      sleeps += 1;
    };
    const promotion = { run: building, end: 100, holdMs: 1_000, sleep, writeAt: () => undefined };
    expect(await promoteRun(postgres, promotion)).toBe('behind');
    expect(sleeps).toBe(0);
  }, 60_000);

  test('makes the filler write, which would otherwise wait for more events', async () => {
    const history = new FleetHistory(seededRandom(), { units: 8, lockers: 3 });
    const store = storeOf(history);
    await append(history, store, 200);
    const postgres = await freshPostgres();
    open.push(postgres);
    // A thousand times slower: by itself, the filler would write after minutes.
    const clock = () => performance.now() / 1_000;
    const filling = fill(postgres, store, { projections: [journal], clock });
    await filling.caughtUp;
    const requested = await requestRebuild(postgres, 'journal', 'ops:test');
    await eventually(
      async () => {
        const runs = await activeRuns(postgres.sql, ['journal']);
        expect(runs.map(({ id, status }) => [id, status])).toEqual([[requested?.runId ?? 0, 'serving']]);
      },
      { timeoutMs: 60_000 },
    );
    await filling.stop();
  }, 120_000);
});

test('an owner that waits for a lane has locked no lane behind it, so that two owners never wait for each other', async () => {
  const { postgres, serving } = await twoRuns();
  await addEarlierRuns(postgres);
  const lockLanes = (sql: Sql, lanes: readonly number[]) => sql<{ lane: number }[]>`
    select lane from platform.projection_checkpoints
    where run_id = ${serving.id} and lane = any(${lanes}::int[]) for update skip locked`;
  const mayEnd = Promise.withResolvers<void>();
  const isLocked = Promise.withResolvers<void>();
  const first = postgres.transaction(async (tx) => {
    await lockLanes(tx, [5]);
    isLocked.resolve();
    await mayEnd.promise;
    await movePositions(tx, serving.id, new Map([5, 9].map((lane) => [lane, 0])), 7);
  });
  await isLocked.promise;
  // The second owner received its messages in another order of lanes.
  const second = postgres.transaction((tx) =>
    movePositions(tx, serving.id, new Map([9, 5].map((lane) => [lane, 0])), 7),
  );
  second.catch(() => undefined);
  await eventually(async () => {
    const [waiting] = await postgres.sql<{ count: number }[]>`
      select count(*) as count from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' and query like '%projection_checkpoints%'`;
    expect(waiting?.count).toBe(1);
  });
  expect([...(await lockLanes(postgres.sql, [9]))]).toEqual([{ lane: 9 }]);
  mayEnd.resolve();
  await first;
  await expect(second).rejects.toBeInstanceOf(FencedError);
}, 60_000);

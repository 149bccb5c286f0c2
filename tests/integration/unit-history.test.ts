/** Units at other times, folded from a real event log into which the logs of units came late. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { withReportedUsage } from '../../domain/booking/settlement.ts';
import type { Aggregate } from '../../domain/events/cloud-event.ts';
import { laneOf } from '../../domain/shard.ts';
import { evolveUnit, newUnitState, type UnitState } from '../../domain/unit/unit.ts';
import { toInstant } from '../../domain/vocabulary.ts';
import { MemoryEventStore } from '../../platform/event-store/memory.ts';
import type { Append, StoredMessage } from '../../platform/event-store/store.ts';
import { Postgres } from '../../platform/postgres/connection.ts';
import { UnitDecider } from '../../platform/units/unit-decider.ts';
import { snapshotReader } from '../../projections/bookings/queries.ts';
import { PositionWaiter } from '../../projections/engine/queries/position-waiter.ts';
import { PAGE_SETTINGS } from '../../projections/event_log/queries/events.ts';
import { unitCommits } from '../../projections/event_log/queries/history.ts';
import { pastView } from '../../server/api/history/state-view.ts';
import {
  MAX_CONCURRENT_FOLDS,
  UnitHistory,
  type UnitHistoryDependencies,
} from '../../server/api/history/unit-history.ts';
import { Problem } from '../../server/http/problems.ts';
import { ReadPositions } from '../../server/http/read-positions.ts';
import { FleetHistory } from '../support/fleet-history.ts';
import { fillToTheEnd, freshPostgres, readModelsOf } from '../support/projections.ts';
import { seededRandom } from '../support/random.ts';
import { testPostgres } from '../support/services.ts';
import { silentLog } from '../support/silent-log.ts';

const UNITS = 4;
const COMMITS = 1_200;
/** Reports of a unit that may be on their way at the same time. */
const MAX_LATE = 12;
const LATER_MS = 3_600_000;

const random = seededRandom();
const life = new FleetHistory(random, { units: UNITS, lockers: 4 });
let recordedAtMs = life.nowMs;
const store = new MemoryEventStore(() => recordedAtMs);
/** Moments, and how the units really were then. */
const moments: { readonly atMs: number; readonly states: ReadonlyMap<string, UnitState> }[] = [];
let postgres: Postgres;
let reader: Postgres;
let messages: StoredMessage[];

/** What the platform decides is recorded at once; what units report comes late, in its order. */
async function live(): Promise<void> {
  const unrecorded = new Map<string, Append[]>();
  const lastOf = new Map<string, number>();
  const record = async (commit: Append) => {
    const subject = `${commit.unit}/${commit.aggregate}`;
    recordedAtMs = life.nowMs;
    const { sequence } = await store.append({ ...commit, expectedSequence: lastOf.get(subject) ?? 0 });
    lastOf.set(subject, sequence);
  };
  for (let n = 0; n < COMMITS; n++) {
    const before = { atMs: life.nowMs, states: new Map(life.states) };
    const [commit] = life.nextCommits(1);
    if (commit === undefined) throw new Error('nothing happened');
    if (life.nowMs > before.atMs) moments.push(before);
    const late = unrecorded.get(commit.unit) ?? [];
    unrecorded.set(commit.unit, late);
    if (commit.aggregate === 'device') late.push(commit);
    else await record(commit);
    if (late.length > 0 && (late.length > MAX_LATE || random.below(10) === 0)) {
      for (const report of late.splice(0)) await record(report);
    }
  }
  for (const late of unrecorded.values()) for (const report of late) await record(report);
}

beforeAll(async () => {
  await live();
  postgres = await freshPostgres();
  await fillToTheEnd(postgres, store);
  const [row] = await postgres.sql<{ name: string }[]>`select current_database() as name`;
  const url = Object.assign(new URL((await testPostgres()).url), { pathname: `/${row?.name}` }).toString();
  reader = new Postgres({ url, applicationName: 'histories', maxConnections: 4, settings: PAGE_SETTINGS });
  messages = (await Promise.all([...life.states.keys()].map((unit) => store.tail(unit, 0)))).flat();
}, 90_000);

afterAll(() => Promise.all([postgres.close(1), reader.close(1)]));

function historyWith(changes: Partial<UnitHistoryDependencies> = {}): UnitHistory {
  const loadSnapshot = snapshotReader(readModelsOf(postgres));
  const clock = () => recordedAtMs + LATER_MS;
  const decider = new UnitDecider({
    ...{ store, loadSnapshot, clock, log: silentLog },
    newId: () => crypto.randomUUID(),
    random: () => 0,
    sleep: async () => undefined,
  });
  return new UnitHistory({
    ...{ eventLog: readModelsOf(reader), loadSnapshot, decider, clock },
    positions: new ReadPositions(new PositionWaiter(readModelsOf(postgres), () => performance.now())),
    lastSequence: () => store.lastSequence(),
    ...changes,
  });
}

/** The fold of the commits of a unit up to a sequence. */
function foldedTo(unit: string, sequence: number): UnitState {
  return messages
    .filter((message) => message.unit === unit && message.sequence <= sequence)
    .reduce(
      (state, message) => evolveUnit(state, { ...placeOf(message), events: message.events() }),
      newUnitState(unit),
    );
}

function placeOf({ aggregate, sequence }: StoredMessage): { aggregate: Aggregate; sequence: number } {
  return { aggregate, sequence };
}

function shown(state: UnitState, atMs: number, view: 'actual' | 'believed') {
  const { registry } = state;
  return registry.status === 'unregistered' ? undefined : pastView(state, registry, atMs, view);
}

/** The state at another time, or `undefined` before the registration. */
async function stateAt(history: UnitHistory, ...query: Parameters<UnitHistory['stateAt']>) {
  try {
    return await history.stateAt(...query);
  } catch (error) {
    if (error instanceof Problem && error.document.status === 404) return undefined;
    throw error;
  }
}

async function problemOf(running: Promise<unknown>) {
  const error = await running.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Problem)) throw new Error(`no problem, but ${String(error)}`);
  const { status, detail, errors } = error.document;
  return { status, detail, paths: errors?.map(({ path }) => path) };
}

function some<T>(list: readonly T[], count: number): T[] {
  return Array.from({ length: count }, () => list[random.below(list.length)]).filter((one) => one !== undefined);
}

describe('the believed state', () => {
  test('at a position is the fold of the commits up to it, from any snapshot', async () => {
    for (const { unit, sequence, recordedAtMs: atMs } of some(messages, 150)) {
      const expected = shown(foldedTo(unit, sequence), atMs, 'believed');
      const snapshotAt = random.below(2 * sequence);
      const loadSnapshot = async () => ({ state: foldedTo(unit, snapshotAt), completeTo: snapshotAt });
      for (const history of [historyWith(), historyWith({ loadSnapshot })]) {
        const state = await stateAt(history, unit, { atPosition: `${sequence}.0` });
        expect(state).toEqual(expected);
        expect(state?.position).toBe(String(sequence));
      }
    }
  }, 60_000);

  test('at a time is the fold of the commits that had been recorded by then', async () => {
    const history = historyWith();
    for (const { atMs } of some(moments, 100)) {
      for (const unit of life.states.keys()) {
        const last = messages.findLast((message) => message.unit === unit && message.recordedAtMs <= atMs);
        const state = await stateAt(history, unit, { at: toInstant(atMs), view: 'believed' });
        expect(state).toEqual(shown(foldedTo(unit, last?.sequence ?? 0), atMs, 'believed'));
      }
    }
  }, 60_000);
});

describe('the actual state', () => {
  test('at a time is the true state of the unit, also when its reports were recorded later', async () => {
    const history = historyWith();
    let different = 0;
    for (const { atMs, states } of some(moments, 100)) {
      for (const unit of life.states.keys()) {
        const really = states.get(unit) ?? newUnitState(unit);
        const actual = await stateAt(history, unit, { at: toInstant(atMs) });
        const expected = shown(withReportedUsage(really, atMs), atMs, 'actual');
        // Late commits have later positions than in the undisturbed history.
        const position = expect.any(String);
        expect(actual).toEqual(expected === undefined ? undefined : { ...expected, position });
        const believed = await stateAt(history, unit, { at: toInstant(atMs), view: 'believed' });
        if (JSON.stringify(believed?.lockers) !== JSON.stringify(actual?.lockers)) different += 1;
      }
    }
    // The views differ only if reports came late. Without such reports this test would prove nothing.
    expect(different).toBeGreaterThan(20);
  }, 60_000);

  test('after the last event is the present state', async () => {
    const atMs = recordedAtMs + 1;
    for (const unit of life.states.keys()) {
      const state = await stateAt(historyWith(), unit, { at: toInstant(atMs) });
      const present = foldedTo(unit, Number.POSITIVE_INFINITY);
      expect(state).toEqual(shown(withReportedUsage(present, atMs), atMs, 'actual'));
    }
  });
});

test('a time in the future is answered with a forecast from the present state', async () => {
  const nowMs = recordedAtMs + LATER_MS;
  const [unit = ''] = life.states.keys();
  const state = await historyWith().stateAt(unit, { at: toInstant(nowMs + 60_000) });
  const last = messages.findLast((message) => message.unit === unit);
  expect(state).toMatchObject({ forecast: true, view: 'actual', position: String(last?.sequence) });
});

test('no page ends within a commit', async () => {
  const [unit = ''] = life.states.keys();
  const upTo = await store.lastSequence();
  for (const pageEvents of [1, 2, 3, 5]) {
    const commits = await Array.fromAsync(unitCommits(readModelsOf(reader), unit, { after: 0, upTo, pageEvents }));
    const expected = messages.filter((message) => message.unit === unit);
    expect(commits.flat()).toEqual(
      expected.map((message) => ({
        ...placeOf(message),
        recordedAtMs: message.recordedAtMs,
        events: [...message.events()],
      })),
    );
  }
}, 30_000);

describe('a request is refused', () => {
  const now = () => toInstant(recordedAtMs);

  test('when it needs to fold too many events', async () => {
    const [unit = ''] = life.states.keys();
    const loadSnapshot = async () => ({ state: newUnitState(unit), completeTo: 0 });
    const history = historyWith({ loadSnapshot, maxFoldedEvents: 10 });
    expect(await problemOf(history.stateAt(unit, { at: now() }))).toMatchObject({ status: 422, paths: ['/query/at'] });
    const atPosition = String(await store.lastSequence());
    const refused = await problemOf(history.stateAt(unit, { atPosition }));
    expect(refused).toMatchObject({ status: 422, paths: ['/query/atPosition'] });
  });

  test('while too many others fold events', async () => {
    const [unit = ''] = life.states.keys();
    const gate = Promise.withResolvers<void>();
    const loadSnapshot = async () => {
      await gate.promise;
      return { state: newUnitState(unit), completeTo: 0 };
    };
    const history = historyWith({ loadSnapshot });
    const running = Array.from({ length: MAX_CONCURRENT_FOLDS }, () => history.stateAt(unit, { at: now() }));
    expect(await problemOf(history.stateAt(unit, { at: now() }))).toMatchObject({ status: 503 });
    gate.resolve();
    await Promise.all(running);
    await history.stateAt(unit, { at: now() });
  });

  test('for a unit from the position at which it is parked', async () => {
    const message = messages.findLast(({ aggregate }) => aggregate === 'device');
    const { unit = '', sequence = 0 } = message ?? {};
    const [run] = await postgres.sql<{ id: number }[]>`
      select id from platform.projection_runs where projection = 'event_log' and status = 'serving'`;
    await postgres.sql`
      insert into platform.projection_parked (run_id, unit, lane, position, reason)
      values (${run?.id ?? 0}, ${unit}, ${laneOf(unit)}, ${sequence}, 'poison')`;
    try {
      const history = historyWith();
      expect(await problemOf(history.stateAt(unit, { at: now() }))).toMatchObject({ status: 503 });
      const refused = await problemOf(history.stateAt(unit, { atPosition: String(sequence) }));
      expect(refused).toMatchObject({ status: 503, detail: expect.stringContaining(`position ${sequence}`) });
      expect(await history.stateAt(unit, { atPosition: String(sequence - 1) })).toMatchObject({ view: 'believed' });
    } finally {
      await postgres.sql`delete from platform.projection_parked where unit = ${unit}`;
    }
  });
});

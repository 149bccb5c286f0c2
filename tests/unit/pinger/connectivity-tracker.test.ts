import { describe, expect, test } from 'bun:test';
import { HEARTBEAT_INTERVAL_MS } from '../../../domain/connectivity/connectivity.ts';
import type { CloudEvent } from '../../../domain/events/cloud-event.ts';
import { unitHash } from '../../../domain/shard.ts';
import { newUnitState } from '../../../domain/unit/unit.ts';
import { toInstant } from '../../../domain/vocabulary.ts';
import { ConnectivityTracker } from '../../../pinger/connectivity/connectivity-tracker.ts';
import { UnitIndex } from '../../../pinger/units/unit-index.ts';
import { MemoryEventStore } from '../../../platform/event-store/memory.ts';
import { StoreUnavailableError } from '../../../platform/event-store/store.ts';
import { createLog } from '../../../platform/observability/log.ts';
import { UnitDecider } from '../../../platform/units/unit-decider.ts';
import { UNIT } from '../../support/given.ts';
import { appendRegistration } from '../../support/registration.ts';
import { NOW_MS } from '../../support/scene.ts';

const N = 3;
/** The index of the unit, and that of an unregistered one, in the roster of each pinger. */
const INDEX = 0;
const STRANGER = 1;

/** A platform in memory with one clock, one registered unit, and as many pingers as are asked for. */
async function platform() {
  let nowMs = NOW_MS;
  let ids = 0;
  let storeIsAway = false;
  const lines: string[] = [];
  const log = createLog(
    (line) => lines.push(line),
    () => nowMs,
  );
  const store = new MemoryEventStore(() => nowMs);
  const now = () => nowMs;
  const newId = () => {
    ids += 1;
    return `id-${ids}`;
  };
  const newDecider = () =>
    new UnitDecider({
      store,
      loadSnapshot: async (unit) => ({ state: newUnitState(unit), completeTo: 0 }),
      newId,
      clock: now,
      random: () => 0,
      sleep: async () => undefined,
      log,
    });
  await appendRegistration(newDecider(), UNIT);
  interface PingerChanges {
    readonly failuresToOffline?: number;
    readonly lastProofElsewhereMs?: () => Promise<number | undefined>;
    /** Resolves when the store has answered; a decision waits for it before it sees the state of its unit. */
    readonly storeAnswers?: () => Promise<void>;
  }
  const newPinger = ({ storeAnswers, ...changes }: PingerChanges = {}) => {
    const roster = new UnitIndex(2);
    for (const name of [UNIT, 'stranger']) roster.add(name);
    const decider = newDecider();
    const decide: UnitDecider['decide'] = async (...args) => {
      if (storeIsAway) throw new StoreUnavailableError('the store is away');
      await storeAnswers?.();
      return decider.decide(...args);
    };
    const tracker = new ConnectivityTracker({
      unitIndex: roster,
      decider: { decide },
      failuresToOffline: N,
      newId,
      clock: { now, monotonic: now },
      heartbeatListeningMs: () => nowMs - NOW_MS,
      log,
      ...changes,
    });
    tracker.add(INDEX, unitHash(UNIT));
    return tracker;
  };
  return {
    store,
    lines,
    newPinger,
    now,
    pass: (ms: number) => {
      nowMs += ms;
    },
    breakStore: (away: boolean) => {
      storeIsAway = away;
    },
    transitions: async (): Promise<CloudEvent[]> =>
      (await store.tail(UNIT, 0)).filter(({ aggregate }) => aggregate === 'connectivity').flatMap((m) => m.events()),
  };
}

/** Waits until the running decisions end. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
}

type World = Awaited<ReturnType<typeof platform>>;

async function missTimes(world: World, tracker: ConnectivityTracker, count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    world.pass(10_000);
    tracker.recordMiss(INDEX, world.now());
    await settled();
  }
}

const types = (events: readonly CloudEvent[]) => events.map(({ type }) => type);

describe('transitions', () => {
  test('append one event each, with its data', async () => {
    const world = await platform();
    const tracker = world.newPinger();
    tracker.recordProof(INDEX, 'ping', world.now());
    await settled();
    const lastProofMs = world.now() + 10_000;
    world.pass(10_000);
    tracker.recordProof(INDEX, 'ping', world.now());
    await missTimes(world, tracker, 5);
    world.pass(10_000);
    tracker.recordProof(INDEX, 'heartbeat', world.now());
    await settled();
    expect(await world.transitions()).toMatchObject([
      { type: 'UnitWentOnline', data: { evidence: 'ping' }, actor: 'platform:pinger', source: '/lockfleet/pinger' },
      { type: 'UnitWentOffline', data: { missedPings: N, lastProofAt: toInstant(lastProofMs) } },
      { type: 'UnitWentOnline', data: { evidence: 'heartbeat', awayMs: 60_000 } },
    ]);
    expect(tracker.states()).toEqual({ unknown: 0, 'never-seen': 0, online: 1, offline: 0 });
  });

  test('do not happen by misses of a unit that was never seen', async () => {
    const world = await platform();
    const tracker = world.newPinger();
    await missTimes(world, tracker, 10);
    expect(await world.transitions()).toEqual([]);
    expect(tracker.states()).toMatchObject({ 'never-seen': 1 });
  });

  test('do not happen for an unregistered unit', async () => {
    const world = await platform();
    const tracker = world.newPinger();
    tracker.add(STRANGER, unitHash('stranger'));
    tracker.recordProof(STRANGER, 'heartbeat', world.now());
    await settled();
    expect(await world.store.tail('stranger', 0)).toEqual([]);
  });

  test('are appended once when two pingers own the unit', async () => {
    const world = await platform();
    const pingers = [world.newPinger(), world.newPinger(), world.newPinger()];
    for (let round = 0; round < 4; round += 1) {
      for (const tracker of pingers) tracker.recordProof(INDEX, 'ping', world.now());
      await settled();
      for (let miss = 0; miss < N; miss += 1) {
        world.pass(10_000);
        for (const tracker of pingers) tracker.recordMiss(INDEX, world.now());
      }
      await settled();
    }
    const expected = Array.from({ length: 4 }, () => ['UnitWentOnline', 'UnitWentOffline']).flat();
    expect(types(await world.transitions())).toEqual(expected);
  });

  test('continue after a restart from the status in the event log', async () => {
    const world = await platform();
    const before = world.newPinger();
    before.recordProof(INDEX, 'ping', world.now());
    await before.stop();
    const after = world.newPinger();
    await missTimes(world, after, N);
    const [online, offline] = await world.transitions();
    expect(offline).toMatchObject({ type: 'UnitWentOffline', data: { lastProofAt: online?.time } });
  });
});

describe('conflicting evidence', () => {
  test('misses do not count when another process received a newer proof', async () => {
    const world = await platform();
    const [deaf, hearing] = [world.newPinger(), world.newPinger()];
    await missTimes(world, deaf, N - 1);
    world.pass(1);
    hearing.recordProof(INDEX, 'ping', world.now());
    await settled();
    await missTimes(world, deaf, 1);
    expect(types(await world.transitions())).toEqual(['UnitWentOnline']);
    expect(deaf.states()).toMatchObject({ online: 1 });
  });

  test('a read model with another status makes a pinger read the event log again', async () => {
    const world = await platform();
    const [mine, other] = [world.newPinger(), world.newPinger()];
    mine.recordProof(INDEX, 'ping', world.now());
    await settled();
    await missTimes(world, other, N);
    expect(types(await world.transitions())).toEqual(['UnitWentOnline', 'UnitWentOffline']);
    // It still believes that the unit is online, and keeps hearing it.
    mine.recordProof(INDEX, 'ping', world.now());
    await settled();
    expect(await world.transitions()).toHaveLength(2);
    mine.compareWithReadModel(INDEX, 'offline');
    mine.recordProof(INDEX, 'ping', world.now());
    await settled();
    expect(types(await world.transitions())).toEqual(['UnitWentOnline', 'UnitWentOffline', 'UnitWentOnline']);
  });

  test('a read model that lags behind does not change the status at once', async () => {
    const world = await platform();
    const tracker = world.newPinger();
    tracker.recordProof(INDEX, 'ping', world.now());
    await settled();
    world.pass(1_000);
    tracker.compareWithReadModel(INDEX, 'never-seen');
    expect(tracker.states()).toMatchObject({ online: 1, unknown: 0 });
  });
});

describe('with one missed ping to offline', () => {
  /** An online unit, and the ping that it does not answer. */
  async function unanswered(changes: Parameters<World['newPinger']>[0]) {
    const world = await platform();
    const tracker = world.newPinger({ failuresToOffline: 1, ...changes });
    tracker.recordProof(INDEX, 'ping', world.now());
    await settled();
    world.pass(10_000);
    const sentAtMs = world.now();
    world.pass(1_000);
    const heartbeat = () => tracker.recordProof(INDEX, 'heartbeat', world.now());
    const timeOut = () => {
      world.pass(1_000);
      tracker.recordMiss(INDEX, sentAtMs);
    };
    const transitions = async () => {
      await settled();
      return types(await world.transitions());
    };
    return { heartbeat, timeOut, transitions };
  }

  test('a unit without any proof goes offline', async () => {
    const { timeOut, transitions } = await unanswered({});
    timeOut();
    expect(await transitions()).toEqual(['UnitWentOnline', 'UnitWentOffline']);
  });

  test('a heartbeat between the ping and its time-out keeps the unit online', async () => {
    const { heartbeat, timeOut, transitions } = await unanswered({});
    heartbeat();
    timeOut();
    expect(await transitions()).toEqual(['UnitWentOnline']);
  });

  test('a heartbeat while other pingers are asked keeps the unit online', async () => {
    const answer = Promise.withResolvers<undefined>();
    const { heartbeat, timeOut, transitions } = await unanswered({ lastProofElsewhereMs: () => answer.promise });
    timeOut();
    await settled();
    heartbeat();
    answer.resolve(undefined);
    expect(await transitions()).toEqual(['UnitWentOnline']);
  });

  test('a heartbeat while the decision waits for the store keeps the unit online', async () => {
    let isFirst = true;
    const answer = Promise.withResolvers<void>();
    const storeAnswers = async () => {
      if (!isFirst) await answer.promise;
      isFirst = false;
    };
    const { heartbeat, timeOut, transitions } = await unanswered({ storeAnswers });
    timeOut();
    await settled();
    heartbeat();
    answer.resolve();
    expect(await transitions()).toEqual(['UnitWentOnline']);
  });

  test('a proof of another pinger that is newer than the ping keeps the unit online', async () => {
    const { timeOut, transitions } = await unanswered({ lastProofElsewhereMs: async () => NOW_MS + 10_500 });
    timeOut();
    expect(await transitions()).toEqual(['UnitWentOnline']);
  });
});

describe('silence', () => {
  test('takes a unit offline that sends only heartbeats', async () => {
    const world = await platform();
    const tracker = world.newPinger();
    tracker.recordProof(INDEX, 'heartbeat', world.now());
    await settled();
    world.pass(N * HEARTBEAT_INTERVAL_MS);
    tracker.checkSilence(INDEX);
    await settled();
    expect(await world.transitions()).toHaveLength(1);
    world.pass(1);
    tracker.checkSilence(INDEX);
    tracker.checkSilence(INDEX);
    await settled();
    expect(await world.transitions()).toMatchObject([
      { type: 'UnitWentOnline', time: toInstant(NOW_MS) },
      { type: 'UnitWentOffline', data: { lastProofAt: toInstant(NOW_MS) } },
    ]);
  });

  test('alone counts for a unit that pings do not reach', async () => {
    const world = await platform();
    const tracker = world.newPinger();
    tracker.recordProof(INDEX, 'heartbeat', world.now());
    for (let round = 0; round < 10; round += 1) {
      await missTimes(world, tracker, N);
      tracker.recordProof(INDEX, 'heartbeat', world.now());
      await settled();
    }
    // It went offline once, before anybody knew; after that it stays.
    expect(types(await world.transitions())).toEqual(['UnitWentOnline', 'UnitWentOffline', 'UnitWentOnline']);
    expect(tracker.ignoresMisses(INDEX)).toBe(true);
  });
});

describe('an unreachable event store', () => {
  test('loses no transition: the next evidence repeats the decision', async () => {
    const world = await platform();
    const tracker = world.newPinger();
    world.breakStore(true);
    for (let attempt = 0; attempt < 5; attempt += 1) {
      tracker.recordProof(INDEX, 'ping', world.now());
      await settled();
    }
    expect(await world.transitions()).toEqual([]);
    world.breakStore(false);
    tracker.recordProof(INDEX, 'ping', world.now());
    await settled();
    expect(types(await world.transitions())).toEqual(['UnitWentOnline']);
    expect(world.lines.filter((line) => line.includes('"warn"'))).toHaveLength(1);
    expect(world.lines.filter((line) => line.includes('works again'))).toHaveLength(1);
  });
});

test('a proof that arrives before a unit is called offline keeps it online', async () => {
  const world = await platform();
  const tracker = world.newPinger();
  tracker.recordProof(INDEX, 'ping', world.now());
  await settled();
  for (let miss = 0; miss < N; miss += 1) tracker.recordMiss(INDEX, world.now());
  tracker.recordProof(INDEX, 'ping', world.now());
  await settled();
  expect(types(await world.transitions())).toEqual(['UnitWentOnline']);
  for (let miss = 0; miss < N; miss += 1) tracker.recordMiss(INDEX, world.now());
  await settled();
  expect(types(await world.transitions())).toEqual(['UnitWentOnline', 'UnitWentOffline']);
});

test('a unit that was removed is ignored until it is added again', async () => {
  const world = await platform();
  const tracker = world.newPinger();
  tracker.remove(INDEX);
  tracker.recordMiss(INDEX, world.now());
  tracker.checkSilence(INDEX);
  expect(tracker.states()).toEqual({ unknown: 0, 'never-seen': 0, online: 0, offline: 0 });
  tracker.recordProof(INDEX, 'heartbeat', world.now());
  expect(tracker.states()).toMatchObject({ online: 0 });
  tracker.add(INDEX, unitHash(UNIT));
  tracker.recordProof(INDEX, 'heartbeat', world.now());
  // As one that has proved itself before the list of targets names it.
  tracker.add(INDEX, unitHash(UNIT));
  await settled();
  expect(tracker.states()).toMatchObject({ online: 1 });
});

test('a unit that nothing has proved alive has an unknown state when it cannot be pinged, and the log is asked at the next proof', async () => {
  const world = await platform();
  const before = world.newPinger();
  before.recordProof(INDEX, 'ping', world.now());
  await settled();
  const tracker = world.newPinger();
  tracker.remove(INDEX);
  tracker.add(INDEX, unitHash(UNIT), 'online');
  expect(tracker.states()).toMatchObject({ online: 1, unknown: 0 });
  tracker.withdrawStatus(INDEX);
  expect(tracker.states()).toMatchObject({ online: 0, unknown: 1 });
  tracker.recordProof(INDEX, 'ping', world.now());
  await settled();
  expect(tracker.states()).toMatchObject({ online: 1, unknown: 0 });
  // A proof of this process outlives the name server.
  tracker.withdrawStatus(INDEX);
  expect(tracker.states()).toMatchObject({ online: 1, unknown: 0 });
  expect(types(await world.transitions())).toEqual(['UnitWentOnline']);
});

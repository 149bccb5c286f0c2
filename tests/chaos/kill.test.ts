/** `kill -9` of each process in the middle of a load: nothing acknowledged is lost, nothing is doubled. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { Client, items, period } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { seededRandom } from '../support/random.ts';

const UNITS = 6;
const CLIENTS = 12;
const PAUSE_BETWEEN_KILLS_MS = 1_500;
const RECOVERY_MS = 60_000;
const HOUR_MS = 3_600_000;
const CONTENDERS = 6;
/** The locker that all contenders want. The other customers leave its unit alone. */
const CONTENDED = { unit: 'PL-1000', locker: 'A' };
/** Length of the periods that contenders want. */
const SLOT_MS = 15 * 60_000;
/** How long a slot is the one that all contenders want. */
const SLOT_INTERVAL_MS = 300;
/** The load goes on after the kills until there are this many, so that a slow machine makes the test longer and not weaker. */
const MIN_HOLDS = 50;
const MIN_CONTENDED_SLOTS = 5;

let platform: Platform;
let ops: Client;

beforeAll(async () => {
  const env = { PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '500', SIM_LOCKERS: '8' };
  platform = await startPlatform({ purpose: 'chaos', units: UNITS, env, durable: true });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
}, 60_000);

afterAll(() => platform.stop());

interface Held {
  readonly key: string;
  readonly id: string;
}

/** A customer who holds one random period after another, and repeats each request under its key until the answer is final. */
async function holdRandomly(
  isOver: () => boolean,
  client: Client,
  random: () => number,
  name: string,
  held: Held[],
): Promise<void> {
  for (let n = 0; !isOver(); n += 1) {
    const unit = `PL-${1001 + Math.floor(random() * (UNITS - 1))}`;
    const locker = 'ABCDEFGH'[Math.floor(random() * 8)];
    const key = `${name}-${n}`;
    const wish = { unit, locker, ...period(60 + Math.floor(random() * 400_000), 15) };
    const answer = await finalAnswer(client, wish, key);
    if (answer.status === 201) held.push({ key, id: String(answer.body.id) });
    else expect(answer.status).toBe(409);
  }
}

interface Attempt extends Held {
  readonly slot: number;
  readonly won: boolean;
}

/**
 * A customer who wants the same locker for the same slots as the others. The slot changes with the clock, so that all contenders
 * send a request for it at about the same time, also while a process is killed.
 */
async function contend(
  isOver: () => boolean,
  client: Client,
  firstMs: number,
  name: string,
  attempts: Attempt[],
): Promise<void> {
  for (let lastSlot = -1; !isOver(); ) {
    const slot = Math.floor((Date.now() - firstMs) / SLOT_INTERVAL_MS);
    if (slot === lastSlot) {
      await Bun.sleep(5);
      continue;
    }
    lastSlot = slot;
    const fromMs = firstMs + HOUR_MS + slot * SLOT_MS;
    const when = { from: new Date(fromMs).toISOString(), until: new Date(fromMs + SLOT_MS).toISOString() };
    const key = `${name}-${slot}`;
    const answer = await finalAnswer(client, { unit: CONTENDED.unit, locker: CONTENDED.locker, ...when }, key);
    expect([201, 409]).toContain(answer.status);
    attempts.push({ key, slot, won: answer.status === 201, id: String(answer.body.id) });
  }
}

/** Slots that more than one contender has asked for. */
function contendedSlots(attempts: readonly Attempt[]): readonly Attempt[][] {
  return [...Map.groupBy(attempts, ({ slot }) => slot).values()].filter((rivals) => rivals.length > 1);
}

/** Repeats a request until its answer is final: a lost connection, a 5xx and a request that still runs are not. */
function finalAnswer(client: Client, wish: object, key: string) {
  return eventually(
    async () => {
      const answer = await client.post('/v1/reservations', wish, { 'idempotency-key': key });
      const running = answer.status === 409 && answer.body.type === '/problems/idempotency-key-reused';
      if (answer.status >= 500) expect(answer.headers.get('retry-after')).not.toBeNull();
      return answer.status < 500 && !running && answer;
    },
    { timeoutMs: 90_000, intervalMs: 50 },
  );
}

function allEvents(type: string): Promise<Record<string, unknown>[]> {
  return allPages(`/v1/events?type=${type}&limit=500`);
}

/** The newest event comes first. */
function allEventsOf(unit: string): Promise<Record<string, unknown>[]> {
  return allPages(`/v1/events?unit=${unit}&limit=500`);
}

async function allPages(path: string): Promise<Record<string, unknown>[]> {
  const all: Record<string, unknown>[] = [];
  for (let cursor = ''; ; ) {
    const page = await ops.get(`${path}${cursor === '' ? '' : `&cursor=${cursor}`}`);
    expect(page.status).toBe(200);
    all.push(...items(page));
    if (page.body.nextCursor === null) return all;
    cursor = String(page.body.nextCursor);
  }
}

interface Period {
  readonly from: string;
  readonly until: string;
}

function overlap(one: Period, other: Period): boolean {
  return one.from < other.until && other.from < one.until;
}

/** Customers at the screens, one after the other. Their events travel through push and ingest meanwhile. */
async function walkUpCustomers(isOver: () => boolean, random: () => number): Promise<void> {
  const sim = new Client(platform.sim);
  while (!isOver()) {
    const unit = `PL-${1000 + Math.floor(random() * UNITS)}`;
    try {
      const rented = await sim.post(`/units/${unit}/walk-up`, { minutes: 30 });
      if (rented.status < 300) {
        await sim.post(`/units/${unit}/lockers/${rented.body.locker}/close`);
        await sim.post(`/units/${unit}/lockers/${rented.body.locker}/give-back`);
      }
    } catch {
      // The test kills the simulator, too.
      await Bun.sleep(100);
    }
  }
}

function newClients(count: number, name: string): Promise<Client[]> {
  const names = Array.from({ length: count }, (_, n) => `${name}-${n}`);
  return Promise.all(names.map(async (each) => new Client(platform.api, await platform.token('customer', each))));
}

type Kill = readonly [name: string, kill: () => Promise<void>];

async function kill(pid: number | undefined): Promise<void> {
  if (pid === undefined) throw new Error('the process to kill does not run');
  process.kill(pid, 'SIGKILL');
}

async function killOneByOne(kills: readonly Kill[]): Promise<void> {
  for (const [name, killProcess] of kills) {
    await Bun.sleep(PAUSE_BETWEEN_KILLS_MS);
    console.log(`kill -9: ${name}`);
    await killProcess();
  }
  await Bun.sleep(PAUSE_BETWEEN_KILLS_MS);
}

const killServer: Kill = ['server', () => platform.server.killAndRestart()];
const killSimulator: Kill = ['device-sim', async () => platform.deviceSim?.killAndRestart()];
const killNats: Kill = ['NATS', () => kill(platform.nats.pid)];
const killPostgres: Kill = ['Postgres', () => kill(platform.postgres.pid)];
const killProjections: Kill = ['projections', () => platform.projections.killAndRestart()];

describe('kill -9 in the middle of a load', () => {
  test('loses and repeats no acknowledged hold, and gives a locker to one customer at a time', async () => {
    const random = seededRandom().next;
    let over = false;
    const isOver = () => over;
    const [clients, contenders] = [await newClients(CLIENTS, 'c'), await newClients(CONTENDERS, 'contender')];
    const heldRandomly: Held[] = [];
    const attempts: Attempt[] = [];
    const firstMs = Date.now();
    const load = Promise.all([
      ...clients.map((client, n) => holdRandomly(isOver, client, random, `client-${n}`, heldRandomly)),
      ...contenders.map((client, n) => contend(isOver, client, firstMs, `contender-${n}`, attempts)),
      walkUpCustomers(isOver, random),
    ]);
    await killOneByOne([killServer, killProjections, killSimulator, killNats, killPostgres, killServer]);
    await eventually(() => heldRandomly.length > MIN_HOLDS && contendedSlots(attempts).length > MIN_CONTENDED_SLOTS, {
      timeoutMs: RECOVERY_MS,
    });
    over = true;
    await load;
    const won = attempts.filter((attempt) => attempt.won);
    const held = [...heldRandomly, ...won];
    console.log(
      `${held.length} holds were acknowledged, ${won.length} of them after ${attempts.length} attempts at one locker`,
    );

    // Of the contenders for a slot, one has it.
    for (const rivals of contendedSlots(attempts)) expect(rivals.filter((attempt) => attempt.won)).toHaveLength(1);

    // The log holds each acknowledged hold once, and no other hold.
    const recorded = await eventually(
      async () => {
        const ids = (await allEvents('ReservationHeld')).map(
          ({ data }) => (data as { reservationId: string }).reservationId,
        );
        return held.every(({ id }) => ids.includes(id)) && ids;
      },
      { timeoutMs: RECOVERY_MS },
    );
    expect(new Set(held.map(({ id }) => id)).size).toBe(held.length);
    expect(recorded.toSorted()).toEqual(held.map(({ id }) => id).toSorted());
    expect(await overlappingHolds()).toEqual([]);
  }, 170_000);

  test('leaves every entry of the units’ logs recorded once, in order, without a gap', async () => {
    const names = Array.from({ length: UNITS }, (_, n) => `PL-${1000 + n}`);
    const before = new Map(await Promise.all(names.map(async (name) => [name, (await logOf(name)).lastSeq] as const)));
    let over = false;
    const walking = walkUpCustomers(() => over, seededRandom().next);
    await killOneByOne([killSimulator, killServer, killNats]);
    over = true;
    await walking;
    let written = 0;
    for (const name of names) {
      const { epoch, lastSeq } = await eventually(
        async () => {
          const log = await logOf(name);
          return log.recordedSeq >= log.lastSeq && log;
        },
        { timeoutMs: RECOVERY_MS },
      );
      written += lastSeq - (before.get(name) ?? 0);
      const seqs = await eventually(
        async () => {
          const own = (await allEventsOf(name)).filter(({ unitepoch }) => unitepoch === epoch);
          return own.length >= lastSeq && own.map(({ unitseq }) => Number(unitseq)).reverse();
        },
        { timeoutMs: RECOVERY_MS },
      );
      expect(seqs.slice(0, lastSeq)).toEqual(Array.from({ length: lastSeq }, (_, n) => n + 1));
    }
    expect(written).toBeGreaterThan(UNITS);
  }, 150_000);
});

async function logOf(unit: string): Promise<{ epoch: string; lastSeq: number; recordedSeq: number }> {
  const answer = await eventually(
    async () => {
      const shown = await new Client(platform.sim).get(`/units/${unit}`);
      return shown.status === 200 && shown;
    },
    { timeoutMs: RECOVERY_MS },
  );
  return answer.body.log as { epoch: string; lastSeq: number; recordedSeq: number };
}

/** The holds of one locker whose periods overlap, over all lockers. */
async function overlappingHolds() {
  const holds = (await allEvents('ReservationHeld')).map(({ subject, position, recordedAt, data }) => ({
    place: String(subject),
    position,
    recordedAt,
    ...(data as { reservationId: string; from: string; until: string }),
  }));
  return [...Map.groupBy(holds, ({ place }) => place).values()].flatMap((list) => {
    const sorted = list.toSorted((one, other) => one.from.localeCompare(other.from));
    return sorted.filter((hold, n) =>
      [sorted[n - 1], sorted[n + 1]].some((other) => other !== undefined && overlap(hold, other)),
    );
  });
}

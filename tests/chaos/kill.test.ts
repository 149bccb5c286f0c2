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

/** A customer who repeats each hold under its key until it has an answer that is final. */
async function holdUntil(over: () => boolean, client: Client, random: () => number, name: string): Promise<Held[]> {
  const held: Held[] = [];
  for (let n = 0; !over(); n += 1) {
    const unit = `PL-${1000 + Math.floor(random() * UNITS)}`;
    const wish = {
      unit,
      locker: 'ABCDEFGH'[Math.floor(random() * 8)],
      ...period(60 + Math.floor(random() * 400_000), 15),
    };
    const key = `${name}-${n}`;
    const answer = await answered(client, wish, key);
    if (answer.status === 201) held.push({ key, id: String(answer.body.id) });
    else expect([409, 201]).toContain(answer.status);
  }
  return held;
}

/** Sends until the answer is final: no connection, 503 and "still running" are not. */
function answered(client: Client, wish: object, key: string) {
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

async function allEvents(type: string): Promise<Record<string, unknown>[]> {
  const all: Record<string, unknown>[] = [];
  for (let cursor = ''; ; ) {
    const page = await ops.get(`/v1/events?type=${type}&limit=500${cursor === '' ? '' : `&cursor=${cursor}`}`);
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

function meets(one: Period, other: Period): boolean {
  return one.from < other.until && other.from < one.until;
}

/** Walk-up customers at the screens, whose events travel through push and ingest meanwhile. */
async function walkUps(over: () => boolean, random: () => number): Promise<void> {
  const sim = new Client(platform.sim);
  while (!over()) {
    const unit = `PL-${1000 + Math.floor(random() * UNITS)}`;
    try {
      const rented = await sim.post(`/units/${unit}/walk-up`, { minutes: 30 });
      if (rented.status < 300) {
        await sim.post(`/units/${unit}/lockers/${rented.body.locker}/close`);
        await sim.post(`/units/${unit}/lockers/${rented.body.locker}/give-back`);
      }
    } catch {
      // The simulator is one of those that are killed.
      await Bun.sleep(100);
    }
  }
}

describe('kill -9 in the middle of a load', () => {
  test('of the server, the projections, the simulator, NATS and Postgres', async () => {
    const random = seededRandom().next;
    let over = false;
    const isOver = () => over;
    const clients = await Promise.all(
      Array.from(
        { length: CLIENTS },
        async (_, n) => new Client(platform.api, await platform.token('customer', `c-${n}`)),
      ),
    );
    const running = Promise.all(clients.map((client, n) => holdUntil(isOver, client, random, `client-${n}`)));
    const walking = walkUps(isOver, random);

    const kills: [string, () => Promise<void>][] = [
      ['server', () => platform.server.killAndRestart()],
      ['projections', () => platform.projections.killAndRestart()],
      ['device-sim', () => platform.deviceSim?.killAndRestart() ?? Promise.resolve()],
      ['NATS', async () => void (platform.nats.pid !== undefined && process.kill(platform.nats.pid, 'SIGKILL'))],
      [
        'Postgres',
        async () => void (platform.postgres.pid !== undefined && process.kill(platform.postgres.pid, 'SIGKILL')),
      ],
      ['server again', () => platform.server.killAndRestart()],
    ];
    for (const [name, kill] of kills) {
      await Bun.sleep(PAUSE_BETWEEN_KILLS_MS);
      console.log(`kill -9: ${name}`);
      await kill();
    }
    await Bun.sleep(PAUSE_BETWEEN_KILLS_MS);
    over = true;
    const held = (await running).flat();
    await walking;
    console.log(`${held.length} holds were acknowledged`);
    expect(held.length).toBeGreaterThan(50);

    // Everything acknowledged stands in the log once, and nothing else of these customers does.
    const recorded = await eventually(
      async () => {
        const ids = (await allEvents('ReservationHeld')).map(
          ({ data }) => (data as { reservationId: string }).reservationId,
        );
        return held.every(({ id }) => ids.includes(id)) && ids;
      },
      { timeoutMs: RECOVERY_MS },
    );
    expect(new Set(recorded).size).toBe(recorded.length);
    expect(new Set(held.map(({ id }) => id)).size).toBe(held.length);
    expect(recorded.length).toBe(held.length);

    // No two reservations of one locker overlap.
    const holds = (await allEvents('ReservationHeld')).map(({ subject, position, recordedAt, data }) => ({
      place: String(subject),
      position,
      recordedAt,
      ...(data as { reservationId: string; from: string; until: string }),
    }));
    const overlapping = [...Map.groupBy(holds, ({ place }) => place).values()].flatMap((list) => {
      const sorted = list.toSorted((one, other) => one.from.localeCompare(other.from));
      return sorted.filter((hold, n) =>
        [sorted[n - 1], sorted[n + 1]].some((other) => other !== undefined && meets(hold, other)),
      );
    });
    expect(overlapping).toEqual([]);
  }, 170_000);

  test('and what the units logged is recorded once, in order, without a gap', async () => {
    const sim = new Client(platform.sim);
    const names = Array.from({ length: UNITS }, (_, n) => `PL-${1000 + n}`);
    for (const name of names) {
      const { epoch, lastSeq } = await eventually(
        async () => {
          const { log } = (await sim.get(`/units/${name}`)).body as {
            log: { epoch: string; lastSeq: number; recordedSeq: number };
          };
          return log.recordedSeq >= log.lastSeq && log;
        },
        { timeoutMs: RECOVERY_MS },
      );
      const seqs = await eventually(async () => {
        const events: Record<string, unknown>[] = [];
        for (let cursor = ''; ; ) {
          const page = await ops.get(`/v1/events?unit=${name}&limit=500${cursor === '' ? '' : `&cursor=${cursor}`}`);
          events.push(...items(page));
          if (page.body.nextCursor === null) break;
          cursor = String(page.body.nextCursor);
        }
        const own = events.filter(({ unitepoch }) => unitepoch === epoch).map(({ unitseq }) => Number(unitseq));
        return own.length >= lastSeq && own.reverse();
      });
      expect(seqs.slice(0, lastSeq)).toEqual(Array.from({ length: lastSeq }, (_, n) => n + 1));
    }
  }, 120_000);
});

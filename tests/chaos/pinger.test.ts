/**
 * Two pingers over units that come and go, one of them killed, paused and started again at random: every going and coming
 * stands in the log once, in turn, and nothing else does.
 */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { Client, items } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { seededRandom } from '../support/random.ts';

const UNITS = 12;
/** Those that come and go; the others are there all the time. */
const FLAPPING = 5;
const PING_INTERVAL_MS = 1_000;
const PING_TIMEOUT_MS = 800;
const FAILURES = 3;
/** The other pinger takes over the shards of a killed one after this time. */
const TAKEOVER_MS = 3_000;
/** How long units go offline and come back. `CHAOS_STORM_S=120` lets more of them flap. */
const STORM_MS = Number(process.env.CHAOS_STORM_S ?? 30) * 1_000;
/** How long a wrong transition may take to appear after the storm: a takeover, and then as many misses as make a unit offline. */
const SETTLE_MS = TAKEOVER_MS + (FAILURES + 2) * PING_INTERVAL_MS + PING_TIMEOUT_MS;
const WAIT = { timeoutMs: 60_000, intervalMs: 200 };

let platform: Platform;
let ops: Client;
let sim: Client;

beforeAll(async () => {
  const env = {
    PING_INTERVAL_MS: String(PING_INTERVAL_MS),
    PING_TIMEOUT_MS: String(PING_TIMEOUT_MS),
    PING_FAILURES_TO_OFFLINE: String(FAILURES),
    ROLES: 'api,ingest,fetch,reactor',
  };
  platform = await startPlatform({ purpose: 'chaos-pinger', units: UNITS, pingers: 2, env });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
  sim = new Client(platform.sim);
}, 120_000);

afterAll(() => platform.stop());

async function transitions(unit: string): Promise<string[]> {
  const events = items(await ops.get(`/v1/events?unit=${unit}&limit=200`)) as { type: string }[];
  return events.flatMap(({ type }) => (type.startsWith('UnitWent') ? [type] : [])).toReversed();
}

test(
  'the event log has exactly the transitions of the units while one of two pingers is killed and paused at random',
  async () => {
    expect(STORM_MS).toBeGreaterThan(0);
    const { next } = seededRandom();
    const [, frail] = platform.pingers;
    if (frail === undefined) throw new Error('there is one pinger only');
    const names = (items(await ops.get('/v1/units?limit=100')) as { name: string }[]).map(({ name }) => name);
    expect(names).toHaveLength(UNITS);
    const states = async () =>
      (items(await ops.get('/v1/units?limit=100')) as { state: string }[]).map(({ state }) => state);
    await eventually(async () => expect(await states()).toEqual(new Array<string>(UNITS).fill('online')), WAIT);

    let isOver = false;
    const befalling = (async () => {
      while (!isOver) {
        await Bun.sleep(500 + next() * 3_000);
        const how = Math.floor(next() * 3);
        if (how === 0) await frail.killAndRestart();
        if (how === 1) {
          frail.pause();
          await Bun.sleep(1_000 + next() * 5_000);
          frail.resume();
        }
      }
    })();
    const endsMs = performance.now() + STORM_MS;
    const expected = new Map(names.map((name) => [name, ['UnitWentOnline']]));
    const comingAndGoing = names.slice(0, FLAPPING).map(async (name) => {
      while (performance.now() < endsMs) {
        for (const offline of [true, false]) {
          await Bun.sleep(next() * 2_000);
          const answer = await sim.post(`/units/${name}/faults`, { offline });
          expect(answer.status).toBe(200);
          expected.get(name)?.push(offline ? 'UnitWentOffline' : 'UnitWentOnline');
          // The next change waits until the log has this one, however often the pingers are hit meanwhile.
          await eventually(
            async () => expect([name, await transitions(name)]).toEqual([name, expected.get(name) ?? []]),
            WAIT,
          );
        }
      }
    });
    await Promise.all(comingAndGoing);
    isOver = true;
    await befalling;
    await Bun.sleep(SETTLE_MS);

    for (const [name, wanted] of expected) expect([name, await transitions(name)]).toEqual([name, wanted]);
  },
  STORM_MS + 200_000,
);

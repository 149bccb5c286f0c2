/** `kill -9` of NATS, of the worker and of the units between and during pushes: the desired configuration arrives nevertheless. */

import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { configurationHash } from '../../domain/configuration/configuration-hash.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { ConfigurationValues } from '../../domain/configuration-values.ts';
import { type Answer, Client, items } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { type Platform, startPlatform } from '../support/platform.ts';
import { seededRandom } from '../support/random.ts';

const UNITS = 4;
const RETRY_S = [2, 4];
const ROUNDS = 5;
const RECOVERY = { timeoutMs: 60_000, intervalMs: 50 };
const FACTORY = defaultConfiguration(600).values;

let platform: Platform;
let ops: Client;
let sim: Client;

beforeAll(async () => {
  const env = { PING_INTERVAL_MS: '1000', PING_TIMEOUT_MS: '500', CONFIG_RETRY_SCHEDULE_S: RETRY_S.join(',') };
  platform = await startPlatform({ purpose: 'chaos-configuration', units: UNITS, env, durable: true });
  ops = new Client(platform.api, await platform.token('ops', 'operator'));
  sim = new Client(platform.sim);
  await eventually(async () => items(await ops.get('/v1/units?state=online')).length === UNITS, RECOVERY);
}, 120_000);

afterAll(() => platform.stop());

const killNats = () => void (platform.nats.pid !== undefined && process.kill(platform.nats.pid, 'SIGKILL'));
const configOf = (unit: string) => ops.get(`/v1/units/${unit}/config`);
const attemptsOf = async (unit: string) => items(await ops.get(`/v1/units/${unit}/config/attempts`)).toReversed();

/** Sends until it is answered for good. */
function put(unit: string, values: ConfigurationValues, mode: string, key: string): Promise<Answer> {
  return eventually(async () => {
    const headers = { 'idempotency-key': key };
    const answer = await ops.send('PUT', `/v1/units/${unit}/config`, { body: { mode, values }, headers });
    const isRunning = answer.body.type === '/problems/idempotency-key-reused';
    return answer.status < 500 && !isRunning && answer;
  }, RECOVERY);
}

function failedTimes(unit: string, attempts: number): Promise<Answer> {
  return eventually(async () => {
    const answer = await configOf(unit);
    return answer.body.status === 'failed' && answer.body.attempts === attempts && answer;
  }, RECOVERY);
}

describe('kill -9', () => {
  test('of NATS and the worker between attempts loses no attempt and repeats none', async () => {
    const unit = 'PL-1000';
    await sim.post(`/units/${unit}/faults`, { applying: 'fails' });
    const values = { ...FACTORY, minimumMinutes: 31 };
    expect((await put(unit, values, 'queued', 'between')).status).toBe(202);
    await failedTimes(unit, 1);
    killNats();
    await platform.server.killAndRestart();
    await failedTimes(unit, 2);
    await platform.server.kill();
    killNats();
    // The next attempt falls due while no server runs.
    await Bun.sleep((RETRY_S[1] ?? 0) * 1_000 + 1_000);
    platform.server.start();
    await failedTimes(unit, 3);
    await sim.post(`/units/${unit}/faults`, { applying: 'well' });
    await eventually(async () => (await configOf(unit)).body.status === 'applied', RECOVERY);
    const ofChange = (await attemptsOf(unit)).filter(({ version }) => version === 2);
    expect(ofChange.map(({ attempt }) => attempt)).toEqual([
      ...ofChange.slice(0, -1).map((_, index) => index + 1),
      null,
    ]);
    const times = ofChange.map(({ at }) => Date.parse(String(at)));
    for (const [index, waitS] of [...RETRY_S, RETRY_S[1] ?? 0].entries()) {
      expect((times[index + 1] ?? 0) - (times[index] ?? 0)).toBeGreaterThanOrEqual(waitS * 1_000 - 100);
    }
  }, 120_000);

  test('of units while they apply a configuration leaves each with either the old or the new one', async () => {
    const random = seededRandom();
    const units = Array.from({ length: UNITS - 1 }, (_, index) => `PL-${1001 + index}`);
    for (let round = 1; round <= ROUNDS; round += 1) {
      const texts = { en: Object.fromEntries(Array.from({ length: 80 }, (_, n) => [`t${n}`, `${round}`.repeat(400)])) };
      const values = { ...FACTORY, minimumMinutes: 30 + round, texts };
      const sending = Promise.all(units.map((unit) => put(unit, values, 'live', `round ${round} ${unit}`)));
      await Bun.sleep(random.below(60));
      await platform.deviceSim?.killAndRestart();
      await sending;
      const fleet = await eventually(async () => {
        const response = await fetch(`${platform.sim}/units`, { keepalive: false });
        return (await response.json()) as {
          name: string;
          configuration: { hash: string; values: ConfigurationValues };
        }[];
      }, RECOVERY);
      for (const { configuration } of fleet) {
        expect(configuration.hash).toBe(configurationHash(configuration.values));
      }
      for (const unit of units) {
        // The read model may still show the version before, which is applied too.
        await eventually(async () => {
          const { status, desired } = (await configOf(unit)).body as { status: string; desired: { hash: string } };
          return status === 'applied' && desired.hash === configurationHash(values);
        }, RECOVERY);
        const running = (await sim.get(`/units/${unit}`)).body.configuration;
        expect(running).toMatchObject({ hash: configurationHash(values) });
      }
    }
  }, 170_000);
});

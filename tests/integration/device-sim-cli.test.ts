import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Report } from '../../device-sim/scenarios/report.ts';
import { FleetStore, fleetStorePath } from '../../device-sim/store/fleet-store.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { type FieldPlatform, startFieldPlatform, startTestFleet } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';

const ROOT = resolve(import.meta.dir, '..', '..');

/** A run of more than ten seconds, as on a busy machine, prints its progress to stderr. */
const PROGRESS_LINES = /^\d+ s {2}.*\n/gm;

let platform: FieldPlatform;
beforeAll(async () => {
  platform = await startFieldPlatform();
});
afterAll(() => platform.stop());

async function sim(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number; out: string; errors: string }> {
  const child = Bun.spawn([process.execPath, join(ROOT, 'device-sim', 'cli.ts'), ...args], {
    env: {
      ...process.env,
      DATA_DIR: await temporaryFolder('device-sim-cli'),
      HTTP_PORT: new URL(platform.url).port,
      AUTH_JWT_SECRET: 's'.repeat(32),
      ...env,
    },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const [out, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, errors: errors.replace(PROGRESS_LINES, '') };
}

/** Pings every unit, and names all that it has pushed as recorded, as the pinger does, while `work` goes on. */
async function whilePinging<T>(work: () => Promise<T>): Promise<T> {
  const over = new AbortController();
  const pinging = (async () => {
    while (!over.signal.aborted) {
      for (const [name, address] of platform.registered) {
        const last = (await platform.inbox(name)).at(-1);
        const seq = last?.events.at(-1)?.seq;
        try {
          await platform.ping(
            { name, address },
            last === undefined || seq === undefined ? undefined : { epoch: last.epoch, seq },
          );
        } catch {
          // The simulator has not started or has ended, so the unit does not answer.
        }
      }
      await Bun.sleep(50);
    }
  })();
  try {
    return await work();
  } finally {
    over.abort();
    await pinging;
  }
}

test('runs a scenario, waits until everything is recorded, and reports', async () => {
  const args = ['--units', '3', '--lockers', '4', '--seed', '60', '--scenario', 'steady', '--duration', '4s', '--json'];
  const { code, out, errors } = await whilePinging(() => sim(args));
  expect(errors).toBe('');
  const report = JSON.parse(out) as Report;
  expect(report).toMatchObject({ scenario: 'steady', seed: 60, units: 3, durationMs: 4_000, ok: true, problems: [] });
  expect(report.events.recorded).toBe(report.events.produced);
  expect(report.push.p99Ms).toBeGreaterThan(0);
  expect(report.arrivals).toEqual([{ askedPerS: 0.3, reachedPerS: expect.any(Number) }]);
  expect(code).toBe(0);
}, 180_000);

test('without --seed, runs beside the fleet of ./run start on the same DATA_DIR', async () => {
  const dataDir = await temporaryFolder('device-sim-cli');
  const beside = await startTestFleet(platform, { storePath: fleetStorePath(dataDir, 70), seed: 70 });
  try {
    const args = ['--units', '1', '--lockers', '2', '--duration', '1s', '--json'];
    const { code, out, errors } = await whilePinging(() => sim(args, { DATA_DIR: dataDir, SIM_SEED: '70' }));
    expect({ code, errors }).toEqual({ code: 0, errors: '' });
    expect(JSON.parse(out) as Report).toMatchObject({ seed: 71, units: 1, ok: true });
    const again = await sim(['--seed', '70', '--units', '1'], { DATA_DIR: dataDir });
    expect(again.errors).toMatch(/^lockfleet: Another simulator has the store .* open\. .*--seed of \.\/run sim/);
    expect(again.code).toBe(1);
  } finally {
    await beside.stop();
  }
}, 180_000);

test('ends the faults that an earlier run has left in its store, and says so', async () => {
  const dataDir = await temporaryFolder('device-sim-cli');
  const left = await startTestFleet(platform, { storePath: fleetStorePath(dataDir, 72), seed: 72, units: 1 });
  await eventually(() => left.readiness().registered === 1);
  for (const unit of left.units.values()) await unit.setFaults({ offline: true });
  await left.stop();
  const args = ['--seed', '72', '--units', '1', '--duration', '1s', '--json'];
  const { code, out, errors } = await whilePinging(() => sim(args, { DATA_DIR: dataDir }));
  expect(errors).toContain('The scenario has ended the faults that an earlier run had left.');
  expect(JSON.parse(out) as Report).toMatchObject({ ok: true, problems: [] });
  expect(code).toBe(0);
}, 180_000);

test('ends with exit status 1 and says what to do when the platform refuses its token', async () => {
  platform.acceptsTokens = false;
  const { code, out, errors } = await sim(['--units', '1', '--seed', '61']);
  platform.acceptsTokens = true;
  expect(errors).toMatch(/^lockfleet: The platform at .* answered 401 .*Start the simulator with the DATA_DIR/);
  expect({ code, out }).toEqual({ code: 1, out: '' });
});

test('ends with exit status 1 in a DATA_DIR without keys beside a running platform, and makes no keys', async () => {
  platform.acceptsTokens = false;
  const dataDir = await temporaryFolder('device-sim-cli');
  const { code, out, errors } = await sim(['--units', '1', '--seed', '64'], { AUTH_JWT_SECRET: '', DATA_DIR: dataDir });
  platform.acceptsTokens = true;
  expect(errors).toMatch(/^lockfleet: The platform at .* answered 401 .*has no keys of a platform/);
  expect({ code, out, lines: errors.trim().split('\n').length }).toEqual({ code: 1, out: '', lines: 1 });
  expect(existsSync(join(dataDir, 'keys'))).toBe(false);
});

test('ends with exit status 1 and the reason when the platform refuses every unit', async () => {
  const refused = { status: 422, type: '/problems/validation', errors: [{ path: '/address', message: 'is denied' }] };
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: async (request) => {
      const lines = (await request.text()).trim().split('\n');
      return new Response(lines.map(() => `${JSON.stringify({ problem: refused })}\n`).join(''));
    },
  });
  try {
    const args = ['--units', '30', '--seed', '65', '--duration', '1s'];
    const { code, out, errors } = await sim(args, { HTTP_PORT: String(server.port) });
    const lines = errors.trim().split('\n');
    expect(lines.at(-1)).toMatch(/^lockfleet: The platform at .* has registered no unit\. .*\/address is denied/);
    // A line for each of the first 20 units, and one for all others.
    expect(lines.filter((line) => line.includes('cannot be registered'))).toHaveLength(21);
    expect({ code, out }).toEqual({ code: 1, out: '' });
  } finally {
    await server.stop(true);
  }
});

test('ends with exit status 1 where an identity provider signs the tokens', async () => {
  const env = { AUTH_JWT_SECRET: '', AUTH_JWKS_URL: 'https://identity.example/keys' };
  const { code, out, errors } = await sim(['--units', '1', '--seed', '62'], env);
  expect(errors).toMatch(/^lockfleet: The simulator cannot sign a token .*AUTH_JWKS_URL.*SIM_TOKEN/);
  expect({ code, out }).toEqual({ code: 1, out: '' });
});

test('ends with exit status 1 and says why when its fleet cannot start, as another simulator has the store open', async () => {
  const dataDir = await temporaryFolder('device-sim-cli');
  const store = FleetStore.open(fleetStorePath(dataDir, 63), (error) => {
    throw error;
  });
  try {
    const { code, out, errors } = await sim(['--units', '1', '--seed', '63'], { DATA_DIR: dataDir });
    expect(errors).toMatch(/^lockfleet: /);
    expect({ code, out }).toEqual({ code: 1, out: '' });
  } finally {
    store.close();
  }
});

describe('the simulator refuses the arguments', () => {
  const table = [
    { args: ['--scenario', 'doomsday'], says: /--scenario must be one of steady, rush-hour, blackout, not "doomsday"/ },
    { args: ['--units', '0'], says: /--units must be a whole number from 1/ },
    { args: ['--lockers', 'many'], says: /--lockers must be a whole number/ },
    { args: ['--duration', 'soon'], says: /--duration must be a time/ },
    { args: ['--frobnicate'], says: /frobnicate/ },
  ];
  for (const { args, says } of table) {
    test(args.join(' '), async () => {
      const { code, out, errors } = await sim(args);
      expect(errors).toMatch(says);
      expect(errors).toContain('usage: ./run sim');
      expect({ code, out }).toEqual({ code: 2, out: '' });
    });
  }
});

import { Database } from 'bun:sqlite';
import { afterAll, beforeAll, expect, test } from 'bun:test';
import { join, resolve } from 'node:path';
import type { Subprocess } from 'bun';
import { freePort } from '../../platform/process/ports.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { type FieldPlatform, startFieldPlatform } from '../support/device-sim.ts';
import { eventually } from '../support/eventually.ts';
import { seededRandom } from '../support/random.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const SEED = 50;
const CUSTOMER_PAUSE_MS = 5;
const UNITS = ['RI-1000', 'RI-1001', 'RI-1002'];
const KILLS = 4;

let platform: FieldPlatform;
beforeAll(async () => {
  platform = await startFieldPlatform();
});
afterAll(async () => {
  // A failed test leaves its simulators running.
  for (const child of children) child.kill('SIGKILL');
  await Promise.all([...children].map((child) => child.exited));
  await platform.stop();
});

const children = new Set<Subprocess>();

interface Simulator {
  readonly url: string;
  readonly firstLine: string;
  kill(signal: 'SIGKILL' | 'SIGTERM'): Promise<{ code: number | null; log: string }>;
}

/** The process of `./run start`, against the platform of this test. */
async function startSimulator(dataDir: string, changes: Record<string, string> = {}): Promise<Simulator> {
  const controlPort = freePort();
  const child = Bun.spawn([process.execPath, join(ROOT, 'device-sim', 'main.ts')], {
    cwd: ROOT,
    env: {
      ...process.env,
      DATA_DIR: dataDir,
      HTTP_PORT: new URL(platform.url).port,
      AUTH_JWT_SECRET: 's'.repeat(32),
      SIM_UNITS: String(UNITS.length),
      SIM_LOCKERS: '4',
      SIM_SEED: String(SEED),
      SIM_CONTROL_PORT: String(controlPort),
      SIM_CUSTOMERS: '0',
      ...changes,
    },
    stdout: 'pipe',
    stderr: 'pipe',
  });
  children.add(child);
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  const errors = new Response(child.stderr).text();
  if (value === undefined) throw new Error(`the simulator did not start: ${await errors}`);
  return {
    url: `http://127.0.0.1:${controlPort}`,
    firstLine: new TextDecoder().decode(value),
    kill: async (signal) => {
      child.kill(signal);
      await child.exited;
      await reader.cancel();
      return { code: child.exitCode, log: await errors };
    },
  };
}

interface Shown {
  readonly address: string;
  readonly lockers: readonly { readonly id: string; readonly door: string; readonly occupiedBy: string | null }[];
  readonly log: { readonly epoch: string; readonly lastSeq: number; readonly acknowledgedSeq: number };
}

async function show(simulator: Simulator, name: string): Promise<Shown> {
  return (await (await fetch(`${simulator.url}/units/${name}`)).json()) as Shown;
}

async function post(simulator: Simulator, path: string, body: object = {}): Promise<Response> {
  return fetch(`${simulator.url}${path}`, { method: 'POST', body: JSON.stringify(body), keepalive: false });
}

test('a simulator that is killed repeatedly while it pushes loses no event, and gives no seq to two events', async () => {
  const random = seededRandom();
  const dataDir = await temporaryFolder('device-sim-crash');
  const answered = new Map<string, Set<string>>(UNITS.map((name) => [name, new Set<string>()]));
  const epochs = new Map<string, string>();
  const seen = new Map<string, number>();

  for (let round = 0; round <= KILLS; round++) {
    const simulator = await startSimulator(dataDir);
    expect(simulator.firstLine).toBe('ready\n');
    for (const name of UNITS) {
      const { log } = await show(simulator, name);
      expect(epochs.get(name) ?? log.epoch).toBe(log.epoch);
      expect(log.lastSeq).toBeGreaterThan(seen.get(name) ?? 0);
      epochs.set(name, log.epoch);
      if (round === 0) await post(simulator, `/units/${name}/faults`, { duplicatePushes: true, jitterMs: 20 });
    }
    await eventually(async () => (await (await fetch(`${simulator.url}/readyz`)).text()).includes('"connected":3'));
    const stop = new AbortController();
    const customers = UNITS.map(async (name) => {
      while (!stop.signal.aborted) {
        try {
          const rented = await post(simulator, `/units/${name}/walk-up`, { minutes: 30 });
          if (!rented.ok) continue;
          const { locker, rentalId } = (await rented.json()) as { locker: string; rentalId: string };
          answered.get(name)?.add(rentalId);
          await post(simulator, `/units/${name}/lockers/${locker}/close`);
          await post(simulator, `/units/${name}/lockers/${locker}/give-back`);
          seen.set(name, (await show(simulator, name)).log.lastSeq);
          // No ingest empties the inbox. Without this pause a fast machine would fill it, and later pushes would never be acknowledged.
          await Bun.sleep(CUSTOMER_PAUSE_MS);
        } catch (error) {
          // The simulator was killed. The test checks only rentals that it had answered.
          if (!stop.signal.aborted) throw error;
        }
      }
    });
    if (round < KILLS) {
      await Bun.sleep(900 + random.below(400));
      stop.abort();
      await simulator.kill('SIGKILL');
      await Promise.all(customers);
    } else {
      stop.abort();
      await Promise.all(customers);
      for (const name of UNITS) await post(simulator, `/units/${name}/faults`, { duplicatePushes: false, jitterMs: 0 });
      for (const name of UNITS) {
        const { lastSeq } = (await show(simulator, name)).log;
        await eventually(async () => (await show(simulator, name)).log.acknowledgedSeq >= lastSeq);
        const contents = new Map<number, string>();
        for (const { epoch, events } of await platform.inbox(name)) {
          expect(epoch).toBe(epochs.get(name) ?? '');
          for (const event of events) {
            const text = JSON.stringify(event);
            expect(contents.get(event.seq) ?? text).toBe(text);
            contents.set(event.seq, text);
          }
        }
        expect([...contents.keys()].sort((a, b) => a - b)).toEqual(
          Array.from({ length: lastSeq }, (_, index) => index + 1),
        );
        const pushed = [...contents.values()].join('\n');
        for (const rentalId of answered.get(name) ?? []) expect(pushed).toContain(rentalId);
        expect(answered.get(name)?.size).toBeGreaterThan(KILLS);
      }
      const { code, log } = await simulator.kill('SIGTERM');
      expect(code).toBe(0);
      // A stop that is too slow says so, and ends the process with open connections.
      expect(log).not.toContain('ends with open connections');
      expect(log).not.toContain('did not stop cleanly');
    }
  }
}, 180_000);

test('a unit that was killed after it answered a command keeps the effect, and gives the same answer to a repeat', async () => {
  const dataDir = await temporaryFolder('device-sim-crash');
  const settings = { SIM_SEED: String(SEED + 1), SIM_UNITS: '1' };
  const name = 'RJ-1000';
  const first = await startSimulator(dataDir, settings);
  await eventually(async () => (await (await fetch(`${first.url}/readyz`)).text()).includes('"registered":1'));
  const { address, log } = await show(first, name);
  const command = {
    commandId: 'before-the-kill',
    expiresAt: new Date(Date.now() + 30_000).toISOString(),
    openLocker: { locker: 'A', reservationId: `${name}.r`, until: new Date(Date.now() + 60_000).toISOString() },
  };
  const answer = await platform.command({ name, address }, command);
  expect(answer.status).toBe('done');
  await first.kill('SIGKILL');

  const second = await startSimulator(dataDir, settings);
  const after = await show(second, name);
  expect(after.address).toBe(address);
  expect(after.lockers[0]).toMatchObject({ id: 'A', door: 'open', occupiedBy: `${name}.r` });
  // Two events of the command, and one of the restart.
  expect(after.log).toMatchObject({ epoch: log.epoch, lastSeq: log.lastSeq + 3 });
  expect(await platform.command({ name, address }, command)).toEqual(answer);
  expect((await show(second, name)).log.lastSeq).toBe(log.lastSeq + 3);
  await second.kill('SIGTERM');
});

test('a second simulator on an open store and a store of a later version are refused', async () => {
  const dataDir = await temporaryFolder('device-sim-crash');
  const settings = { SIM_SEED: String(SEED + 2), SIM_UNITS: '1' };
  const first = await startSimulator(dataDir, settings);
  await expect(startSimulator(dataDir, settings)).rejects.toThrow(
    /Another simulator has the store .* open.*choose another seed/,
  );
  await first.kill('SIGTERM');
  const store = new Database(join(dataDir, 'device-sim', `fleet-${SEED + 2}.sqlite`));
  store.run('pragma user_version = 99');
  store.close();
  await expect(startSimulator(dataDir, settings)).rejects.toThrow(/tables of version 99/);
});

test('simulated customers rent lockers with SIM_CUSTOMERS, and none does with SIM_CUSTOMERS=0', async () => {
  const dataDir = await temporaryFolder('device-sim-crash');
  const settings = { SIM_SEED: String(SEED + 3), SIM_UNITS: '1' };
  const rentedLockers = async (simulator: Simulator) =>
    (await show(simulator, 'RL-1000')).lockers.filter(({ occupiedBy }) => occupiedBy !== null).length;
  const withCustomers = await startSimulator(dataDir, { ...settings, SIM_CUSTOMERS: '60000' });
  await eventually(async () => (await rentedLockers(withCustomers)) === 4);
  await withCustomers.kill('SIGTERM');

  const withoutCustomers = await startSimulator(dataDir, {
    ...settings,
    SIM_SEED: String(SEED + 4),
    SIM_CUSTOMERS: '0',
  });
  // At the fastest rate, customers rent all four lockers in a fraction of this time.
  await Bun.sleep(1_500);
  expect(((await (await fetch(`${withoutCustomers.url}/units`)).json()) as Shown[])[0]?.log.lastSeq).toBe(1);
  await withoutCustomers.kill('SIGTERM');
});

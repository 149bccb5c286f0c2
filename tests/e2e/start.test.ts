/** `./run start` itself: it stops on a signal, and the next start on the same DATA_DIR resumes. */

import { afterEach, expect, test } from 'bun:test';
import { dirname, resolve } from 'node:path';
import { processIdentity } from '../../platform/process/identity.ts';
import { eachLine } from '../../platform/process/lines.ts';
import { freePort } from '../../platform/process/ports.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { Client, items, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { IdentityProvider, newKey, signTokenWith } from '../support/identity-provider.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const RUN = resolve(ROOT, 'run');
const WAIT = { timeoutMs: 120_000, intervalMs: 100 };

type Settings = Record<string, string>;

interface Session {
  readonly pid: number;
  readonly exited: Promise<number>;
}

const running: Session[] = [];

afterEach(async () => {
  for (const { pid, exited } of running.splice(0)) {
    if (processIdentity(pid) !== undefined) process.kill(pid, 'SIGTERM');
    await exited;
  }
});

async function settings(): Promise<Settings> {
  return {
    ...(process.env as Record<string, string>),
    PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
    DATA_DIR: await temporaryFolder('run-start'),
    HTTP_PORT: String(freePort()),
    SIM_CONTROL_PORT: String(freePort()),
    SIM_UNITS: '2',
    SIM_CUSTOMERS: '0',
  };
}

/** Runs `./run start`, and returns once it has printed `ready`. */
async function start(env: Record<string, string>): Promise<Session> {
  const child = Bun.spawn([RUN, 'start'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, errors]: [string[], string[]] = [[], []];
  const read = [eachLine(child.stdout, (line) => out.push(line)), eachLine(child.stderr, (line) => errors.push(line))];
  const exited = Promise.all([child.exited, ...read]).then(([code]) => code);
  const session = { pid: child.pid, exited };
  running.push(session);
  const isReady = () => out.includes(`ready http://127.0.0.1:${env.HTTP_PORT}`);
  const failed = exited.then((code) => {
    if (!isReady()) throw new Error(`./run start ended with status ${code}: ${errors.join('\n')}`);
  });
  await Promise.race([eventually(isReady, WAIT), failed]);
  return session;
}

/** Runs `./run start` that cannot start. @returns its exit status and what it wrote to standard error */
async function startFails(env: Record<string, string>): Promise<{ code: number; errors: string[] }> {
  const child = Bun.spawn([RUN, 'start'], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const errors: string[] = [];
  const exited = Promise.all([child.exited, eachLine(child.stderr, (line) => errors.push(line))]).then(
    ([code]) => code,
  );
  running.push({ pid: child.pid, exited });
  return { code: await exited, errors };
}

async function token(env: Record<string, string>, role: string, sub: string): Promise<string> {
  const child = Bun.spawn([RUN, 'token', '--role', role, '--sub', sub], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  return `Bearer ${(await child.stdout.text()).trim()}`;
}

test('after a stop by SIGINT, the next start on the same DATA_DIR has the units, their log and the reservations', async () => {
  const env = await settings();
  const api = `http://127.0.0.1:${env.HTTP_PORT}`;
  const first = await start(env);
  const ops = new Client(api, await token(env, 'ops', 'operator'));
  const alice = new Client(api, await token(env, 'customer', 'alice'));
  const registered = async () => {
    const list = await ops.get('/v1/units?limit=10');
    return items(list).map(({ name }) => name);
  };
  const wish = { unit: 'PL-1000', locker: 'A', ...period(60, 60) };
  const held = await alice.post('/v1/reservations', wish);
  expect(held.status).toBe(201);
  const id = text(held, 'id');
  const confirmed = await alice.post(`/v1/reservations/${id}/confirm`, { paymentReference: 'pay_1' });
  expect(confirmed.status).toBe(200);
  await eventually(async () => (await alice.get(`/v1/reservations/${id}`)).body.unitAck === 'accepted', WAIT);
  const { epoch } = (await ops.get('/v1/units/PL-1000')).body.log as { epoch: string };
  expect(await registered()).toEqual(['PL-1000', 'PL-1001']);
  process.kill(first.pid, 'SIGINT');
  expect(await first.exited).toBe(0);

  await start(env);
  expect((await ops.get('/readyz')).status).toBe(200);
  expect(await registered()).toEqual(['PL-1000', 'PL-1001']);
  expect((await alice.get(`/v1/reservations/${id}`)).body).toMatchObject({ id, status: 'confirmed', locker: 'A' });
  // The units went on with their logs, and the locker is still taken.
  expect((await ops.get('/v1/units/PL-1000')).body).toMatchObject({ state: 'online', log: { epoch } });
  expect(await alice.post('/v1/reservations', wish)).toMatchObject({ status: 409 });
}, 300_000);

test('with AUTH_JWKS_URL, the simulator registers its units with SIM_TOKEN, and without it the start ends with what to do', async () => {
  const provider = new IdentityProvider();
  try {
    const key = await newKey('first', 'ES256');
    provider.keys = [key];
    const env: Settings = { ...(await settings()), AUTH_JWKS_URL: provider.jwksUrl };
    const refused = await startFails(env);
    expect(refused.code).toBe(1);
    expect(refused.errors.at(-1)).toMatch(/^lockfleet: device-sim cannot run: .*AUTH_JWKS_URL.*Set SIM_TOKEN/);

    const authorization = await signTokenWith({ key, sub: 'operator', role: 'ops' });
    const first = await start({ ...env, SIM_TOKEN: authorization.slice('Bearer '.length) });
    const ops = new Client(`http://127.0.0.1:${env.HTTP_PORT}`, authorization);
    const made = await ops.post('/v1/api-keys', { name: 'simulator' });
    expect(made.status).toBe(201);
    process.kill(first.pid, 'SIGINT');
    expect(await first.exited).toBe(0);

    // Units that are registered need no token, and an API key registers a further one.
    const second = await start(env);
    process.kill(second.pid, 'SIGINT');
    expect(await second.exited).toBe(0);
    await start({ ...env, SIM_TOKEN: text(made, 'key'), SIM_UNITS: '3' });
    expect(items(await ops.get('/v1/units?limit=10'))).toHaveLength(3);
  } finally {
    await provider.stop();
  }
}, 300_000);

/** `./run start` itself: it stops on a signal, and the next start on the same DATA_DIR resumes. */

import { afterEach, expect, test } from 'bun:test';
import { dirname, resolve } from 'node:path';
import { processIdentity } from '../../platform/process/identity.ts';
import { eachLine } from '../../platform/process/lines.ts';
import { freePort } from '../../platform/process/ports.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { Client, items, period, text } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const RUN = resolve(ROOT, 'run');
const WAIT = { timeoutMs: 120_000, intervalMs: 100 };

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

async function token(env: Record<string, string>, role: string, sub: string): Promise<string> {
  const child = Bun.spawn([RUN, 'token', '--role', role, '--sub', sub], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  return `Bearer ${(await child.stdout.text()).trim()}`;
}

test('after a stop by SIGINT, the next start on the same DATA_DIR has the units, their log and the reservations', async () => {
  const port = String(freePort());
  const env = {
    ...(process.env as Record<string, string>),
    PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
    DATA_DIR: await temporaryFolder('run-start'),
    HTTP_PORT: port,
    SIM_CONTROL_PORT: String(freePort()),
    SIM_UNITS: '2',
    SIM_CUSTOMERS: '0',
  };
  const api = `http://127.0.0.1:${port}`;
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

import { afterEach, describe, expect, test } from 'bun:test';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { processIdentity } from '../../platform/process/identity.ts';
import { eachLine } from '../../platform/process/lines.ts';
import { freePort, isPortFree } from '../../platform/process/ports.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';

const PROGRAM = resolve(import.meta.dir, '..', 'support', 'fixture-platform', 'start.ts');
/** What the design promises for Ctrl-C. */
const MAX_STOP_MS = 10_000;
const READY_TIMEOUT_MS = 60_000;

interface Session {
  readonly pid: number;
  readonly httpPort: number;
  readonly out: string[];
  readonly errors: string[];
  readonly exited: Promise<number>;
}

interface About {
  readonly pid: number;
  readonly natsUrl: string;
  readonly natsCreds: string;
  readonly databaseUrl: string;
}

const running: Session[] = [];

afterEach(async () => {
  for (const session of running.splice(0)) {
    if (processIdentity(session.pid) !== undefined) process.kill(session.pid, 'SIGTERM');
    await session.exited;
  }
});

/** Starts the fixture platform on a folder, as `./run start` would. */
function start(dataDir: string, env: Readonly<Record<string, string>> = {}): Session {
  const httpPort = Number(env.HTTP_PORT ?? freePort());
  const child = Bun.spawn([process.execPath, '--no-env-file', PROGRAM], {
    env: {
      ...process.env,
      ...{ DATA_DIR: dataDir, HTTP_PORT: String(httpPort), SIM_CONTROL_PORT: '0', SIM_UNITS: '3' },
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const out: string[] = [];
  const errors: string[] = [];
  const ended = Promise.all([
    child.exited,
    eachLine(child.stdout, (line) => out.push(line)),
    eachLine(child.stderr, (line) => errors.push(line)),
  ]);
  const session = { pid: child.pid, httpPort, out, errors, exited: ended.then(([code]) => code) };
  running.push(session);
  return session;
}

async function started(dataDir: string, env: Readonly<Record<string, string>> = {}): Promise<Session> {
  const session = start(dataDir, env);
  const isReady = () => session.out.includes(`ready http://127.0.0.1:${session.httpPort}`);
  const ended = session.exited.then((code) => {
    if (!isReady()) throw new Error(`the session ended with code ${code}: ${session.errors.join('\n')}`);
  });
  await Promise.race([eventually(isReady, { timeoutMs: READY_TIMEOUT_MS }), ended]);
  return session;
}

async function about(session: Session): Promise<About> {
  const answer = await fetch(`http://127.0.0.1:${session.httpPort}/about`, { keepalive: false });
  return (await answer.json()) as About;
}

async function stopped(session: Session, signal: NodeJS.Signals): Promise<number> {
  const before = performance.now();
  process.kill(session.pid, signal);
  const code = await session.exited;
  expect(performance.now() - before).toBeLessThan(MAX_STOP_MS);
  return code;
}

/** The first of two neighbours, below those that connections are given. */
function twoFreePorts(): number {
  for (let port = 20_000; port < 30_000; port += 2) {
    if (isPortFree('127.0.0.1', port) && isPortFree('127.0.0.1', port + 1)) return port;
  }
  throw new Error('this machine has no two free ports side by side');
}

const dataFolder = async () => join(await temporaryFolder('start'), 'data with blanks');

describe('a session', () => {
  test('prints that it is ready and how to get a token, and stops in order', async () => {
    const dataDir = await dataFolder();
    const session = await started(dataDir);
    const block = await eventually(() => session.out.length === 6 && session.out);
    const api = block[0]?.replace(/^ready /, '') ?? '';
    expect(api).toStartWith('http://127.0.0.1:');
    expect(block.slice(1).map((line) => line.trim().split(/ {2,}/))).toEqual([
      ['API', `${api}/v1`],
      ['Swagger', `${api}/swagger`],
      ['AsyncAPI', `${api}/asyncapi`],
      ['simulator', expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/units$/)],
      ['token', `DATA_DIR='${dataDir}' ./run token --role customer --sub alice`, '(or --role ops)'],
    ]);
    expect(session.errors.every((line) => line.startsWith('{') && JSON.parse(line).process !== undefined)).toBe(true);
    const { natsUrl, natsCreds, databaseUrl } = await about(session);
    expect(await readFile(natsCreds, 'utf8')).toContain('BEGIN NATS USER JWT');
    expect(natsUrl).toStartWith('nats://127.0.0.1:');
    expect(databaseUrl).toStartWith('postgres://');
    expect(await stopped(session, 'SIGINT')).toBe(0);
    expect(await readFile(join(dataDir, 'stops.txt'), 'utf8')).toBe('device-sim\nserver\nprojections\n');
  });

  test('gives each program that has metrics a port of its own, and refuses a port in use', async () => {
    const port = twoFreePorts();
    const session = await started(await dataFolder(), { METRICS_PORT: String(port) });
    const says = async (at: number) => (await fetch(`http://127.0.0.1:${at}/`, { keepalive: false })).text();
    expect(await eventually(() => says(port))).toBe('server');
    expect(await eventually(() => says(port + 1))).toBe('projections');
    const second = start(await dataFolder(), { METRICS_PORT: String(port) });
    expect(await second.exited).toBe(2);
    expect(second.errors.join('\n')).toContain(`METRICS_PORT ${port} on 127.0.0.1`);
    expect(second.errors.join('\n')).toContain(`such as METRICS_PORT=${port + 11} ./run start`);
    expect(await stopped(session, 'SIGTERM')).toBe(0);
  });

  test('starts a crashed program again', async () => {
    const session = await started(await dataFolder());
    const { pid } = await about(session);
    process.kill(pid, 'SIGKILL');
    const again = await eventually(() => about(session));
    expect(again.pid).not.toBe(pid);
    expect(await stopped(session, 'SIGTERM')).toBe(0);
  });

  test('refuses a second one on the same folder in one line', async () => {
    const dataDir = await dataFolder();
    const first = await started(dataDir);
    const second = start(dataDir);
    expect(await second.exited).toBe(2);
    expect(second.errors).toEqual([
      `lockfleet: A platform runs on DATA_DIR ${dataDir} already (process ${first.pid}). Stop it, or set another DATA_DIR.`,
    ]);
  });

  test('replaces a killed one, and ends its children', async () => {
    const dataDir = await dataFolder();
    const first = await started(dataDir);
    const { pid, databaseUrl } = await about(first);
    process.kill(first.pid, 'SIGKILL');
    await eventually(() => processIdentity(first.pid) === undefined);
    const second = await started(dataDir, { HTTP_PORT: String(first.httpPort) });
    const now = await about(second);
    expect(now.pid).not.toBe(pid);
    expect(new URL(now.databaseUrl).password).toBe(new URL(databaseUrl).password);
    expect(processIdentity(pid)).toBeUndefined();
  });

  test('names the ports that are in use', async () => {
    const first = await started(await dataFolder());
    const second = start(await dataFolder(), { HTTP_PORT: String(first.httpPort) });
    expect(await second.exited).toBe(2);
    expect(second.errors.join('\n')).toContain(`Another program uses HTTP_PORT ${first.httpPort} on 127.0.0.1`);
  });

  test('lists every wrong setting', async () => {
    const session = start(await dataFolder(), { PING_TIMEOUT_MS: 'many', SIM_UNITS: '-1' });
    expect(await session.exited).toBe(2);
    expect(session.errors.join('\n')).toContain('PING_TIMEOUT_MS must be');
    expect(session.errors.join('\n')).toContain('SIM_UNITS must be');
  });

  test('starts no service that the settings name, and no fleet', async () => {
    const services = await started(await dataFolder());
    const { natsUrl, natsCreds, databaseUrl } = await about(services);
    const dataDir = await dataFolder();
    const session = await started(dataDir, {
      NATS_URL: natsUrl,
      NATS_CREDS: natsCreds,
      DATABASE_URL: databaseUrl,
      SIM_UNITS: '0',
    });
    expect(await about(session)).toEqual({ pid: expect.any(Number), natsUrl, natsCreds, databaseUrl });
    expect(await stopped(session, 'SIGTERM')).toBe(0);
    expect(await readFile(join(dataDir, 'stops.txt'), 'utf8')).toBe('server\nprojections\n');
  });

  test('that is stopped while it starts leaves no process behind', async () => {
    const session = start(await dataFolder());
    await eventually(() => session.errors.some((line) => line.includes('making a Postgres cluster')));
    expect(await stopped(session, 'SIGINT')).toBe(0);
    expect(session.out).toEqual([]);
  });
});

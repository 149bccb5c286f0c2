import { afterAll, beforeAll, expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { eachLine } from '../../platform/process/lines.ts';
import { freePort } from '../../platform/process/ports.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { eventually } from '../support/eventually.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const START_TIMEOUT_MS = 60_000;
const READ_MODELS = ['bookings', 'configuration', 'daily_summary', 'event_log', 'reservations', 'units'];

let dataDir: string;
let platform: Bun.Subprocess<'ignore', 'pipe', 'ignore'>;
const said: string[] = [];

/** The environment of a terminal: only `DATA_DIR` names the platform. */
function environment(): Record<string, string> {
  const { PATH = '', HOME = '', TMPDIR } = process.env;
  return { PATH, HOME, DATA_DIR: dataDir, ...(TMPDIR === undefined ? {} : { TMPDIR }) };
}

/** `./run projections ARGS`, without any setting that names a service. */
async function projections(...args: readonly string[]) {
  const child = Bun.spawn([process.execPath, '--no-env-file', 'projections/cli.ts', ...args], {
    cwd: ROOT,
    env: environment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [out, errors, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { out, errors, exitCode };
}

beforeAll(async () => {
  dataDir = await temporaryFolder('projections-cli');
  platform = Bun.spawn([process.execPath, '--no-env-file', 'commands/start.ts'], {
    cwd: ROOT,
    env: { ...environment(), HTTP_PORT: String(freePort()), SIM_UNITS: '0' },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  void eachLine(platform.stdout, (line) => said.push(line));
  await eventually(() => expect(said.join('\n')).toContain('http://'), { timeoutMs: START_TIMEOUT_MS });
}, START_TIMEOUT_MS + 10_000);

afterAll(async () => {
  platform.kill('SIGTERM');
  await platform.exited;
}, 30_000);

test('beside ./run start, status, rebuild and verify need no settings', async () => {
  const status = await projections('status');
  expect(status).toMatchObject({ errors: '', exitCode: 0 });
  const [, ...rows] = status.out.trimEnd().split('\n');
  expect(rows.map((row) => row.split(/\s+/)[0])).toEqual(READ_MODELS);
  expect(rows.every((row) => row.includes('serving'))).toBeTrue();
  expect(await projections('rebuild', 'units')).toMatchObject({ errors: '', exitCode: 0 });
  expect(await projections('verify', 'units')).toMatchObject({ errors: '', exitCode: 0 });
  expect(await projections('parked', 'units')).toMatchObject({ errors: '', exitCode: 0 });
}, 60_000);

test('the file with the database password is readable by its owner only, and is deleted when the platform stops', async () => {
  const file = join(dataDir, 'run', 'services.json');
  expect(((await stat(file)).mode & 0o777).toString(8)).toBe('600');
  platform.kill('SIGTERM');
  expect(await platform.exited).toBe(0);
  expect(existsSync(file)).toBeFalse();
  expect(await projections('status')).toEqual({
    out: '',
    errors: `The platform of DATA_DIR ${dataDir} is not running. Start it with ./run start, or set NATS_URL and DATABASE_URL.\n`,
    exitCode: 1,
  });
}, 60_000);

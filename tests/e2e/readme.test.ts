/** The README's shell blocks run as they stand, in their order and in one shell, against a real platform. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdir, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { temporaryFolder } from '../support/cleanup.ts';
import { Client, items } from '../support/client.ts';
import { eventually } from '../support/eventually.ts';
import { type Platform, startPlatform } from '../support/platform.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const SLOW = 120_000;
const UNITS = 3;

let platform: Platform;
let steps: readonly Step[];

/** One command of a block and what it wrote to standard output. */
interface Step {
  readonly command: string;
  readonly output: string;
}

beforeAll(async () => {
  platform = await startPlatform({ purpose: 'readme', units: UNITS });
  const ops = new Client(platform.api, await platform.token('ops', 'operator'));
  // The blocks read the state of a unit once; a reader of the README starts them later than this test does.
  const areOnline = async () => items(await ops.get('/v1/units?state=online')).length === UNITS;
  await eventually(areOnline, { timeoutMs: 30_000 });
  steps = await runBlocks(await shellBlocks());
}, SLOW);

afterAll(() => platform.stop());

async function shellBlocks(): Promise<string[]> {
  const readme = await Bun.file(join(ROOT, 'README.md')).text();
  return [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block = '']) => block);
}

/** Commands of a block: a line goes on while its quotes are open. */
function commandsOf(block: string): string[] {
  const commands: string[] = [];
  let open = '';
  for (const line of block.split('\n')) {
    open = open === '' ? line : `${open}\n${line}`;
    const quotes = open.replaceAll('\\"', '');
    const isOpen =
      count(quotes.replaceAll(/"[^"]*"/g, ''), "'") % 2 === 1 ||
      count(quotes.replaceAll(/'[^']*'/g, ''), '"') % 2 === 1;
    if (isOpen) continue;
    if (open.trim() !== '' && !open.startsWith('#')) commands.push(open);
    open = '';
  }
  return commands;
}

const count = (text: string, letter: string) => text.split(letter).length - 1;

/** Runs all commands in one `sh`, which marks where the output of each begins. */
async function runBlocks(blocks: readonly string[]): Promise<Step[]> {
  const commands = blocks.flatMap(commandsOf);
  const mark = '-----next command-----';
  const script = ['set -eu', ...commands.flatMap((command) => [`echo; echo '${mark}'`, command])].join('\n');
  const child = Bun.spawn(['sh', '-c', script], {
    cwd: ROOT,
    env: {
      PATH: await pathWithNode(),
      HOME: process.env.HOME,
      API: platform.api,
      SIM: platform.sim,
      DATA_DIR: platform.dataDir,
      NATS_URL: platform.nats.url,
      NATS_CREDS: join(platform.dataDir, 'keys', 'platform.creds'),
      DATABASE_URL: platform.postgres.url,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: SLOW,
  });
  const [code, out, errors] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  const outputs = out.split(`\n${mark}\n`).slice(1);
  if (code !== 0) throw new Error(`${commands[outputs.length - 1]}\nended with status ${code}: ${errors}`);
  return commands.map((command, index) => ({ command, output: outputs[index] ?? '' }));
}

/** The README asks for Node or Bun: where there is no Node, Bun takes its name. */
async function pathWithNode(): Promise<string> {
  const bun = resolve(process.execPath, '..');
  const path = `${bun}:${process.env.PATH}`;
  if (Bun.which('node', { PATH: path }) !== null) return path;
  const folder = join(await temporaryFolder('node'), 'bin');
  await mkdir(folder);
  await symlink(process.execPath, join(folder, 'node'));
  return `${folder}:${path}`;
}

function outputOf(part: string): string {
  const step = steps.find(({ command }) => command.includes(part));
  if (step === undefined) throw new Error(`The README has no command with ${part}.`);
  return step.output;
}

const answerTo = (part: string) => JSON.parse(outputOf(part));

test('a customer holds, confirms, opens, closes and ends a reservation', () => {
  expect(answerTo('echo "$FREE"').items.length).toBeGreaterThan(0);
  expect(answerTo('echo "$HELD"')).toMatchObject({ unit: 'PL-1000', status: 'held' });
  expect(answerTo('/confirm')).toMatchObject({ status: 'confirmed', accessCode: expect.any(String) });
  expect(answerTo('/open"')).toMatchObject({ result: 'opened' });
  expect(answerTo('/close"')).toEqual({ locker: answerTo('echo "$HELD"').locker });
  expect(answerTo('/end"')).toMatchObject({ status: 'completed' });
});

test('an operator reads units, events, summaries, forecasts, the pinger and projections', () => {
  expect(answerTo('units?limit=1').items).toHaveLength(1);
  expect(answerTo('units/PL-1000" ')).toMatchObject({ name: 'PL-1000', state: 'online' });
  expect(answerTo('events?unit=PL-1000').items.length).toBeGreaterThan(5);
  expect(outputOf('text/csv')).toStartWith('position,recordedAt,');
  expect(answerTo('daily-summary').items).toBeArray();
  expect(answerTo('state?at=')).toMatchObject({ forecast: true });
  expect(answerTo('/v1/pinger')).toMatchObject({ unwatched: [] });
  expect(outputOf('projections status')).toContain('event_log');
});

test('the unit in the README has the same fields as in the API', async () => {
  const readme = await Bun.file(join(ROOT, 'README.md')).text();
  const [, row = '{}'] = /```json\n([\s\S]*?)```/.exec(readme) ?? [];
  expect(Object.keys(JSON.parse(row))).toEqual(Object.keys(answerTo('units?limit=1').items[0]));
});

test('an operator changes the prices of a unit and of the fleet', () => {
  expect(answerTo('-X PUT')).toMatchObject({ status: 'applied' });
  expect(answerTo('units/PL-1001/config"\n'.trim())).toMatchObject({ unit: 'PL-1001' });
  expect(answerTo('minimumMinutes":30')).toMatchObject({ status: 'running' });
  expect(answerTo('config-rollouts?limit=1').items).toHaveLength(1);
});

test('an operator registers a unit and gets its credentials', () => {
  expect(answerTo('"lockers')).toMatchObject({ credentials: { natsCreds: expect.any(String) } });
  expect(answerTo('dead-letters')).toEqual({ items: [], nextCursor: null });
});

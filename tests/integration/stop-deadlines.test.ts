/** Processes of which a part does not stop: each ends by its deadline, with an error that names the part. */

import { afterAll, beforeAll, expect, test } from 'bun:test';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { freePort } from '../../platform/process/ports.ts';
import { temporaryFolder } from '../support/cleanup.ts';
import { testPlatform } from '../support/nats.ts';
import { freshDatabase } from '../support/services.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const HANGING_CLOSE = join(ROOT, 'tests', 'support', 'hanging-close.ts');
const SETUP_TIMEOUT_MS = 60_000;
/** A process starts within seconds and ends by its deadline of at most 15 s. */
const TEST_TIMEOUT_MS = 120_000;

let env: Record<string, string>;
const running = new Set<Bun.Subprocess>();

beforeAll(async () => {
  const [platform, url] = await Promise.all([testPlatform(), freshDatabase()]);
  const creds = join(await temporaryFolder('stop-deadlines'), 'platform.creds');
  await writeFile(creds, platform.creds);
  env = {
    NATS_URL: platform.url,
    NATS_CREDS: creds,
    DATABASE_URL: url,
    DATA_DIR: platform.dataDir,
    LOG_FORMAT: 'json',
    PATH: process.env.PATH ?? '',
  };
}, SETUP_TIMEOUT_MS);

afterAll(async () => {
  for (const child of running) child.kill('SIGKILL');
  await Promise.all([...running].map((child) => child.exited));
});

/** Starts a process, sends it a signal when it works, and waits for its end. */
async function stopped(program: string, isReady: (output: string) => boolean, signal: NodeJS.Signals) {
  const child = Bun.spawn([process.execPath, '--preload', HANGING_CLOSE, program], {
    cwd: ROOT,
    env: { ...env, HTTP_PORT: String(freePort()) },
    stdout: 'pipe',
    stderr: 'pipe',
  });
  running.add(child);
  void child.exited.then(() => running.delete(child));
  let output = '';
  let isSignalled = false;
  const follow = async (stream: ReadableStream<Uint8Array>) => {
    for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
      output += chunk;
      if (isSignalled || !isReady(output)) continue;
      isSignalled = true;
      child.kill(signal);
    }
  };
  await Promise.all([follow(child.stdout), follow(child.stderr)]);
  const exitCode = await child.exited;
  const lines = output.split('\n').filter((line) => line.startsWith('{'));
  const errors = lines.map((line) => JSON.parse(line)).filter(({ level }) => level === 'error');
  return { exitCode, error: errors.at(-1) };
}

const isReadyLine = (output: string) => /^ready$/m.test(output);

test.each([
  ['server', 'it is asked to stop', 'SIGTERM', (output: string) => output.includes('The API listens.'), '15 s'],
  ['pinger', 'its connection to NATS is lost for good', 'SIGUSR2', isReadyLine, '10 s'],
  ['projections', 'its connection to NATS is lost for good', 'SIGUSR2', isReadyLine, '10 s'],
] as const)(
  'the process %s ends by its deadline after %s',
  async (name, _, signal, isReady, deadline) => {
    const { exitCode, error } = await stopped(`${name}/main.ts`, isReady, signal);
    expect(exitCode).toBe(1);
    expect(error).toMatchObject({
      message: expect.stringContaining(`The process did not stop within ${deadline}`),
      running: 'the connection to NATS',
    });
  },
  TEST_TIMEOUT_MS,
);

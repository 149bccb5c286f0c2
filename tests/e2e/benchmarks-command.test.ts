/** `./run bench`: usage errors, and the end of its processes when it is killed. */

import { describe, expect, test } from 'bun:test';
import { markedProcesses } from '../../commands/test/leftover-processes.ts';
import { commandLine } from '../../platform/process/identity.ts';
import { BENCH_MAIN, runBench, startBench } from '../bench/bench-command.ts';
import { eventually } from '../support/eventually.ts';

const STOP_TIMEOUT_MS = 40_000;

describe('usage errors', () => {
  test.each([
    { args: ['reserv'], message: /^there is no benchmark reserv; there are append, .*, start$/ },
    { args: ['--fast'], message: /^there is no option --fast; there are --json, --smoke, --units=N, --steady-s=S$/ },
    { args: ['pinger', '--units=0'], message: /^--units= takes a whole number from 1 to 999999, not '0'$/ },
    { args: ['pinger', '--steady-s=soon'], message: /^--steady-s= takes a whole number from 1 to 999999, not 'soon'$/ },
  ])('$args is refused with status 2', async ({ args, message }) => {
    const { stdout, stderr, status } = await runBench(...args, '--json');
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr.trim()).toMatch(message);
  });
});

describe('a benchmark whose platform runs', () => {
  async function startedBench() {
    const id = crypto.randomUUID();
    const child = startBench(['start', '--smoke'], { BENCH_UNDER_TEST: id });
    const processes = () => markedProcesses(`BENCH_UNDER_TEST=${id}`);
    const runs = (script: string) => processes().some((pid) => commandLine(pid)?.includes(script) === true);
    await eventually(() => runs('nats-server') && runs('server/main.ts'), { timeoutMs: 60_000 });
    return { child, processes };
  }

  test('stops all processes at SIGTERM and exits with 143', async () => {
    const { child, processes } = await startedBench();
    child.kill('SIGTERM');
    expect(await child.exited).toBe(143);
    expect(processes()).toEqual([]);
  });

  test('stops all processes after SIGKILL has ended the supervising process', async () => {
    const { child, processes } = await startedBench();
    child.kill('SIGKILL');
    await child.exited;
    await eventually(() => processes().length === 0, { timeoutMs: STOP_TIMEOUT_MS });
    expect(processes()).toEqual([]);
  });

  test('stops all processes after SIGKILL has ended the parent of the supervising process', async () => {
    const id = crypto.randomUUID();
    const shell = Bun.spawn(['sh', '-c', '"$0" "$@"; exit $?', process.execPath, BENCH_MAIN, 'start', '--smoke'], {
      env: { ...process.env, BENCH_UNDER_TEST: id },
      stdio: ['ignore', 'ignore', 'ignore'],
    });
    const processes = () => markedProcesses(`BENCH_UNDER_TEST=${id}`);
    await eventually(() => processes().some((pid) => commandLine(pid)?.includes('nats-server') === true), {
      timeoutMs: 60_000,
    });
    shell.kill('SIGKILL');
    await shell.exited;
    expect(processes().length).toBeGreaterThan(0);
    await eventually(() => processes().length === 0, { timeoutMs: STOP_TIMEOUT_MS });
    expect(processes()).toEqual([]);
  });
});

/** `./run test` and its parts, on small test files that these tests write. */

import { afterAll, describe, expect, test } from 'bun:test';
import { cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type GroupOptions, runGroup } from '../../commands/test/run-group.ts';
import { eventually } from '../support/eventually.ts';

const ROOT = resolve(import.meta.dir, '..', '..');
const LIMITS = { testTimeoutMs: 5_000, processTimeoutMs: 30_000 };
const folders: string[] = [];
let runs = 0;

afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true }))));

/** A folder with these test files; each body can use `test` and `expect`. */
async function filesWith(bodies: Readonly<Record<string, string>>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'lockfleet-runner-'));
  folders.push(root);
  for (const [path, body] of Object.entries(bodies)) {
    await Bun.write(join(root, path), `import { afterAll, expect, test } from 'bun:test';\n${body}\n`);
  }
  return root;
}

async function run(bodies: Readonly<Record<string, string>>, changes: Partial<GroupOptions> = {}) {
  const root = await filesWith(bodies);
  const printed: string[] = [];
  runs += 1;
  const result = await runGroup({
    kind: LIMITS,
    files: Object.keys(bodies),
    root,
    workDir: join(root, 'work'),
    mark: `LOCKFLEET_RUNNER_UNDER_TEST=${process.pid}/${runs}/`,
    env: process.env,
    write: (line) => printed.push(line),
    signal: new AbortController().signal,
    ...changes,
  });
  return { ...result, printed, root };
}

const GOOD = "test('good', () => expect(1).toBe(1));";

describe('one process for a group of files', () => {
  test('counts the results of its report, and prints the output of the test runner', async () => {
    const bodies = { 'a.test.ts': `${GOOD}\ntest('bad', () => expect(1).toBe(2));`, 'b.test.ts': GOOD };
    const { totals, problems, printed, secondsByFile, root } = await run(bodies);
    expect(totals).toEqual({ passed: 2, failed: 1, skipped: 0 });
    expect(problems).toEqual([]);
    expect(printed.some((line) => line.startsWith('(fail) bad'))).toBe(true);
    expect([...secondsByFile.keys()].sort()).toEqual(['a.test.ts', 'b.test.ts']);
    expect(await readdir(root)).not.toContain('work');
  }, 30_000);

  test('names the test in which the process died, and runs the remaining files in another process', async () => {
    const dying = `${GOOD}\ntest('dies', () => process.kill(process.pid, 'SIGKILL'));\ntest('never runs', () => undefined);`;
    const { totals, problems } = await run({ 'a.test.ts': GOOD, 'b.test.ts': dying, 'c.test.ts': GOOD });
    expect(totals).toEqual({ passed: 3, failed: 1, skipped: 0 });
    expect(problems).toEqual([
      'b.test.ts: the test runner ended (signal SIGKILL) in the test "dies"; 1 tests after it did not run',
    ]);
  }, 30_000);

  test('keeps the results when the process was killed while it wrote its report', async () => {
    const dying = `${GOOD}\ntest('dies', async () => {
      await Bun.write(process.env.TMPDIR + '/report.xml', '<testsuites tests="2"><testsuite');
      process.kill(process.pid, 'SIGKILL');
    });`;
    const { totals, problems } = await run({ 'a.test.ts': dying, 'b.test.ts': GOOD });
    expect(totals).toEqual({ passed: 2, failed: 1, skipped: 0 });
    expect(problems).toEqual(['a.test.ts: the test runner ended (signal SIGKILL) in the test "dies"']);
  }, 30_000);

  test('names the test that blocks the process longer than the limit', async () => {
    const hanging = `${GOOD}\ntest('hangs', () => { for (;;); });`;
    const kind = { testTimeoutMs: 500, processTimeoutMs: 3_000 };
    const { totals, problems } = await run({ 'a.test.ts': hanging }, { kind });
    expect(totals).toEqual({ passed: 1, failed: 1, skipped: 0 });
    expect(problems).toEqual(['a.test.ts: the test runner ended (limit of 3 s) in the test "hangs"']);
  }, 30_000);

  test('counts a process that a test left behind as a failure', async () => {
    const leaving = `test('leaves', () => { Bun.spawn(['sleep', '97'], { stdio: ['ignore', 'inherit', 'inherit'] }).unref(); });`;
    const { totals, problems } = await run({ 'a.test.ts': leaving });
    expect(totals).toEqual({ passed: 1, failed: 1, skipped: 0 });
    expect(problems).toEqual([expect.stringMatching(/^a\.test\.ts left a process behind: \d+ sleep 97$/)]);
  }, 30_000);

  test('fails for a file that does not load', async () => {
    const { totals } = await run({ 'a.test.ts': GOOD, 'b.test.ts': "throw new Error('does not load');" });
    expect(totals.passed).toBe(1);
    expect(totals.failed).toBeGreaterThan(0);
  }, 30_000);

  test('starts no process when the run was interrupted before', async () => {
    const traced = "test('traces', () => Bun.write('ran', ''));";
    const { totals, problems, root } = await run({ 'a.test.ts': traced }, { signal: AbortSignal.abort() });
    expect({ totals, problems }).toEqual({ totals: { passed: 0, failed: 0, skipped: 0 }, problems: [] });
    expect(await readdir(root)).toEqual(['a.test.ts']);
  }, 30_000);

  test('starts no further process after an interruption', async () => {
    const stop = new AbortController();
    const dying = "test('dies', () => process.kill(process.pid, 'SIGKILL'));";
    const write = (line: string) => line === 'a.test.ts:' && stop.abort();
    const { totals } = await run({ 'a.test.ts': dying, 'b.test.ts': GOOD }, { signal: stop.signal, write });
    expect(totals.passed).toBe(0);
  }, 30_000);
});

/** A checkout with the real commands and the given test files. */
async function checkoutWith(bodies: Readonly<Record<string, string>>): Promise<string> {
  const root = await filesWith(bodies);
  await mkdir(join(root, 'tests'), { recursive: true });
  for (const folder of ['commands', 'platform', 'domain', 'package.json', 'tsconfig.json']) {
    await cp(join(ROOT, folder), join(root, folder), { recursive: true });
  }
  for (const folder of ['node_modules', '.toolchain']) await symlink(join(ROOT, folder), join(root, folder));
  return root;
}

function startRun(root: string, ...filters: string[]) {
  return Bun.spawn([process.execPath, join(root, 'commands', 'test.ts'), ...filters], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

describe('./run test', () => {
  test('prints the slowest files and then the totals of all kinds', async () => {
    const root = await checkoutWith({
      'tests/unit/a.test.ts': GOOD,
      'tests/unit/deep/b.test.ts': `${GOOD}\ntest.skip('skipped', () => undefined);`,
      'tests/contract/c.test.ts': "test('bad', () => expect(1).toBe(2));",
    });
    const child = startRun(root);
    const [printed, code] = await Promise.all([child.stdout.text(), child.exited]);
    expect(code).toBe(1);
    expect(printed.trimEnd().split('\n').at(-1)).toBe('2 passed, 1 failed, 1 skipped');
    expect(printed).toMatch(/slowest files of 3, \d+ s in all:/);
    expect(printed).toMatch(/\d\.\d s {2}tests\/contract\/c\.test\.ts/);
  }, 60_000);

  test('fails when no test matches the filter', async () => {
    const child = startRun(await checkoutWith({ 'tests/unit/a.test.ts': GOOD }), 'nothing-of-this-name');
    const [printed, code] = await Promise.all([child.stdout.text(), child.exited]);
    expect(code).toBe(1);
    expect(printed).toContain('no test ran with that filter');
    expect(printed.trimEnd().split('\n').at(-1)).toBe('0 passed, 0 failed');
  }, 30_000);

  test('ends its processes after SIGINT, starts no other, and exits with 130', async () => {
    const slow = (name: string) =>
      `test('slow', async () => { await Bun.write(process.env.TRACES + '/${name}', String(process.pid)); await Bun.sleep(60_000); }, 90_000);`;
    const root = await checkoutWith({ 'tests/contract/a.test.ts': slow('a'), 'tests/contract/b.test.ts': slow('b') });
    const traces = join(root, 'traces');
    await mkdir(traces);
    const child = Bun.spawn([process.execPath, join(root, 'commands', 'test.ts')], {
      cwd: root,
      env: { ...process.env, TRACES: traces },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const runnerPid = await eventually(async () => Number(await Bun.file(join(traces, 'a')).text()) || false, {
      timeoutMs: 20_000,
    });
    child.kill('SIGINT');
    expect(await child.exited).toBe(130);
    expect(await readdir(traces)).toEqual(['a']);
    expect(() => process.kill(runnerPid, 0)).toThrow();
  }, 60_000);
});

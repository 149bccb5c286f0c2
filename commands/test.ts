import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ensureNatsServer } from '../platform/embedded/nats-server-binary.ts';
import { errorMessage } from '../platform/observability/error-message.ts';
import { endLeftProcesses } from './test/left-processes.ts';
import { addTotals, type JunitReport, judgeRun, NO_TESTS, readJunit, summary, type Totals } from './test/report.ts';

interface Kind {
  readonly name: string;
  /** Of one test; a test may set its own. */
  readonly timeoutMs: number;
  /** Of all tests of the kind together: a runner that hangs is ended. */
  readonly totalMs: number;
}

const MINUTE_MS = 60_000;
const KINDS: readonly Kind[] = [
  { name: 'unit', timeoutMs: 10_000, totalMs: 3 * MINUTE_MS },
  { name: 'contract', timeoutMs: 30_000, totalMs: 3 * MINUTE_MS },
  { name: 'integration', timeoutMs: 60_000, totalMs: 6 * MINUTE_MS },
  { name: 'e2e', timeoutMs: 120_000, totalMs: 7 * MINUTE_MS },
  { name: 'chaos', timeoutMs: 180_000, totalMs: 7 * MINUTE_MS },
];
/** What ends by itself after the runner, ends within this. */
const LEFT_PROCESS_GRACE_MS = 3_000;
const EXIT_INTERRUPTED = 130;
const MARK_VARIABLE = 'LOCKFLEET_TEST_RUN';
/** Settings of a platform that runs for real must not reach the tests. */
const SETTINGS = /^(HTTP|NATS|DATABASE|AUTH|PING|PINGER|CONFIG|FETCH|HOLD|SIM|METRICS)_|^(DATA_DIR|SHARDS|ROLES)$/;

const root = resolve(import.meta.dir, '..');
const filters = process.argv.slice(2);
const run = randomUUID();
const mark = `${MARK_VARIABLE}=${run}`;
/** Reports, and everything that tests put into a temporary folder: it goes, however they end. */
const workDir = await mkdtemp(join(tmpdir(), 'lockfleet-test-'));
// The account that runs Postgres for root must get in.
await chmod(workDir, 0o755);

const removeWorkDir = () => rm(workDir, { recursive: true, force: true });

async function filesOf(kind: Kind): Promise<string[]> {
  const files = await Array.fromAsync(new Bun.Glob(`tests/${kind.name}/**/*.test.ts`).scan({ cwd: root }));
  return files.filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter))).sort();
}

async function runKind(kind: Kind, files: readonly string[]): Promise<Totals> {
  const reportFile = join(workDir, `${kind.name}.xml`);
  console.log(`\n── ${kind.name}: ${files.length} ${files.length === 1 ? 'file' : 'files'}\n`);
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !SETTINGS.test(name)));
  const runner = Bun.spawn(
    [
      ...[process.execPath, '--no-env-file', 'test', `--timeout=${kind.timeoutMs}`],
      ...['--reporter=junit', `--reporter-outfile=${reportFile}`],
      ...files.map((file) => `./${file}`),
    ],
    {
      cwd: root,
      env: { ...env, [MARK_VARIABLE]: run, TMPDIR: workDir },
      stdio: ['ignore', 'inherit', 'inherit'],
      timeout: kind.totalMs,
      killSignal: 'SIGKILL',
    },
  );
  await runner.exited;
  const { totals, complaints } = judgeRun(files, await readReport(reportFile), runner.exitCode);
  const left = await endLeftProcesses(mark, LEFT_PROCESS_GRACE_MS);
  for (const complaint of complaints) console.log(`(fail) ${kind.name}: ${complaint}`);
  for (const name of left) console.log(`(fail) ${kind.name}: a test left a process behind: ${name}`);
  return addTotals(totals, { ...NO_TESTS, failed: left.length });
}

async function readReport(path: string): Promise<JunitReport | undefined> {
  const file = Bun.file(path);
  return (await file.exists()) ? readJunit(await file.text()) : undefined;
}

async function runAll(): Promise<Totals> {
  const plan = await Promise.all(KINDS.map(async (kind) => ({ kind, files: await filesOf(kind) })));
  // Fetched before the tests, so that no test waits for the network.
  if (plan.some(({ kind, files }) => kind.name !== 'unit' && files.length > 0)) {
    await ensureNatsServer({ path: process.env.PATH, toolchainDir: resolve(root, '.toolchain'), log: console.error });
  }
  let totals = NO_TESTS;
  for (const { kind, files } of plan) {
    if (files.length > 0) totals = addTotals(totals, await runKind(kind, files));
  }
  return totals;
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, async () => {
    await endLeftProcesses(mark, 0);
    await removeWorkDir();
    process.exit(EXIT_INTERRUPTED);
  });
}

let totals = NO_TESTS;
try {
  totals = await runAll();
  if (totals.passed + totals.failed === 0) console.log(`\nno test ran${filters.length > 0 ? ' with that filter' : ''}`);
} catch (error) {
  console.error(`lockfleet: ${errorMessage(error)}`);
  totals = addTotals(totals, { ...NO_TESTS, failed: 1 });
} finally {
  await removeWorkDir();
}
console.log(`\n${summary(totals)}`);
process.exit(totals.failed > 0 || totals.passed === 0 ? 1 : 0);

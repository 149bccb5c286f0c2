import { readdir } from 'node:fs/promises';
import { resolve } from 'node:path';

interface Step {
  readonly name: string;
  /** Returns the text of the problems that the step found; undefined when it found none. */
  readonly run: () => Promise<string | undefined>;
}

const MAX_FILE_LINES = 400;
/** A tool that runs longer is taken to hang, and is ended. */
const TOOL_TIMEOUT_MS = 300_000;
const CODE_FOLDERS = ['commands', 'device-sim', 'domain', 'pinger', 'platform', 'projections', 'server', 'tests'];

const root = resolve(import.meta.dir, '..');

/** Runs a tool of the locked dependencies under Bun, so that no Node is needed. */
function tool(name: string, ...args: string[]): Step['run'] {
  return async () => {
    const child = Bun.spawn([process.execPath, '--bun', '--silent', 'run', name, ...args], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TOOL_TIMEOUT_MS,
    });
    const [code, out, errors] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
    return code === 0 ? undefined : `${out}${errors}`.trim() || `ended with exit code ${code}`;
  };
}

/** dependency-cruiser refuses folders that do not exist. */
async function codeFolders(): Promise<string[]> {
  const present = new Set(await readdir(root));
  return CODE_FOLDERS.filter((name) => present.has(name));
}

/**
 * dependency-cruiser warns when it finds no TypeScript compiler that it supports, although it then reads the code with another
 * parser. The warning is cut off.
 */
async function brokenImportRules(): Promise<string | undefined> {
  const cruise = tool('depcruise', '--config', '.dependency-cruiser.cjs', ...(await codeFolders()));
  return (await cruise())?.split('‼ missing-tsc-transpiler')[0]?.trimEnd();
}

async function tooLongFiles(): Promise<string | undefined> {
  const files = await Array.fromAsync(new Bun.Glob(`{${CODE_FOLDERS.join(',')}}/**/*.ts`).scan({ cwd: root }));
  const lengths = await Promise.all(
    files.map(async (file) => ({ file, lines: (await Bun.file(resolve(root, file)).text()).split('\n').length - 1 })),
  );
  const tooLong = lengths.filter(({ lines }) => lines > MAX_FILE_LINES);
  const problems = tooLong.map(({ file, lines }) => `${file} has ${lines} lines; at most ${MAX_FILE_LINES}`);
  return problems.length === 0 ? undefined : problems.sort().join('\n');
}

const steps: readonly Step[] = [
  { name: 'format and lint (biome)', run: tool('biome', 'check', '--error-on-warnings', '.') },
  { name: 'types (tsc)', run: tool('tsc', '--noEmit', '--project', '.') },
  { name: 'dead code (knip)', run: tool('knip', '--no-progress') },
  {
    name: 'import rules (dependency-cruiser)',
    run: brokenImportRules,
  },
  { name: 'file length', run: tooLongFiles },
];

const results = await Promise.all(steps.map(async ({ name, run }) => ({ name, problems: await run() })));
for (const { name, problems } of results) {
  if (problems !== undefined) console.log(`── ${name}\n\n${problems}\n`);
}
const failed = results.filter(({ problems }) => problems !== undefined).map(({ name }) => name);
console.log(failed.length === 0 ? `check: all ${steps.length} passed` : `check: failed: ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;

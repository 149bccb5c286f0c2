/** `./run mutants`: a mutant that the tests notice counts, and wrong arguments are refused. */

import { expect, test } from 'bun:test';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dir, '..', '..');

async function mutants(...args: readonly string[]) {
  const child = Bun.spawn([process.execPath, join(ROOT, 'tests', 'mutants', 'main.ts'), ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [code, out, errors] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
  return { code, out, errors };
}

test('mutants of a file are tested by the tests that reach it', async () => {
  const { code, out } = await mutants('booking/price', '--sample', '3', '--seed', '1');
  expect(out).toMatch(/^3 of 3 mutants noticed \(100\.0 %\), drawn from \d+ with seed 1\.$/m);
  expect(code).toBe(0);
}, 60_000);

test('a sample size that is not a number is refused', async () => {
  const { code, errors } = await mutants('--sample', 'many');
  expect(code).toBe(2);
  expect(errors).toContain('usage: ./run mutants');
});

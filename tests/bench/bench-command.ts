/** `./run bench` as a child process of a test. */

import { expect } from 'bun:test';
import { resolve } from 'node:path';
import type { BenchReport } from './report.ts';

export const BENCH_MAIN = resolve(import.meta.dir, 'main.ts');
const SMOKE_CONDITION = 'smoke sizes: these figures say nothing about speed';
/** Figures that count failures, or are the difference of two measurements: they may be zero, the difference also less. */
const MAY_BE_ZERO = /^falsely offline$|timers that wait/;

export function startBench(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return Bun.spawn([process.execPath, BENCH_MAIN, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

export async function runBench(...args: string[]) {
  const child = startBench(args);
  const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, status };
}

/** Runs a benchmark at its smoke size. Its standard output must be a JSON report with sound figures and conditions. */
export async function expectSmokeReport(name: string): Promise<void> {
  const { stdout, stderr, status } = await runBench(name, '--smoke', '--json');
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  const reports = JSON.parse(stdout) as BenchReport[];
  expect(reports.map(({ bench }) => bench)).toEqual([name]);
  for (const { conditions, figures } of reports) {
    expect(conditions[0]).toBe(SMOKE_CONDITION);
    expect(conditions.length).toBeGreaterThan(1);
    expect(figures.length).toBeGreaterThan(0);
    expect(figures.flatMap((figure) => defectsOf(figure))).toEqual([]);
  }
  expect(stderr).not.toContain('left a process running');
}

/** JSON has no NaN and no infinity: such a figure is null in the report. */
function defectsOf({ name, unit, value, against }: BenchReport['figures'][number]): string[] {
  const isPositive = (figure: unknown) => typeof figure === 'number' && figure > 0;
  const isSound = MAY_BE_ZERO.test(name) ? typeof value === 'number' : isPositive(value);
  return [
    ...(isSound ? [] : [`${name}: ${value} ${unit}`]),
    ...(against === undefined || isPositive(against.value)
      ? []
      : [`${name}: against ${against.name} ${against.value}`]),
  ];
}

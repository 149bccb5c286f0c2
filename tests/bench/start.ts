/** `start`: from `./run start` to `ready` with 50 units, on a new data folder and on the same one again. */

import { resolve } from 'node:path';
import { freePort } from '../../platform/process/ports.ts';
import { atTheEnd, temporaryFolder } from '../support/cleanup.ts';
import type { BenchReport, Figure } from './report.ts';

const GOAL_S = 10;
const TIMEOUT_MS = 120_000;

export interface StartScale {
  readonly units: number;
}

export const START_SCALES = {
  full: { units: 50 },
  smoke: { units: 2 },
} as const satisfies Record<string, StartScale>;

const root = resolve(import.meta.dir, '..', '..');

export async function benchStart({ units }: StartScale): Promise<BenchReport> {
  const dataDir = await temporaryFolder('bench-start');
  const figures: Figure[] = [];
  for (const name of ['a new data folder', 'the same data folder again']) {
    figures.push({
      name: `ready, ${name}`,
      value: await secondsToReady(dataDir, units),
      unit: 's',
      goal: { atMost: GOAL_S },
    });
  }
  return {
    bench: 'start',
    conditions: [`${units} simulated units, toolchain there, embedded NATS and Postgres`],
    figures,
  };
}

async function secondsToReady(dataDir: string, units: number): Promise<number> {
  const start = performance.now();
  const child = Bun.spawn([resolve(root, 'run'), 'start'], {
    env: {
      ...process.env,
      DATA_DIR: dataDir,
      HTTP_PORT: String(freePort()),
      SIM_CONTROL_PORT: String(freePort()),
      SIM_UNITS: String(units),
    },
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: TIMEOUT_MS,
  });
  // SIGTERM stops the platform in order; its processes would outlive a kill.
  atTheEnd(async () => {
    child.kill('SIGTERM');
    await child.exited;
  });
  let output = '';
  let seconds = Number.NaN;
  for await (const chunk of child.stdout) {
    output += new TextDecoder().decode(chunk);
    if (Number.isNaN(seconds) && /^ready http/m.test(output)) {
      seconds = (performance.now() - start) / 1_000;
      child.kill('SIGTERM');
    }
  }
  await child.exited;
  if (Number.isNaN(seconds)) throw new Error('./run start did not become ready');
  return seconds;
}

/**
 * `./run bench [NAME] [--json] [--units=N] [--steady-s=S]`: benchmarks, each beside its peer or ceiling from the same run. How many
 * units there are, and for how long they are watched, are those of `pinger`.
 */

import { runCleanups } from '../support/cleanup.ts';
import { benchAppend } from './append.ts';
import { benchConfig } from './config.ts';
import { benchIngest } from './ingest.ts';
import { benchPinger, FULL_SCALE } from './pinger.ts';
import { benchPingerPeers } from './pinger-peers.ts';
import { benchProjections } from './projections.ts';
import { type BenchReport, format } from './report.ts';
import { benchReserve } from './reserve.ts';
import { benchStart } from './start.ts';

const MS_PER_S = 1_000;

class UsageError extends Error {
  override readonly name = 'UsageError';
}

const BENCHES: Readonly<Record<string, (args: readonly string[]) => Promise<BenchReport>>> = {
  append: benchAppend,
  config: () => benchConfig(),
  ingest: () => benchIngest(),
  pinger: (args) =>
    benchPinger({
      ...FULL_SCALE,
      units: numberOf(args, '--units=') ?? FULL_SCALE.units,
      steadyMs: (numberOf(args, '--steady-s=') ?? FULL_SCALE.steadyMs / MS_PER_S) * MS_PER_S,
    }),
  'pinger-peers': () => benchPingerPeers(),
  projections: benchProjections,
  reserve: benchReserve,
  start: benchStart,
};

/** @throws UsageError when it is there and no positive whole number */
function numberOf(args: readonly string[], option: string): number | undefined {
  const value = args.find((arg) => arg.startsWith(option))?.slice(option.length);
  if (value !== undefined && !/^[1-9]\d{0,5}$/.test(value))
    throw new UsageError(`${option} takes a number, not ${value}`);
  return value === undefined ? undefined : Number(value);
}

async function run(args: readonly string[]): Promise<number> {
  const json = args.includes('--json');
  const names = args.filter((arg) => !arg.startsWith('--'));
  const unknown = names.filter((name) => !(name in BENCHES));
  if (unknown.length > 0) {
    console.error(`there is no benchmark ${unknown.join(', ')}; there are ${Object.keys(BENCHES).join(', ')}`);
    return 2;
  }
  const reports: BenchReport[] = [];
  try {
    for (const [name, bench] of Object.entries(BENCHES)) {
      if (names.length > 0 && !names.includes(name)) continue;
      const report = await bench(args);
      reports.push(report);
      if (!json) console.log(format(report));
    }
    if (json) console.log(JSON.stringify(reports, undefined, 2));
    return 0;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(error.message);
    return 2;
  } finally {
    for (const failure of await runCleanups()) console.error(failure);
  }
}

process.exit(await run(process.argv.slice(2)));

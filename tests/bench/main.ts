/** `./run bench [NAME] [--json]`: benchmarks, each beside its peer or ceiling from the same run. */

import { runCleanups } from '../support/cleanup.ts';
import { benchAppend } from './append.ts';
import { benchIngest } from './ingest.ts';
import { benchPinger } from './pinger.ts';
import { benchProjections } from './projections.ts';
import { type BenchReport, format } from './report.ts';
import { benchReserve } from './reserve.ts';
import { benchStart } from './start.ts';

const BENCHES: Readonly<Record<string, () => Promise<BenchReport>>> = {
  append: benchAppend,
  ingest: () => benchIngest(),
  pinger: () => benchPinger(),
  projections: benchProjections,
  reserve: benchReserve,
  start: benchStart,
};

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
      const report = await bench();
      reports.push(report);
      if (!json) console.log(format(report));
    }
    if (json) console.log(JSON.stringify(reports, undefined, 2));
    return 0;
  } finally {
    for (const failure of await runCleanups()) console.error(failure);
  }
}

process.exit(await run(process.argv.slice(2)));

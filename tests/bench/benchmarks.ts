/** The benchmarks by name, each with its sizes. */

import { APPEND_SCALES, benchAppend } from './append.ts';
import { benchConfig, CONFIG_SCALES } from './config.ts';
import { benchIngest, INGEST_SCALES } from './ingest.ts';
import { benchPinger, PINGER_SCALES } from './pinger.ts';
import { benchPingerPeers, PINGER_PEERS_SCALES } from './pinger-peers.ts';
import { benchProjections, PROJECTIONS_SCALES } from './projections.ts';
import type { BenchReport } from './report.ts';
import { benchReserve, RESERVE_SCALES } from './reserve.ts';
import { benchStart, START_SCALES } from './start.ts';

const MS_PER_S = 1_000;

/** `full` measures. `smoke` runs the same code at the smallest size, and its figures say nothing about speed. */
export type BenchSize = 'full' | 'smoke';

export interface BenchOptions {
  readonly size: BenchSize;
  /** Units of `pinger`, instead of those of its size. */
  readonly units?: number;
  /** Seconds for which `pinger` measures its steady state, instead of those of its size. */
  readonly steadyS?: number;
}

type Benchmark = (options: BenchOptions) => Promise<BenchReport>;

export const BENCHMARKS: Readonly<Record<string, Benchmark>> = {
  append: ({ size }) => benchAppend(APPEND_SCALES[size]),
  config: ({ size }) => benchConfig(CONFIG_SCALES[size]),
  ingest: ({ size }) => benchIngest(INGEST_SCALES[size]),
  pinger: ({ size, units, steadyS }) =>
    benchPinger({
      ...PINGER_SCALES[size],
      ...(units === undefined ? {} : { units }),
      ...(steadyS === undefined ? {} : { steadyMs: steadyS * MS_PER_S }),
    }),
  'pinger-peers': ({ size }) => benchPingerPeers(PINGER_PEERS_SCALES[size]),
  projections: ({ size }) => benchProjections(PROJECTIONS_SCALES[size]),
  reserve: ({ size }) => benchReserve(RESERVE_SCALES[size]),
  start: ({ size }) => benchStart(START_SCALES[size]),
};

/** The smoke runs of the benchmarks of the pinger, the projections and the start. */

import { test } from 'bun:test';
import { expectSmokeReport } from '../bench/bench-command.ts';

test.each(['pinger', 'pinger-peers', 'projections', 'start'])(
  '%s reports figures and conditions as JSON, and nothing else on standard output',
  (name) => expectSmokeReport(name),
);

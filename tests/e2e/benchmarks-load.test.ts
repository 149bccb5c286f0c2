/** The smoke runs of the benchmarks that generate load on the API, ingest and the event store. */

import { test } from 'bun:test';
import { expectSmokeReport } from '../bench/bench-command.ts';

test.each(['append', 'config', 'ingest', 'reserve'])(
  '%s reports figures and conditions as JSON, and nothing else on standard output',
  (name) => expectSmokeReport(name),
);

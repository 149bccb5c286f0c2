/** The documents name only metrics that a process has. */

import { expect, test } from 'bun:test';
import { resolve } from 'node:path';
import { Glob } from 'bun';
import { pingerMetrics } from '../../../pinger/telemetry/pinger-metrics.ts';
import { ParkedWorkStore } from '../../../platform/parked-work/parked-work-store.ts';
import type { Sql } from '../../../platform/postgres/connection.ts';
import { projectionMetrics } from '../../../projections/engine/metrics.ts';
import { TelemetryLosses } from '../../../projections/telemetry/telemetry-losses.ts';
import { ResponseMetrics } from '../../../server/http/response-metrics.ts';
import { unlimitedAdmission } from '../../support/budgets.ts';
import { silentLog } from '../../support/silent-log.ts';

const ROOT = resolve(import.meta.dir, '..', '..', '..');
/** The metric of `Metrics` itself. */
const OWN = ['lockfleet_source_failed'];
const METRIC = /\blockfleet_[a-z0-9_]+\b/g;
/** A metric in a list, of which only the end is written: `…_events_applied_total`. */
const ENDING = /…(_[a-z0-9_]+)/g;

// Names are all that is read, so no source is asked for values.
const sql = undefined as unknown as Sql;
const sources = [
  pingerMetrics(() => {
    throw new Error('no pinger runs');
  }),
  new ParkedWorkStore(sql).metrics(),
  projectionMetrics(sql, async () => 0, { served: {}, built: {}, add: () => undefined }),
  new TelemetryLosses({ log: silentLog, monotonic: () => 0 }).metrics(),
  new ResponseMetrics(),
  unlimitedAdmission().metrics(),
];
const registered = [
  ...OWN,
  ...sources.flatMap(({ families }) => Object.keys(families).map((name) => `lockfleet_${name}`)),
];

test('every metric that a document names exists', async () => {
  const unknown: string[] = [];
  let named = 0;
  const files = ['*.md', 'docs/**/*.md'].flatMap((pattern) => [...new Glob(pattern).scanSync(ROOT)]);
  for (const file of files) {
    const text = await Bun.file(resolve(ROOT, file)).text();
    for (const [name] of text.matchAll(METRIC)) {
      named += 1;
      if (!registered.includes(name)) unknown.push(`${file}: ${name}`);
    }
    for (const [, ending = ''] of text.matchAll(ENDING))
      if (!registered.some((name) => name.endsWith(ending))) unknown.push(`${file}: …${ending}`);
  }
  expect(named).toBeGreaterThan(5);
  expect(unknown).toEqual([]);
});

test('no two sources have a metric of the same name, and counters end in _total', () => {
  expect(new Set(registered).size).toBe(registered.length);
  for (const { families } of sources) {
    for (const [name, { type }] of Object.entries(families))
      expect([name, name.endsWith('_total')]).toEqual([name, type === 'counter']);
  }
});

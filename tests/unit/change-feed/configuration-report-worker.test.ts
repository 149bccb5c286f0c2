import { expect, test } from 'bun:test';
import { newUnitState } from '../../../domain/unit/unit.ts';
import type { UnitChanges } from '../../../platform/change-feed/subscription.ts';
import { createLog } from '../../../platform/observability/log.ts';
import {
  type ConfigurationReport,
  createReportStep,
  FIRST_RECHECK_MS,
  MAX_RECHECK_MS,
} from '../../../server/workers/configuration/configuration-report-worker.ts';

/** Units whose report differs, a feed, and the reports that were recorded by each step. */
function world() {
  const model = new Map<string, ConfigurationReport>();
  const recorded: string[] = [];
  const reads: string[][] = [];
  const state = { nowMs: 0, isAway: false };
  let changes: UnitChanges = 'all';
  const step = createReportStep({
    decider: {
      decide: async (unit: string) => {
        recorded.push(unit);
        return { sequence: 0, state: newUnitState(unit), appended: true };
      },
    },
    async readReports(query) {
      if (state.isAway) throw new Error('the database is away');
      if ('names' in query) reads.push([...query.names]);
      return [...model.values()].filter(({ name }) => !('names' in query) || query.names.includes(name));
    },
    changes: {
      get hasChanges() {
        return changes === 'all' || changes.size > 0;
      },
      take: () => {
        const taken = changes;
        changes = new Set();
        return taken;
      },
      putBack: (returned) => {
        changes = returned;
      },
      close: () => undefined,
    },
    owns: (unit) => unit !== 'FOREIGN',
    newId: () => 'id',
    monotonic: () => state.nowMs,
    signal: new AbortController().signal,
    sleep: async () => undefined,
    log: createLog(
      () => undefined,
      () => 0,
    ),
  });
  const change = (report: ConfigurationReport) => {
    model.set(report.name, report);
    if (changes !== 'all') changes = new Set([...changes, report.name]);
  };
  const run = async (nowMs: number) => {
    state.nowMs = nowMs;
    recorded.length = 0;
    await step();
    return [...recorded];
  };
  return { model, reads, state, change, run };
}

const report = (name: string, isConclusive: boolean): ConfigurationReport => ({
  name,
  hash: 'h',
  atMs: 1,
  isConclusive,
});

test('a conclusive report is recorded once, an inconclusive one and one of a unit of another process are not', async () => {
  const { change, run } = world();
  for (const each of [report('A', true), report('B', false), report('FOREIGN', true)]) change(each);
  expect(await run(0)).toEqual(['A']);
  expect(await run(1_000)).toEqual([]);
  change(report('C', true));
  expect(await run(2_000)).toEqual(['C']);
});

test('a unit with drift is read again with exponential backoff until the drift is gone', async () => {
  const { model, change, reads, run } = world();
  change(report('B', false));
  await run(0);
  const readAtS: number[] = [];
  for (let s = 1; s <= 200; s += 1) {
    reads.length = 0;
    await run(s * 1_000);
    if (reads.length > 0) readAtS.push(s);
  }
  expect(FIRST_RECHECK_MS).toBe(5_000);
  expect(MAX_RECHECK_MS).toBe(60_000);
  expect(readAtS).toEqual([5, 15, 35, 75, 135, 195]);
  model.set('B', report('B', true));
  expect(await run(255_000)).toEqual(['B']);
  model.delete('B');
  reads.length = 0;
  await run(400_000);
  expect(reads).toEqual([['B']]);
  await run(600_000);
  expect(reads).toEqual([['B']]);
});

test('a unit whose change could not be read is read again by the next step', async () => {
  const { state, change, run } = world();
  await run(0);
  change(report('A', true));
  state.isAway = true;
  await expect(run(1_000)).rejects.toThrow('away');
  state.isAway = false;
  expect(await run(2_000)).toEqual(['A']);
});

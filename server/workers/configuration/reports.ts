/**
 * Hears what units say that they run. Pings and heartbeats tell it, and the read model says which of them tell something else
 * than is believed; the unit is folded before anything is recorded. That a unit runs another configuration than the wanted one
 * is an event, and makes the worker push again; that it runs the wanted one proves a push whose answer got lost.
 */

import { recordReportedHash } from '../../../domain/configuration/delivery.ts';
import { chunksOf } from '../../../platform/batching/chunks-of.ts';
import { errorMessage } from '../../../platform/observability/error-message.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';

/** Units are dealt between processes by shards of so many letters. */
export const REPORT_SHARD_LETTERS = 2;
/** Pause between two looks at the read model. A look that takes long makes it longer, so that little time goes into looking. */
const LOOK_INTERVAL_MS = 1_000;
const LOOK_DUTY = 20;
/** Units in one page of the read model. */
const MAX_REPORTS_PER_PAGE = 1_000;
/** Units that are decided on at once. */
const MAX_DECISIONS_UNDER_WAY = 64;

export interface Report {
  readonly unit: string;
  /** Of the configuration that it runs, whole or its first letters. */
  readonly hash: string;
  /** When it said so, milliseconds since 1970. */
  readonly atMs: number;
}

export interface ReportOptions {
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** Reports that contradict what is believed, in the order of the units' names, after one; fewer than `limit` are the last. */
  readonly reports: (afterName: string | undefined, limit: number) => Promise<readonly Report[]>;
  /** Whether this process decides on that unit. */
  readonly owns: (unit: string) => boolean;
  readonly newId: () => string;
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` ends it. */
export async function hearReports(options: ReportOptions): Promise<void> {
  const { signal, sleep, clock, log } = options;
  let failing = false;
  while (!signal.aborted) {
    const startedMs = clock();
    try {
      await look(options);
      failing = false;
    } catch (error) {
      if (!failing) log.warn('cannot see which configurations units run', { reason: errorMessage(error) });
      failing = true;
    }
    await sleep(Math.max(LOOK_INTERVAL_MS, (clock() - startedMs) * LOOK_DUTY));
  }
}

async function look({ reports, owns, decider, newId, signal }: ReportOptions): Promise<void> {
  for (let after: string | undefined; !signal.aborted; ) {
    const page = await reports(after, MAX_REPORTS_PER_PAGE);
    const own = page.filter(({ unit }) => owns(unit));
    for (const part of chunksOf(own, MAX_DECISIONS_UNDER_WAY))
      await Promise.all(part.map((report) => noteReport(decider, newId, report)));
    after = page.at(-1)?.unit;
    if (page.length < MAX_REPORTS_PER_PAGE) return;
  }
}

/** Records what a unit says that it runs, where that is news. */
export async function noteReport(
  decider: Pick<UnitDecider, 'decide'>,
  newId: () => string,
  { unit, hash, atMs }: Report,
): Promise<void> {
  const meta = { commandId: newId(), actor: `unit:${unit}`, source: '/lockfleet/server' };
  await decider.decide(unit, 'config', meta, (state) => recordReportedHash(state, { hash, atMs }));
}

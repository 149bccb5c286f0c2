/**
 * The configuration report worker reconciles which configuration each unit reports with the one that the platform believes
 * it runs.
 *
 * Units report the hash of their configuration in pings and heartbeats. A read model selects the reports that contradict the
 * platform's state, and the worker folds the unit from the store before it records anything. A unit that reports another than
 * the desired configuration has drifted: the event makes the configuration worker push again. A unit that reports the desired
 * configuration proves a push whose answer got lost.
 */

import { recordReportedHash } from '../../../domain/configuration/delivery.ts';
import { chunksOf } from '../../../platform/batching/chunks-of.ts';
import { errorMessage } from '../../../platform/observability/error-message.ts';
import type { Log } from '../../../platform/observability/log.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';

/** Length of the shard prefixes by which the workers divide the units between them. */
export const REPORT_SHARD_LETTERS = 2;
/** Least pause between two polls of the read model. */
const POLL_INTERVAL_MS = 1_000;
/** The pause lasts at least so many times as long as the poll before it, so that polling takes 5 % of the time at most. */
const POLL_DUTY_FACTOR = 20;
/** Reports that one query of the read model returns. */
const MAX_REPORTS_PER_PAGE = 1_000;
/** Units on which the worker decides at the same time. */
const MAX_CONCURRENT_DECISIONS = 64;

export interface ConfigurationReport {
  readonly unit: string;
  /** Hash of the configuration that the unit runs: all of it, or its first letters. */
  readonly hash: string;
  /** When the unit reported it, milliseconds since 1970. */
  readonly atMs: number;
}

export interface ConfigurationReportWorkerOptions {
  readonly decider: Pick<UnitDecider, 'decide'>;
  /**
   * Reads the reports that contradict the platform's state, in the order of the units' names, after `afterName`. A page of
   * fewer than `limit` is the last.
   */
  readonly readReports: (afterName: string | undefined, limit: number) => Promise<readonly ConfigurationReport[]>;
  /** Whether this process reconciles that unit. */
  readonly owns: (unit: string) => boolean;
  readonly newId: () => string;
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` is aborted. */
export async function runConfigurationReportWorker(options: ConfigurationReportWorkerOptions): Promise<void> {
  const { signal, sleep, clock, log } = options;
  let failing = false;
  while (!signal.aborted) {
    const startedMs = clock();
    try {
      await reconcileReports(options);
      failing = false;
    } catch (error) {
      if (!failing)
        log.warn(
          'The worker could not reconcile the configurations that units report; it retries with the next poll.',
          {
            error: errorMessage(error),
          },
        );
      failing = true;
    }
    await sleep(Math.max(POLL_INTERVAL_MS, (clock() - startedMs) * POLL_DUTY_FACTOR));
  }
}

async function reconcileReports({
  readReports,
  owns,
  decider,
  newId,
  signal,
}: ConfigurationReportWorkerOptions): Promise<void> {
  for (let after: string | undefined; !signal.aborted; ) {
    const page = await readReports(after, MAX_REPORTS_PER_PAGE);
    const own = page.filter(({ unit }) => owns(unit));
    for (const part of chunksOf(own, MAX_CONCURRENT_DECISIONS))
      await Promise.all(part.map((report) => recordConfigurationReport(decider, newId, report)));
    after = page.at(-1)?.unit;
    if (page.length < MAX_REPORTS_PER_PAGE) return;
  }
}

/** Records which configuration a unit reports, unless the platform's state says the same already. */
export async function recordConfigurationReport(
  decider: Pick<UnitDecider, 'decide'>,
  newId: () => string,
  { unit, hash, atMs }: ConfigurationReport,
): Promise<void> {
  const meta = { commandId: newId(), actor: `unit:${unit}`, source: '/lockfleet/server' };
  await decider.decide(unit, 'config', meta, (state) => recordReportedHash(state, { hash, atMs }));
}

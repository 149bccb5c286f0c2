/**
 * The configuration report worker reconciles which configuration each unit reports with the one that the platform believes it runs.
 *
 * Units report the hash of their configuration in pings and heartbeats. The read model selects the reports that contradict the
 * platform's state, and the worker folds the unit from the store before it records anything. A unit that reports another than the
 * desired configuration has drifted: the recorded event makes the configuration worker push again. A unit that reports the desired
 * configuration proves a push whose answer got lost.
 *
 * The change feed names units whose rows or reports changed. A report may be too old to be conclusive, and the feed does not name a
 * unit that reports the same hash again. So the worker reads a contradicting unit again with exponential backoff (`FIRST_RECHECK_MS`
 * to `MAX_RECHECK_MS`) until its report agrees with the platform's state.
 */

import pLimit from 'p-limit';
import { recordReportedHash } from '../../../domain/configuration/delivery.ts';
import { UnitFollower, type UnitQuery } from '../../../platform/change-feed/follower.ts';
import type { UnitChangeSubscription } from '../../../platform/change-feed/subscription.ts';
import type { Log } from '../../../platform/observability/log.ts';
import { poll } from '../../../platform/retry/poll.ts';
import type { UnitDecider } from '../../../platform/units/unit-decider.ts';

/** Length of the shard prefixes by which the workers divide the units between them. */
export const REPORT_SHARD_LETTERS = 2;
/** From the start of one poll of the change feed to the start of the next. */
const POLL_INTERVAL_MS = 1_000;
export const FIRST_RECHECK_MS = 5_000;
export const MAX_RECHECK_MS = 60_000;
/** Units on which the worker decides at the same time. */
const MAX_CONCURRENT_DECISIONS = 64;

/** A report that contradicts the platform's state. */
export interface ConfigurationReport {
  /** The unit. */
  readonly name: string;
  /** Hash of the configuration that the unit runs: all of it, or its first letters. */
  readonly hash: string;
  /** When the unit reported it, milliseconds since 1970. */
  readonly atMs: number;
  /** Whether the report is recent enough to count. */
  readonly isConclusive: boolean;
}

export interface ConfigurationReportWorkerOptions {
  readonly decider: Pick<UnitDecider, 'decide'>;
  /** Reads units whose report contradicts the platform's state: a page of them, or those that are named. */
  readonly readReports: (query: UnitQuery) => Promise<readonly ConfigurationReport[]>;
  readonly changes: UnitChangeSubscription;
  /** Whether this process reconciles that unit. When that changes, the caller puts `all` back into `changes`. */
  readonly owns: (unit: string) => boolean;
  readonly newId: () => string;
  /** Milliseconds of a clock that never jumps. */
  readonly monotonic: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number) => Promise<void>;
  readonly log: Log;
}

/** Runs until `signal` aborts. */
export function runConfigurationReportWorker(options: ConfigurationReportWorkerOptions): Promise<void> {
  const { monotonic: clock, signal, sleep, log } = options;
  const polling = {
    name: 'recording which configurations units report',
    consequence: 'Units that drifted may keep the wrong configuration meanwhile.',
    intervalMs: POLL_INTERVAL_MS,
  };
  return poll({ ...polling, clock, signal, sleep, log }, createReportStep(options));
}

/**
 * Returns one poll: it reads the changed units and records their reports. A poll rejects with the errors of reading and deciding;
 * later polls read the units again.
 */
export function createReportStep(options: ConfigurationReportWorkerOptions): () => Promise<void> {
  const { decider, readReports, changes, owns, newId, monotonic, signal } = options;
  const limit = pLimit(MAX_CONCURRENT_DECISIONS);
  const contradicting = new RecheckQueue();
  let conclusive: ConfigurationReport[] = [];
  const follower = new UnitFollower<ConfigurationReport>({
    changes,
    read: readReports,
    owns,
    monotonic,
    onUnit: (report) => {
      if (!owns(report.name)) return contradicting.remove(report.name);
      contradicting.add(report.name, monotonic());
      if (report.isConclusive) conclusive.push(report);
    },
    onAbsent: (name) => contradicting.remove(name),
    onFullRead: (present) => contradicting.retain(present),
  });
  return async () => {
    conclusive = [];
    await follower.refresh(signal, contradicting.due(monotonic()));
    await Promise.all(conclusive.map((report) => limit(() => recordConfigurationReport(decider, newId, report))));
  };
}

/** Records which configuration a unit reports, unless the platform's state says the same already. */
export async function recordConfigurationReport(
  decider: Pick<UnitDecider, 'decide'>,
  newId: () => string,
  { name, hash, atMs }: Pick<ConfigurationReport, 'name' | 'hash' | 'atMs'>,
): Promise<void> {
  const meta = { commandId: newId(), actor: `unit:${name}`, source: '/lockfleet/server' };
  await decider.decide(name, 'config', meta, (state) => recordReportedHash(state, { hash, atMs }));
}

/** Units that are read again after a wait that doubles each time. */
class RecheckQueue {
  readonly #units = new Map<string, { waitMs: number; dueMs: number }>();

  /** Waits anew, twice as long as the last time. */
  add(name: string, nowMs: number): void {
    const waitMs = Math.min(MAX_RECHECK_MS, 2 * (this.#units.get(name)?.waitMs ?? FIRST_RECHECK_MS / 2));
    this.#units.set(name, { waitMs, dueMs: nowMs + waitMs });
  }

  remove(name: string): void {
    this.#units.delete(name);
  }

  retain(names: ReadonlySet<string>): void {
    for (const name of this.#units.keys()) if (!names.has(name)) this.#units.delete(name);
  }

  due(nowMs: number): string[] {
    return [...this.#units].filter(([, { dueMs }]) => dueMs <= nowMs).map(([name]) => name);
  }
}

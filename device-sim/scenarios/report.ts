/** The report of `./run sim`: compares what the fleet has produced with what the platform has recorded. */

import type { Fleet } from '../fleet/fleet.ts';
import { type PhaseArrivals, unitsWithUnrecordedEvents } from './scenario-run.ts';

const MAX_BEHIND_SHOWN = 10;

export interface Report {
  readonly scenario: string;
  readonly seed: number;
  readonly units: number;
  readonly durationMs: number;
  readonly events: {
    readonly produced: number;
    readonly acknowledged: number;
    readonly recorded: number;
    /** Events that the platform had not named recorded when the simulator stopped waiting. */
    readonly unrecorded: number;
    /** Events that units deleted unrecorded because their log was full. */
    readonly dropped: number;
  };
  /**
   * For each phase of the scenario. Arrivals are random, so the rates differ by chance. A reached rate that is much lower says
   * that this machine is too slow for the scenario.
   */
  readonly arrivals: readonly PhaseArrivals[];
  readonly customers: { readonly served: number; readonly turnedAway: number };
  /** `p50Ms` and `p99Ms` are null when no push was acknowledged. */
  readonly push: {
    readonly batches: number;
    readonly p50Ms: number | null;
    readonly p99Ms: number | null;
    readonly errors: number;
  };
  readonly commands: number;
  /** Units with unrecorded events, ten at most. */
  readonly behind: readonly string[];
  readonly problems: readonly string[];
  /** Whether the platform has recorded every event that the fleet has produced. */
  readonly ok: boolean;
}

export function reportOf(fleet: Fleet, run: Pick<Report, 'scenario' | 'seed' | 'durationMs' | 'arrivals'>): Report {
  const { metrics } = fleet;
  const behind = unitsWithUnrecordedEvents(fleet);
  return {
    ...run,
    units: fleet.units.size,
    events: {
      produced: metrics.produced,
      acknowledged: metrics.acknowledged,
      recorded: metrics.recorded,
      unrecorded: metrics.produced - metrics.recorded - metrics.wipedUnrecorded - metrics.droppedUnrecorded,
      dropped: metrics.droppedUnrecorded,
    },
    customers: { served: metrics.customersServed, turnedAway: metrics.customersTurnedAway },
    push: {
      batches: metrics.pushes,
      p50Ms: metrics.pushLatency.percentileMs(0.5),
      p99Ms: metrics.pushLatency.percentileMs(0.99),
      errors: metrics.failedPushes,
    },
    commands: metrics.commands,
    behind: behind.slice(0, MAX_BEHIND_SHOWN),
    problems: fleet.readiness().problems,
    ok: behind.length === 0 && metrics.droppedUnrecorded === 0,
  };
}

/** The report as lines for people. */
export function reportText({ events, arrivals, customers, push, behind, problems, ok, ...run }: Report): string {
  return [
    `Scenario ${run.scenario}, seed ${run.seed}: ${run.units} units, ${run.durationMs / 1_000} s.`,
    `events     ${events.produced} produced, ${events.acknowledged} acknowledged, ${events.recorded} recorded`,
    ...arrivals.map(arrivalsLine),
    `customers  ${customers.served} served, ${customers.turnedAway} turned away`,
    `push       ${push.batches} batches, p50 ${push.p50Ms ?? '-'} ms, p99 ${push.p99Ms ?? '-'} ms, ${push.errors} errors`,
    `commands   ${run.commands}`,
    ...problems.map((problem) => `problem    ${problem}`),
    ...(events.dropped === 0
      ? []
      : [`dropped    ${events.dropped} events, unrecorded, because the logs of their units were full`]),
    ok ? 'OK: the platform has recorded every event.' : failureLine(events, behind),
    '',
  ].join('\n');
}

function arrivalsLine({ askedPerS, reachedPerS }: PhaseArrivals, index: number, all: readonly unknown[]): string {
  const phase = all.length === 1 ? '' : `, phase ${index + 1} of ${all.length}`;
  return `arrivals   ${askedPerS}/s asked, ${reachedPerS}/s reached${phase}`;
}

function failureLine({ unrecorded, dropped }: Report['events'], behind: readonly string[]): string {
  const units = behind.length === 0 ? '' : ` of these units (${MAX_BEHIND_SHOWN} at most): ${behind.join(', ')}`;
  return `FAILED: the platform has not recorded ${unrecorded + dropped} events${units}.`;
}

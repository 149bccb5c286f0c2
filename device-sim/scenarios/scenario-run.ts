/** Runs a scenario on a fleet, waits for what it left behind, and says what came of it. */

import type { Timers } from '../environment/clock.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { Scenario } from './scenarios.ts';

/** How long after the last customer the platform may take to name everything recorded: some pings, and a slow ingest. */
export const DRAIN_TIMEOUT_MS = 120_000;
const DRAIN_POLL_MS = 100;

export interface Report {
  readonly scenario: string;
  readonly seed: number;
  readonly units: number;
  readonly durationMs: number;
  readonly events: {
    readonly produced: number;
    readonly acknowledged: number;
    readonly recorded: number;
    /** What the platform had not named recorded when the wait for it ended. */
    readonly unrecorded: number;
    /** What units let go because their log was full. */
    readonly dropped: number;
  };
  readonly customers: { readonly served: number; readonly turnedAway: number };
  readonly push: {
    readonly batches: number;
    readonly p50Ms: number | null;
    readonly p99Ms: number | null;
    readonly errors: number;
  };
  readonly commands: number;
  /** Units whose log the platform has not recorded whole, bounded. */
  readonly behind: readonly string[];
  readonly problems: readonly string[];
  /** What the fleet produced and what the platform recorded are the same. */
  readonly ok: boolean;
}

const MAX_BEHIND_SHOWN = 10;

/** Plays the phases one after another. */
export async function playScenario(
  fleet: Fleet,
  scenario: Scenario,
  durationMs: number,
  timers: Timers,
): Promise<void> {
  fleet.customers.start();
  let offline = false;
  for (const phase of scenario.phases) {
    if (timers.stopped) break;
    if (phase.offline !== offline) await setOffline(fleet, phase.offline);
    offline = phase.offline;
    fleet.customers.setArrivalRate(phase.walkUpsPerUnitMinute * fleet.units.size, scenario.visit);
    await timers.pause(phase.share * durationMs);
  }
  fleet.customers.stop();
  if (offline) await setOffline(fleet, false);
}

/** Waits until the platform has named everything recorded, `DRAIN_TIMEOUT_MS` at most. */
export async function waitUntilRecorded(fleet: Fleet, timers: Timers): Promise<void> {
  const deadlineMs = timers.nowMs() + DRAIN_TIMEOUT_MS;
  while (unitsBehind(fleet).length > 0 && timers.nowMs() < deadlineMs && !timers.stopped) {
    await timers.pause(DRAIN_POLL_MS);
  }
}

export function reportOf(
  fleet: Fleet,
  run: { readonly scenario: string; readonly seed: number; readonly durationMs: number },
): Report {
  const { metrics } = fleet;
  const behind = unitsBehind(fleet);
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
      p50Ms: metrics.pushLatency.percentile(0.5),
      p99Ms: metrics.pushLatency.percentile(0.99),
      errors: metrics.failedPushes,
    },
    commands: metrics.commands,
    behind: behind.slice(0, MAX_BEHIND_SHOWN),
    problems: fleet.readiness().problems,
    ok: behind.length === 0 && metrics.droppedUnrecorded === 0,
  };
}

function unitsBehind(fleet: Fleet): string[] {
  const behind: string[] = [];
  for (const { name, model } of fleet.units.values()) {
    if (model.log.recordedSeq < model.log.lastSeq) behind.push(name);
  }
  return behind;
}

async function setOffline(fleet: Fleet, offline: boolean): Promise<void> {
  await Promise.all([...fleet.units.values()].map((unit) => unit.setFaults({ offline })));
}

/** Plays a scenario on a fleet, and waits until the platform has recorded its events. */

import type { Customers } from '../customers/customers.ts';
import type { Timers } from '../environment/timers.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { Scenario } from './scenarios.ts';

/** Longest wait after the last customer: the platform needs some pings, and its ingest may have a backlog. */
const RECORDED_TIMEOUT_MS = 120_000;
const RECORDED_POLL_MS = 100;

/** Plays the phases one after another. Resolves when the last one ends, or the timers are stopped. */
export async function playScenario(
  fleet: Fleet,
  customers: Customers,
  scenario: Scenario,
  durationMs: number,
  timers: Timers,
): Promise<void> {
  customers.start();
  let isOffline = false;
  for (const phase of scenario.phases) {
    if (timers.isStopped) break;
    if (phase.offline !== isOffline) await setFleetOffline(fleet, phase.offline);
    isOffline = phase.offline;
    customers.setArrivalRate(phase.walkUpsPerUnitMinute * fleet.units.size, scenario.visit);
    await timers.pause(phase.share * durationMs);
  }
  customers.stop();
  if (isOffline) await setFleetOffline(fleet, false);
}

/** Waits until the platform has named every event recorded, two minutes at most. */
export async function waitUntilRecorded(fleet: Fleet, timers: Timers): Promise<void> {
  const deadlineMs = timers.nowMs() + RECORDED_TIMEOUT_MS;
  while (unitsWithUnrecordedEvents(fleet).length > 0 && timers.nowMs() < deadlineMs && !timers.isStopped) {
    await timers.pause(RECORDED_POLL_MS);
  }
}

export function unitsWithUnrecordedEvents(fleet: Fleet): string[] {
  const names: string[] = [];
  for (const { name, model } of fleet.units.values()) {
    if (model.log.recordedSeq < model.log.lastSeq) names.push(name);
  }
  return names;
}

async function setFleetOffline(fleet: Fleet, offline: boolean): Promise<void> {
  await Promise.all([...fleet.units.values()].map((unit) => unit.setFaults({ offline })));
}

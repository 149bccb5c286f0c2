/** Plays a scenario on a fleet, and waits until the platform has recorded its events. */

import { isDeepStrictEqual } from 'node:util';
import type { ArrivalCount } from '../customers/arrivals.ts';
import type { Customers } from '../customers/customers.ts';
import type { Timers } from '../environment/timers.ts';
import { NO_FAULTS } from '../faults/faults.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { Scenario } from './scenarios.ts';

/** Longest wait after the last customer: the platform needs some pings, and its ingest may have a backlog. */
const RECORDED_TIMEOUT_MS = 120_000;
const RECORDED_POLL_MS = 100;

/** Arrivals of customers in a phase, a second: those that the scenario asks for, and those that have begun. */
export interface PhaseArrivals {
  readonly askedPerS: number;
  readonly reachedPerS: number;
}

/**
 * Ends the faults that an earlier run, or a command of the control API, has left in the store, so that every scenario begins with
 * the same state.
 * @returns how many units had faults
 */
export async function clearFaults(fleet: Fleet): Promise<number> {
  const faulty = [...fleet.units.values()].filter(({ faults }) => !isDeepStrictEqual(faults, NO_FAULTS));
  await Promise.all(faulty.map((unit) => unit.setFaults(NO_FAULTS)));
  return faulty.length;
}

/**
 * Plays the phases one after another. Resolves when the last one ends, or the timers are stopped.
 * @returns the arrivals of customers in each phase that has begun
 */
export async function playScenario(
  fleet: Fleet,
  customers: Customers,
  scenario: Scenario,
  durationMs: number,
  timers: Timers,
): Promise<PhaseArrivals[]> {
  const arrivals: PhaseArrivals[] = [];
  customers.continueVisits();
  try {
    for (const phase of scenario.phases) {
      if (timers.isStopped) break;
      setOutage(fleet, phase.offline);
      customers.setArrivalRate(phase.walkUpsPerUnitMinute * fleet.units.size, scenario.visit);
      const before = customers.arrivals();
      await timers.pause(phase.share * durationMs);
      arrivals.push(phaseArrivals(before, customers.arrivals()));
    }
    return arrivals;
  } finally {
    customers.stop();
    setOutage(fleet, false);
  }
}

function phaseArrivals(before: ArrivalCount, after: ArrivalCount): PhaseArrivals {
  const elapsedMs = after.elapsedMs - before.elapsedMs;
  const perSecond = (count: number) => (elapsedMs <= 0 ? 0 : Math.round((count * 10_000) / elapsedMs) / 10);
  return { askedPerS: perSecond(after.asked - before.asked), reachedPerS: perSecond(after.begun - before.begun) };
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

function setOutage(fleet: Fleet, hasOutage: boolean): void {
  for (const unit of fleet.units.values()) unit.setOutage(hasOutage);
}

/** A unit model for tests, without a store or a connection. */

import { createUnit } from '../../device-sim/unit/lifecycle.ts';
import type { Decision, DecisionContext, UnitModel } from '../../device-sim/unit/model.ts';
import { defaultConfiguration } from '../../domain/configuration/default-configuration.ts';
import type { BatchEvent } from '../../domain/unit-protocol/batch.ts';
import type { SyncedReservation, SyncReservations } from '../../domain/unit-protocol/reservation-list.ts';
import { toInstant } from '../../domain/vocabulary.ts';

export const NOON_MS = Date.parse('2026-07-01T12:00:00.000Z');
export const MINUTE_MS = 60_000;

/** The instant `minutes` after noon. */
export function noonPlus(minutes: number): string {
  return toInstant(NOON_MS + minutes * MINUTE_MS);
}

/** Generates `id-1`, `id-2`, … */
export function countingIds(): () => string {
  let made = 0;
  return () => {
    made += 1;
    return `id-${made}`;
  };
}

export function around(changes: Partial<DecisionContext> = {}): DecisionContext {
  return {
    nowMs: NOON_MS,
    newId: countingIds(),
    isOffline: false,
    jammedLockers: new Set(),
    doesTerminalDecline: false,
    configurationFault: 'well',
    ...changes,
  };
}

/** A unit with the lockers A (S), B (M) and C (L), after its first boot. */
export function newUnit(): UnitModel {
  const made = {
    name: 'PL-1000',
    lockers: [
      { id: 'A', size: 'S' },
      { id: 'B', size: 'M' },
      { id: 'C', size: 'L' },
    ] as const,
    configuration: defaultConfiguration(600),
  };
  return createUnit(made, around({ newId: () => 'epoch-0' })).unit;
}

/** A page about all lockers of `newUnit`, computed when the platform had recorded all of the unit's log. */
export function listPage(
  version: number,
  reservations: readonly SyncedReservation[],
  changes: Partial<SyncReservations> = {},
): SyncReservations {
  return {
    version,
    asOf: { epoch: 'epoch-0', seq: 1_000, bookings: version },
    timeZone: 'Europe/Warsaw',
    lockers: ['A', 'B', 'C'],
    reservations: [...reservations],
    closed: [],
    ...changes,
  };
}

/** The unit after the decisions, in their order. Each decides at noon unless it has another context. */
export function after(unit: UnitModel, ...steps: ((unit: UnitModel) => Decision<unknown>)[]): UnitModel {
  return steps.reduce((next, step) => step(next).unit, unit);
}

/** The fields of an entry without its seq, version, time and `offline`. */
export function entryContent({ type, locker, causationId, data }: BatchEvent): object {
  return {
    type,
    ...(locker === undefined ? {} : { locker }),
    ...(causationId === undefined ? {} : { causationId }),
    data,
  };
}

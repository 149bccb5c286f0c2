import { Elysia } from 'elysia';
import { requireBookablePeriod } from '../../../domain/booking/customer-decisions.ts';
import { toMs } from '../../../domain/vocabulary.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { findFreeLockers } from '../../../projections/reservations/queries.ts';
import type { ApiMacros } from '../../http/api-macros.ts';
import { invalidField } from '../../http/problems.ts';
import { DEFAULT_RADIUS_M, FIND_FREE_LOCKERS } from './schema.ts';

/** The largest number of lockers in one answer: enough for a map, and a bound on the cost of a request. */
const MAX_ITEMS = 1_000;
/** A period of any length: the limits of each unit are checked when a locker is reserved. */
const ANY_LENGTH = { minimumMinutes: 1, maximumMinutes: Number.POSITIVE_INFINITY };

export interface AvailabilityDependencies {
  readonly readModels: ReadModels;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
}

export function availabilityRoutes(macros: ApiMacros, { readModels, clock }: AvailabilityDependencies) {
  return new Elysia({ prefix: '/v1/availability' }).use(macros).get(
    '',
    ({ query }) => {
      const { unit, near, radiusM = DEFAULT_RADIUS_M, from, until, size } = query;
      const nowMs = clock();
      requireBookablePeriod({ fromMs: toMs(from), untilMs: toMs(until) }, ANY_LENGTH, nowMs);
      return findFreeLockers(readModels, {
        ...placeOf(unit, near, radiusM),
        ...(size === undefined ? {} : { size }),
        from,
        until,
        nowMs,
        limit: MAX_ITEMS,
      });
    },
    FIND_FREE_LOCKERS,
  );
}

function placeOf(unit: string | undefined, near: string | undefined, radiusM: number) {
  if (unit !== undefined && near !== undefined) {
    throw invalidField('/query/near', 'cannot be combined with unit: name a unit or a place');
  }
  if (unit !== undefined) return { unit };
  if (near === undefined) throw invalidField('/query/unit', 'is missing: name a unit, or a place by near');
  const [lat = Number.NaN, lon = Number.NaN] = near.split(',').map(Number);
  if (Math.abs(lat) > 90 || Math.abs(lon) > 180) {
    throw invalidField('/query/near', 'must be a latitude of -90 to 90 and a longitude of -180 to 180');
  }
  return { near: { lat, lon, radiusM } };
}

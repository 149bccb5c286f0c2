import { Type } from '@sinclair/typebox';
import { Elysia } from 'elysia';
import { requireBookablePeriod } from '../../../domain/booking/booking.ts';
import { Instant, LockerId, LockerSize, Money, toMs, UnitName } from '../../../domain/vocabulary.ts';
import type { ReadModels } from '../../../projections/engine/queries/serving-runs.ts';
import { findFreeLockers } from '../../../projections/reservations/queries.ts';
import { documented } from '../../http/documented.ts';
import { invalidField } from '../../http/problems.ts';
import { MinPosition, type Reads } from '../../http/reads.ts';
import type { Guard } from '../auth/guard.ts';

const MAX_RADIUS_M = 100_000;
const DEFAULT_RADIUS_M = 5_000;
/** Most lockers in one answer: enough for a map, and a bound on what one request costs. */
const MAX_ITEMS = 1_000;
/** Wide limits: each unit has its own, and those are checked when a locker is reserved. */
const ANY_LENGTH = { minimumMinutes: 1, maximumMinutes: Number.POSITIVE_INFINITY };

const Available = Type.Object({
  unit: UnitName,
  locker: LockerId,
  size: LockerSize,
  price: Money,
  confidence: Type.Object({
    source: Type.Union([Type.Literal('unit'), Type.Literal('platform')], {
      description: '`unit`: it is online and says so itself; `platform`: as far as was known at `asOf`',
    }),
    asOf: Type.Union([Instant, Type.Null()]),
  }),
});

const EXAMPLE = {
  asOf: '2026-07-01T09:30:00.000Z',
  items: [
    {
      unit: 'PL-1000',
      locker: 'B',
      size: 'M',
      price: { amount: 600, currency: 'EUR' },
      confidence: { source: 'unit', asOf: '2026-07-01T09:29:55.000Z' },
    },
  ],
};

export interface AvailabilityDependencies {
  readonly guard: Guard;
  readonly reads: Reads;
  readonly readModels: ReadModels;
  readonly clock: () => number;
}

export function availabilityRoutes({ guard, reads, readModels, clock }: AvailabilityDependencies) {
  return new Elysia({ prefix: '/v1/availability' })
    .derive(async ({ headers }) => ({ principal: await guard.require(headers.authorization, 'customer') }))
    .get(
      '',
      async ({ query }) => {
        const { unit, near, radiusM = DEFAULT_RADIUS_M, from, until, size, minPosition } = query;
        const nowMs = clock();
        requireBookablePeriod({ fromMs: toMs(from), untilMs: toMs(until) }, ANY_LENGTH, nowMs);
        const where = placeOf(unit, near, radiusM);
        await reads.wait('reservations', minPosition, unit);
        return findFreeLockers(readModels, {
          ...where,
          ...(size === undefined ? {} : { size }),
          from,
          until,
          nowMs,
          limit: MAX_ITEMS,
        });
      },
      {
        query: Type.Object(
          {
            unit: Type.Optional(UnitName),
            near: Type.Optional(
              Type.String({ pattern: '^-?\\d{1,2}(\\.\\d+)?,-?\\d{1,3}(\\.\\d+)?$', examples: ['54.35,18.65'] }),
            ),
            radiusM: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_RADIUS_M, default: DEFAULT_RADIUS_M })),
            from: Instant,
            until: Instant,
            size: Type.Optional(LockerSize),
            ...MinPosition,
          },
          { additionalProperties: false },
        ),
        detail: documented({
          summary: 'Free lockers in a period',
          description: 'At one unit, or near a place. What it says can be gone a moment later: reserving decides.',
          tag: 'Availability',
          answers: {
            200: {
              description: 'What is free',
              schema: Type.Object({ asOf: Instant, items: Type.Array(Available) }),
              example: EXAMPLE,
            },
          },
          errors: ['validation', 'not-found'],
        }),
      },
    );
}

function placeOf(unit: string | undefined, near: string | undefined, radiusM: number) {
  if (unit !== undefined && near !== undefined) throw invalidField('/near', 'cannot stand beside unit');
  if (unit !== undefined) return { unit };
  if (near === undefined) throw invalidField('/unit', 'is missing; name a unit or a place');
  const [lat = Number.NaN, lon = Number.NaN] = near.split(',').map(Number);
  if (Math.abs(lat) > 90 || Math.abs(lon) > 180) throw invalidField('/near', 'is no latitude and longitude');
  return { near: { lat, lon, radiusM } };
}

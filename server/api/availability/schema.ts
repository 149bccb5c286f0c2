/** Free lockers over REST: what the route takes and answers. */

import { Type } from '@sinclair/typebox';
import { Instant, LockerId, LockerSize, Money, UnitName } from '../../../domain/vocabulary.ts';
import { answer, operation } from '../../http/operation.ts';
import { MinPosition, OneOf, OrNull, strict } from '../../http/schemas.ts';

/** The radius around a place when the client names none. */
export const DEFAULT_RADIUS_M = 5_000;
const MAX_RADIUS_M = 100_000;

const FreeLocker = Type.Object(
  {
    unit: UnitName,
    locker: LockerId,
    size: LockerSize,
    price: Money,
    confidence: Type.Object(
      {
        source: OneOf(['unit', 'platform'], {
          description:
            '`unit`: the unit is online and has reported the locker as free. `platform`: the unit is offline, and the platform ' +
            'knows the locker as it was at `asOf`.',
        }),
        asOf: OrNull({
          ...Instant,
          description: 'The time of the last report of the unit. It is null before the first.',
        }),
      },
      { description: 'How certain it is that the locker is free.' },
    ),
  },
  { title: 'FreeLocker' },
);

const Availability = Type.Object(
  {
    asOf: { ...Instant, description: 'The time of the answer.' },
    items: Type.Array(FreeLocker),
  },
  { title: 'Availability' },
);

export const FIND_FREE_LOCKERS = operation({
  id: 'findFreeLockers',
  tag: 'Availability',
  auth: 'customer',
  minPosition: { readModel: 'reservations' },
  summary: 'Find the lockers that are free in a period',
  description:
    'At the unit that `unit` names, or at the units near the place that `near` names, the nearest first. A locker of the answer ' +
    'can be taken a moment later: only a reservation holds it.',
  query: Type.Object(
    {
      unit: Type.Optional(UnitName),
      near: Type.Optional(
        Type.String({
          pattern: '^-?\\d{1,2}(\\.\\d+)?,-?\\d{1,3}(\\.\\d+)?$',
          expects: 'latitude and longitude in degrees, such as 54.35,18.65',
          description: 'A place instead of a unit: latitude and longitude in degrees, separated by a comma.',
          examples: ['54.35,18.65'],
        }),
      ),
      radiusM: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: MAX_RADIUS_M,
          default: DEFAULT_RADIUS_M,
          description: 'The largest distance of a unit from the place, in metres.',
        }),
      ),
      from: { ...Instant, description: 'The beginning of the period, inclusive: RFC 3339, UTC.' },
      until: { ...Instant, description: 'The end of the period, exclusive: RFC 3339, UTC.' },
      size: Type.Optional(LockerSize),
      ...MinPosition,
    },
    strict,
  ),
  answers: {
    200: answer('The free lockers, at most 1,000.', Availability, {
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
    }),
  },
  problems: ['validation', 'not-found'],
});

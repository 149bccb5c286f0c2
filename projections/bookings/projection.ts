/** `bookings`: the snapshots from which decisions start, one row a unit. */

import { AGGREGATES } from '../../domain/events/envelope.ts';
import type { Projection } from '../engine/projection.ts';
import { UnitStates, versionWithFold } from '../unit-states/unit-states.ts';

/** Snapshots of another version are folded by other rules, and of no use to a decision. */
export const BOOKINGS_VERSION = versionWithFold(2);

export function createBookings(): Projection {
  const unitStates = new UnitStates({
    aggregates: new Set(AGGREGATES),
    startsAtRegistration: false,
    trim: (state) => state,
  });
  return {
    name: 'bookings',
    version: BOOKINGS_VERSION,
    createTables: (tx, schema) => unitStates.createTable(tx, schema),
    async apply(tx, schema, commits) {
      await unitStates.fold(tx, schema, commits);
    },
    openFold: (schema, isFresh) => unitStates.openFold(schema, isFresh, async () => undefined),
  };
}

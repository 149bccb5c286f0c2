/** `bookings`: a snapshot of each unit. A decision loads the snapshot and folds only the commits after it. */

import { AGGREGATES } from '../../domain/events/cloud-event.ts';
import type { Projection } from '../engine/projection.ts';
import { UnitStates, versionWithFold } from '../unit-states/unit-states.ts';

/** A snapshot of another version was folded by other rules, so decisions ignore it. */
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

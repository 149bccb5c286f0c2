/** The projections that this code fills: one read model each. */

import { createBookings } from './bookings/projection.ts';
import { configuration } from './configuration/projection.ts';
import { createDailySummary } from './daily_summary/projection.ts';
import type { Projection } from './engine/projection.ts';
import { eventLog } from './event_log/projection.ts';
import { createReservations } from './reservations/projection.ts';
import { createUnits } from './units/projection.ts';

export function createProjections(): readonly Projection[] {
  return [createUnits(), createBookings(), createReservations(), eventLog, configuration, createDailySummary()];
}

/** Every projection that this code fills. */

import { bookings } from './bookings/projection.ts';
import type { Projection } from './engine/projection.ts';
import { eventLog } from './event_log/projection.ts';
import { reservations } from './reservations/projection.ts';
import { units } from './units/projection.ts';

export const PROJECTIONS: readonly Projection[] = [units, bookings, reservations, eventLog];

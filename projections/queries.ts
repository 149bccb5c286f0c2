/** The read models that the API reads: the names of the projections that `create-projections.ts` lists. */

export const READ_MODELS = [
  'units',
  'bookings',
  'reservations',
  'event_log',
  'configuration',
  'daily_summary',
] as const;

/** The earliest moment that both JavaScript and Postgres can represent; milliseconds since 1970. */
export const EARLIEST_STORABLE_MS = Date.parse('0001-01-01T00:00:00.000Z');

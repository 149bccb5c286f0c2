/** The streams of DESIGN.md section 7, created at start where they do not exist. */

const MINUTE_NS = 60 * 1_000_000_000;
const MIB = 1024 * 1024;

/** Most batches of one unit that wait in `UNIT_INBOX`; a unit that sends more is refused until it has drained. */
export const MAX_INBOX_BATCHES_PER_UNIT = 64;
/** How long pings are kept, in memory. */
const TELEMETRY_MAX_AGE_MINUTES = 5;
const TELEMETRY_MAX_BYTES = 64 * MIB;

/** Streams by name, as the JetStream API takes them. */
export const STREAMS = {
  EVENTS: {
    subjects: ['evt.>'],
    storage: 'file',
    retention: 'limits',
    discard: 'new',
    deny_delete: true,
    deny_purge: true,
    allow_direct: true,
    allow_atomic: true,
    // The window is kept in memory; what it forgets, `commandId` in the fold and the expected sequence still catch.
    duplicate_window: 2 * MINUTE_NS,
  },
  UNIT_INBOX: {
    subjects: ['unit.*.*.*.events'],
    storage: 'file',
    retention: 'workqueue',
    discard: 'new',
    discard_new_per_subject: true,
    max_msgs_per_subject: MAX_INBOX_BATCHES_PER_UNIT,
    // Units send no message ids; the shortest window the server takes.
    duplicate_window: 100_000_000,
  },
  JOBS: {
    subjects: ['timer.>', 'job.>'],
    storage: 'file',
    retention: 'workqueue',
    discard: 'old',
    allow_msg_schedules: true,
    allow_atomic: true,
    allow_direct: true,
    duplicate_window: 100_000_000,
  },
  TELEMETRY: {
    subjects: ['telemetry.>'],
    storage: 'memory',
    retention: 'limits',
    discard: 'old',
    max_age: TELEMETRY_MAX_AGE_MINUTES * MINUTE_NS,
    max_bytes: TELEMETRY_MAX_BYTES,
  },
} as const;

export type StreamName = keyof typeof STREAMS;

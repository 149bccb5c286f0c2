/** The settings of the JetStream streams. `docs/architecture.md` says what each stream is for. */

const SECOND_NS = 1_000_000_000;
const MINUTE_NS = 60 * SECOND_NS;
const MIB = 1024 * 1024;

/** Batches of one unit that may wait in `UNIT_INBOX`. The server refuses further pushes of the unit until ingest has caught up. */
export const MAX_INBOX_BATCHES_PER_UNIT = 64;
/** How long `TELEMETRY` keeps results of pings, in memory. */
const TELEMETRY_MAX_AGE_MINUTES = 5;
const TELEMETRY_MAX_BYTES = 64 * MIB;
/** How long the bucket `members` keeps the last heartbeat of a member: three heartbeat intervals of `platform/shards`. */
const MEMBERS_TTL_S = 3;
const MEMBERS_MAX_BYTES = 16 * MIB;

/** Settings by stream name, in the form of the JetStream API. */
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
    // Deduplication is in memory. A repeat after the window still fails on the expected sequence or on `commandId` in the fold.
    duplicate_window: 2 * MINUTE_NS,
  },
  UNIT_INBOX: {
    subjects: ['unit.*.*.*.events'],
    storage: 'file',
    retention: 'workqueue',
    discard: 'new',
    discard_new_per_subject: true,
    max_msgs_per_subject: MAX_INBOX_BATCHES_PER_UNIT,
    allow_direct: true,
    // Units send no message ids, so this is the shortest window that the server accepts.
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
  // The key-value bucket `members`, with the settings by which clients know a bucket (ADR-8).
  KV_members: {
    subjects: ['$KV.members.>'],
    storage: 'memory',
    retention: 'limits',
    discard: 'new',
    max_msgs_per_subject: 1,
    max_age: MEMBERS_TTL_S * SECOND_NS,
    max_bytes: MEMBERS_MAX_BYTES,
    deny_delete: true,
    allow_rollup_hdrs: true,
    allow_direct: true,
    // The server accepts no window longer than `max_age`.
    duplicate_window: MEMBERS_TTL_S * SECOND_NS,
  },
} as const;

export type StreamName = keyof typeof STREAMS;

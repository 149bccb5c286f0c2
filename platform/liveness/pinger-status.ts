/**
 * The status message that a pinger publishes once in a period, on `telemetry.<pingerId>.status`. The message also tells the platform that
 * the pinger watches its shards: after a few periods without it, the states of their units are unknown.
 */

import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { PINGER_ID_PATTERN } from './telemetry-message.ts';

/** The bounds of the status period. Between them the period is the ping interval. */
const MIN_STATUS_PERIOD_MS = 1_000;
const MAX_STATUS_PERIOD_MS = 10_000;
/** A pinger's shards count as unwatched after this many periods without a status, and not before the minimum. */
const PERIODS_TO_UNWATCHED = 3;
const MIN_UNWATCHED_AFTER_MS = 3_000;
const MAX_SHARDS = 256;

const Count = (description: string) => Type.Integer({ minimum: 0, description });
const Milliseconds = (description: string) => Type.Integer({ minimum: 0, description });
const Figure = Type.Number({ minimum: 0 });
const Figures = (description: string) => Type.Record(Type.String({ maxLength: 40 }), Figure, { description });
const Shard = Type.String({ pattern: '^[0-9a-f]{2}$' });

export const PingerStatus = Type.Object({
  pingerId: Type.String({ pattern: PINGER_ID_PATTERN }),
  at: Milliseconds('When the pinger sent the status, in milliseconds since 1970.'),
  periodMs: Type.Integer({
    minimum: 1,
    maximum: MAX_STATUS_PERIOD_MS,
    description: 'The time between two statuses of the pinger, in milliseconds.',
  }),
  shards: Type.Array(Shard, { maxItems: MAX_SHARDS, description: 'The two-letter shards that the pinger watches.' }),
  intervalMs: Milliseconds('The time between two scheduled pings of a unit (`PING_INTERVAL_MS`).'),
  timeoutMs: Milliseconds('How long the pinger waits for an answer (`PING_TIMEOUT_MS`).'),
  failuresToOffline: Count('The missed pings in a row after which a unit is offline (`PING_FAILURES_TO_OFFLINE`).'),
  units: Count('The number of units that the pinger monitors.'),
  notPinged: Count('The number of units that the pinger cannot ping. Their heartbeats alone prove them alive.'),
  states: Type.Object(
    {
      unknown: Count('Units whose state the pinger has not determined yet.'),
      'never-seen': Count('Units that have never answered.'),
      online: Count('Units that are online.'),
      offline: Count('Units that are offline.'),
    },
    { description: 'The number of units in each state, as this pinger believes.' },
  ),
  flapping: Count('The number of units that went offline and came back repeatedly.'),
  scheduleLagMs: Type.Object(
    { p99: Figure, max: Figure },
    { description: 'By how many milliseconds pings left after they were due, over the last half minute.' },
  ),
  rates: Figures('What the pinger counts, per second over the last half minute.'),
  totals: Figures('What the pinger has counted since it started.'),
  threads: Count('The number of ping threads that have started.'),
  replacedThreads: Count('The number of ping threads that died or hung and were replaced.'),
  outages: Type.Array(
    Type.Object({ shard: Shard, since: Milliseconds('In milliseconds since 1970.'), share: Figure }),
    {
      maxItems: MAX_SHARDS,
      description:
        'Shards in which too many units are missing at once. `share`: missing units divided by online units.',
    },
  ),
});
export type PingerStatus = Static<typeof PingerStatus>;

/** The status period of a pinger with this ping interval. */
export function statusPeriodMs(intervalMs: number): number {
  return Math.min(MAX_STATUS_PERIOD_MS, Math.max(MIN_STATUS_PERIOD_MS, intervalMs));
}

/** For how long after a status the shards of its pinger count as watched. */
export function watchedForMs(periodMs: number): number {
  return Math.max(MIN_UNWATCHED_AFTER_MS, PERIODS_TO_UNWATCHED * periodMs);
}

/** The subject on which a pinger publishes its status. */
export function statusSubject(pingerId: string): string {
  return `telemetry.${pingerId}.status`;
}

/** The subjects of all pingers. */
export const STATUS_FILTER = 'telemetry.*.status';

/** @returns `undefined` when `json` is not a status */
export function decodeStatus(json: string): PingerStatus | undefined {
  try {
    const status: unknown = JSON.parse(json);
    return Value.Check(PingerStatus, status) ? status : undefined;
  } catch {
    return undefined;
  }
}

/**
 * What a pinger says about itself, once in a period, on `telemetry.<pingerId>.status`. That it says so is what tells that its
 * shards are watched: without it nobody knows who is online there.
 */

import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { PINGER_ID_PATTERN } from './telemetry.ts';

/** The shortest and the longest period; between them it is the interval of the pings. */
export const MIN_STATUS_PERIOD_MS = 1_000;
export const MAX_STATUS_PERIOD_MS = 10_000;
/** After so many periods without a word the shards of a pinger are not watched, but not before so many milliseconds. */
const PERIODS_TO_UNWATCHED = 3;
const MIN_UNWATCHED_AFTER_MS = 3_000;
const MAX_SHARDS = 256;

const Count = Type.Integer({ minimum: 0 });
const Figure = Type.Number({ minimum: 0 });
const Figures = Type.Record(Type.String({ maxLength: 40 }), Figure);
const Shard = Type.String({ pattern: '^[0-9a-f]{2}$' });

export const PingerStatus = Type.Object({
  pingerId: Type.String({ pattern: PINGER_ID_PATTERN }),
  at: Type.Integer({ minimum: 0, description: 'milliseconds since 1970' }),
  periodMs: Type.Integer({ minimum: 1, maximum: MAX_STATUS_PERIOD_MS }),
  shards: Type.Array(Shard, { maxItems: MAX_SHARDS, description: 'the two-letter shards that it owns' }),
  intervalMs: Count,
  timeoutMs: Count,
  failuresToOffline: Count,
  units: Count,
  notPinged: Type.Integer({ minimum: 0, description: 'units without an address that can be pinged' }),
  states: Type.Object({ unknown: Count, 'never-seen': Count, online: Count, offline: Count }),
  flapping: Count,
  scheduleLagMs: Type.Object({ p99: Figure, max: Figure }),
  rates: Figures,
  totals: Figures,
  threads: Type.Integer({ minimum: 0, description: 'threads that its units have needed so far' }),
  replacedThreads: Count,
  outages: Type.Array(Type.Object({ shard: Shard, since: Count, share: Figure }), { maxItems: MAX_SHARDS }),
});
/** Rates are per second, over the last half minute; totals since the start. */
export type PingerStatus = Static<typeof PingerStatus>;

export function statusPeriodMs(intervalMs: number): number {
  return Math.min(MAX_STATUS_PERIOD_MS, Math.max(MIN_STATUS_PERIOD_MS, intervalMs));
}

/** How long after a status of this period the shards that it names count as watched. */
export function watchedForMs(periodMs: number): number {
  return Math.max(MIN_UNWATCHED_AFTER_MS, PERIODS_TO_UNWATCHED * periodMs);
}

/** Where a pinger says it. */
export function statusSubject(pingerId: string): string {
  return `telemetry.${pingerId}.status`;
}

export const STATUS_FILTER = 'telemetry.*.status';

/** Reads a status; `undefined` when it is none. */
export function decodeStatus(json: string): PingerStatus | undefined {
  try {
    const status: unknown = JSON.parse(json);
    return Value.Check(PingerStatus, status) ? status : undefined;
  } catch {
    return undefined;
  }
}

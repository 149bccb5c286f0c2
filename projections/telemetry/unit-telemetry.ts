/**
 * What pings and heartbeats report of a unit, merged. Each part is the newest of its kind, so the order of results does not
 * matter. No part overwrites another one: a ping without an answer only says that a pinger sent it.
 */

import type { TelemetryResult, TelemetryResultOf } from '../../platform/liveness/telemetry-message.ts';
import type { KeptTime } from './response-time-partitions.ts';

/**
 * A heartbeat gives the clock offset only when no ping was answered for this long. The delay of a heartbeat is unknown, while
 * the unit answered a ping between its sending and the arrival of the answer.
 */
export const PING_CLOCK_PRECEDENCE_MS = 120_000;

/** The answer to a ping; `at` is when the ping was sent, milliseconds since 1970. */
export type Answer = NonNullable<TelemetryResultOf<'pings'>['last']>;

/** The outcome of the pings of five minutes. Response times are milliseconds, of the answered pings. */
export interface Bucket {
  readonly sent: number;
  readonly lost: number;
  readonly rttMs?: { readonly min: number; readonly max: number; readonly sum: number };
}

/** What was received of a unit since the last write. */
export interface UnitTelemetry {
  readonly unit: string;
  readonly answer?: Answer;
  /** The newest answer with a clock offset; an answer that took long has none. */
  readonly clockAnswer?: Answer;
  readonly heartbeat?: TelemetryResultOf<'heartbeat'>;
  /** The newest summary of pings, whether the unit answered or not. */
  readonly pinged?: { readonly at: number; readonly flapping: boolean };
  /** Buckets by their start, milliseconds since 1970. */
  readonly buckets: ReadonlyMap<number, Bucket>;
}

/** Merges a result into the telemetry of its unit. */
export function addResult(known: UnitTelemetry | undefined, result: TelemetryResult): UnitTelemetry {
  const added = telemetryOf(result);
  return known === undefined ? added : mergeTelemetry(known, added);
}

function telemetryOf(result: TelemetryResult): UnitTelemetry {
  const { unit } = result;
  if (result.heard === 'heartbeat') return { unit, heartbeat: result, buckets: new Map() };
  const { at, bucketAt, sent, lost, last, rttMs, flapping = false } = result;
  return {
    unit,
    ...(last === undefined ? {} : { answer: last }),
    ...(last?.clockOffsetMs === undefined ? {} : { clockAnswer: last }),
    pinged: { at, flapping },
    buckets: new Map([[bucketAt, { sent, lost, ...(rttMs === undefined ? {} : { rttMs }) }]]),
  };
}

/** Merges telemetry of two periods, in either order. A result must be in one of them only: buckets are added. */
export function mergeTelemetry(a: UnitTelemetry, b: UnitTelemetry): UnitTelemetry {
  const answer = newer(a.answer, b.answer);
  const clockAnswer = newer(a.clockAnswer, b.clockAnswer);
  const heartbeat = newer(a.heartbeat, b.heartbeat);
  const pinged = newer(a.pinged, b.pinged);
  const buckets = new Map(a.buckets);
  for (const [at, bucket] of b.buckets) buckets.set(at, addBuckets(buckets.get(at), bucket));
  return {
    unit: a.unit,
    ...(answer === undefined ? {} : { answer }),
    ...(clockAnswer === undefined ? {} : { clockAnswer }),
    ...(heartbeat === undefined ? {} : { heartbeat }),
    ...(pinged === undefined ? {} : { pinged }),
    buckets,
  };
}

/** The telemetry without the buckets of days that are not kept. `refused`: the pings of these buckets. */
export function withinDays(
  telemetry: UnitTelemetry,
  { fromMs, untilMs }: KeptTime,
): { readonly telemetry: UnitTelemetry; readonly refused: number } {
  const kept = new Map<number, Bucket>();
  let refused = 0;
  for (const [at, bucket] of telemetry.buckets) {
    if (at >= fromMs && at < untilMs) kept.set(at, bucket);
    else refused += bucket.sent;
  }
  return { telemetry: refused === 0 ? telemetry : { ...telemetry, buckets: kept }, refused };
}

function addBuckets(a: Bucket | undefined, b: Bucket): Bucket {
  if (a === undefined) return b;
  const counts = { sent: a.sent + b.sent, lost: a.lost + b.lost };
  if (a.rttMs === undefined || b.rttMs === undefined) {
    const rttMs = a.rttMs ?? b.rttMs;
    return rttMs === undefined ? counts : { ...counts, rttMs };
  }
  const [first, second] = [a.rttMs, b.rttMs];
  return {
    ...counts,
    rttMs: {
      min: Math.min(first.min, second.min),
      max: Math.max(first.max, second.max),
      sum: first.sum + second.sum,
    },
  };
}

/** The newest proof that the unit is online: an answer to a ping, or a heartbeat. */
export function latestProofOf({
  answer,
  heartbeat,
}: UnitTelemetry): Answer | TelemetryResultOf<'heartbeat'> | undefined {
  if (answer === undefined || heartbeat === undefined) return answer ?? heartbeat;
  return heartbeat.at > answer.at ? heartbeat : answer;
}

export interface ClockReading {
  readonly offsetMs: number;
  /** Milliseconds since 1970. */
  readonly atMs: number;
  /** Whether a ping gave the offset, and not a heartbeat. */
  readonly isFromPing: boolean;
}

/** The clock offset that the telemetry gives. @returns undefined when it gives none */
export function clockReadingOf({ clockAnswer, heartbeat }: UnitTelemetry): ClockReading | undefined {
  if (clockAnswer?.clockOffsetMs !== undefined) {
    const isOutdated =
      heartbeat?.clockOffsetMs !== undefined && heartbeat.at > clockAnswer.at + PING_CLOCK_PRECEDENCE_MS;
    if (!isOutdated) return { offsetMs: clockAnswer.clockOffsetMs, atMs: clockAnswer.at, isFromPing: true };
  }
  if (heartbeat?.clockOffsetMs === undefined) return undefined;
  return { offsetMs: heartbeat.clockOffsetMs, atMs: heartbeat.at, isFromPing: false };
}

function newer<T extends { readonly at: number }>(a: T | undefined, b: T | undefined): T | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.at > a.at ? b : a;
}

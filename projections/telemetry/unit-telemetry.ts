/**
 * What pings and heartbeats tell of a unit, joined. Each part is the newest of its kind, so the order in which results come
 * does not matter, and no part undoes another: a ping that was missed says only that somebody asked.
 */

import type { TelemetryResult, TelemetryResultOf } from '../../platform/liveness/telemetry.ts';

/**
 * Offsets from heartbeats count only when no ping was answered for so long: nobody knows how long a heartbeat was under way,
 * while an answer was made between its question and its arrival.
 */
export const PING_CLOCK_PRECEDENCE_MS = 120_000;

/** The answer to a ping, and when that was sent, milliseconds since 1970. */
export type Answer = NonNullable<TelemetryResultOf<'pings'>['last']>;

/** What came of the pings of some minutes; response times in milliseconds, of those that were answered. */
export interface Bucket {
  readonly sent: number;
  readonly lost: number;
  readonly rttMs?: { readonly min: number; readonly max: number; readonly sum: number };
}

/** What was heard of a unit since it was written last. */
export interface UnitTelemetry {
  readonly unit: string;
  readonly answer?: Answer;
  /** The newest answer that tells the unit's clock: one that took long does not. */
  readonly clockAnswer?: Answer;
  readonly heartbeat?: TelemetryResultOf<'heartbeat'>;
  /** The newest summary of pings, answered or not. */
  readonly pinged?: { readonly at: number; readonly flapping: boolean };
  /** By when each begins. */
  readonly buckets: ReadonlyMap<number, Bucket>;
}

/** Takes a result in. */
export function addResult(known: UnitTelemetry | undefined, result: TelemetryResult): UnitTelemetry {
  const news = newsOf(result);
  return known === undefined ? news : mergeTelemetry(known, news);
}

function newsOf(result: TelemetryResult): UnitTelemetry {
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

/** Joins what was heard at two times, whichever was first. Each result must be in one of them only. */
export function mergeTelemetry(a: UnitTelemetry, b: UnitTelemetry): UnitTelemetry {
  const answer = newer(a.answer, b.answer);
  const clockAnswer = newer(a.clockAnswer, b.clockAnswer);
  const heartbeat = newer(a.heartbeat, b.heartbeat);
  const pinged = newer(a.pinged, b.pinged);
  const buckets = new Map(a.buckets);
  for (const [at, bucket] of b.buckets) buckets.set(at, sum(buckets.get(at), bucket));
  return {
    unit: a.unit,
    ...(answer === undefined ? {} : { answer }),
    ...(clockAnswer === undefined ? {} : { clockAnswer }),
    ...(heartbeat === undefined ? {} : { heartbeat }),
    ...(pinged === undefined ? {} : { pinged }),
    buckets,
  };
}

function sum(a: Bucket | undefined, b: Bucket): Bucket {
  if (a === undefined) return b;
  const counts = { sent: a.sent + b.sent, lost: a.lost + b.lost };
  if (a.rttMs === undefined || b.rttMs === undefined) {
    const rttMs = a.rttMs ?? b.rttMs;
    return rttMs === undefined ? counts : { ...counts, rttMs };
  }
  const [of, and] = [a.rttMs, b.rttMs];
  return {
    ...counts,
    rttMs: { min: Math.min(of.min, and.min), max: Math.max(of.max, and.max), sum: of.sum + and.sum },
  };
}

/** The newest that proves that the unit is there. */
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
  readonly isOfPing: boolean;
}

/** What the news say about the unit's clock. */
export function clockReadingOf({ clockAnswer, heartbeat }: UnitTelemetry): ClockReading | undefined {
  if (clockAnswer?.clockOffsetMs !== undefined) {
    const isLate = heartbeat?.clockOffsetMs !== undefined && heartbeat.at > clockAnswer.at + PING_CLOCK_PRECEDENCE_MS;
    if (!isLate) return { offsetMs: clockAnswer.clockOffsetMs, atMs: clockAnswer.at, isOfPing: true };
  }
  if (heartbeat?.clockOffsetMs === undefined) return undefined;
  return { offsetMs: heartbeat.clockOffsetMs, atMs: heartbeat.at, isOfPing: false };
}

function newer<T extends { readonly at: number }>(a: T | undefined, b: T | undefined): T | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.at > a.at ? b : a;
}
